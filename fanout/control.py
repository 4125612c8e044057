"""What nodes tell each other through the log: facts by key, of which the newest of each key counts.

A fact is a record of `fanout.control`: its key names it, up to the first colon its kind (`node:<id>`), its value is a
JSON object; without a value the fact is taken back. The topic is compacted and read whole, so every node learns what
holds, in the log's order, before it is ready. A record that is no fact is skipped: other programs may write there.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from fanout.errors import SourceError
from fanout.sources.base import Appended, NewRecord, Source

__all__ = ["Control", "Fact"]

log = logging.getLogger(__name__)

Fact = dict[str, Any] | None
"""A fact's value; None: it does not hold any more."""


class Control:
    """The facts of one log. Belongs to the event loop but for `taken`; who listens does so before the start."""

    def __init__(self, source: Source, topic: str) -> None:
        self._source = source
        self._topic = topic
        self._loop = asyncio.get_running_loop()
        self._listeners: dict[str, Callable[[str, Fact], None]] = {}

    def listen(self, kind: str, take: Callable[[str, Fact], None]) -> None:
        """Calls `take`, on the loop, for each fact of that kind: with its key behind the colon, and its value."""
        self._listeners[kind] = take

    def tell(
        self, kind: str, name: str, value: Fact, done: Callable[[SourceError | None], None] = lambda problem: None
    ) -> None:
        """Writes a fact. `done` is called once, on the loop, perhaps before this returns: with None when the log has
        it, and else with the failure. This node hears of its own facts like every other.
        """
        text = None if value is None else orjson.dumps(value)
        record = NewRecord(self._topic, f"{kind}:{name}".encode(), text, ())

        def appended(result: list[Appended] | SourceError) -> None:
            done(result if isinstance(result, SourceError) else None)

        try:
            self._source.append([record], appended)
        except SourceError as problem:
            done(problem)

    def taken(self, facts: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        """Takes keys and values as read, on the source's thread."""
        self._loop.call_soon_threadsafe(self._dispatch, facts)

    def _dispatch(self, facts: Sequence[tuple[bytes | None, bytes | None]]) -> None:
        for key, value in facts:
            try:
                kind, _, name = (key or b"").decode().partition(":")
                fact = None if value is None else orjson.loads(value)
            except ValueError:  # neither UTF-8 nor JSON
                continue
            take = self._listeners.get(kind)
            if take is None or not isinstance(fact, dict | None):
                continue
            try:
                take(name, fact)
            except Exception:
                log.exception("a fact of kind %r was not understood", kind)
