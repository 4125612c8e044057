"""Which channels were written to while a client was away, where memory does not reach back so far: read from the log.

The records between where a session stands and where memory begins are given to an engine of their own, which follows
the node's rules and tells which channels they make. At most `RECORDS_MAX` are read for one session, and for one session
at a time; of who was away for longer nothing is found, and the session begins anew. Where the log cannot be read now,
or seems to end below where memory begins, its client is to come back. Belongs to the event loop.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from fanout.errors import SourceError
from fanout.mqtt.ports import Log, Stretch
from fanout.replay.standing import Standing

__all__ = ["RECORDS_MAX", "Begun", "Scratch"]

RECORDS_MAX: Final = 100_000
"""Offsets read for one session: some seconds, in which its client waits for CONNACK."""

NAMES_MAX: Final = 100_000
SLICES: Final = 8  # read before names are taken: with 4 MiB each less than the engine holds


class Scratch(Protocol):
    """An engine that is thrown away; `fanout._core.Engine` answers this."""

    def partition(self, topic: str, topic_id: bytes, partition: int, start: int, /) -> None:
        """See `Engine.partition`."""

    def records(self, batch: list[Any], /) -> None:
        """See `Engine.records`."""

    def names(self, realm: str, prefix: str, after: str, limit: int) -> list[str]:
        """See `Engine.names`."""
        ...

    def close(self) -> None:
        """See `Engine.close`."""


class Begun:
    """See the module's text."""

    def __init__(self, log: Log, scratch: Callable[[], Scratch]) -> None:
        """`scratch` makes engines with the node's rules."""
        self._log = log
        self._scratch = scratch
        self._turn = asyncio.Lock()
        self._short = Standing()

    async def within(self, stretches: Sequence[Stretch], realm: str) -> set[str] | None:
        """The channels of a realm with records in these stretches of the log. None if they are too long, or the log has
        not all of them any more. Raises SourceError.
        """
        if sum(high - low for _, _, low, high in stretches) > RECORDS_MAX:
            return None
        async with self._turn:
            engine = self._scratch()
            try:
                return await self._read(engine, stretches, realm)
            finally:
                engine.close()

    async def _read(self, engine: Scratch, stretches: Sequence[Stretch], realm: str) -> set[str] | None:
        found: set[str] = set()
        slices = 0
        for topic, partition, low, high in stretches:
            bounds = await self._log.bounds(topic, [partition])
            if partition not in bounds:
                raise SourceError(f"topic {topic!r}, partition {partition} cannot be asked for now")
            if bounds[partition][0] > low:  # retention has taken some
                return None
            place = (topic, partition, low)
            engine.partition(topic, bytes(16), partition, low)
            while low < high:
                records, following = await self._log.read(topic, partition, low, high)
                is_cut = following <= low
                if self._short.has_stood(place, is_so=is_cut):
                    return None
                if is_cut:
                    raise SourceError(f"topic {topic!r}, partition {partition} seems to end at offset {low}")
                low = following
                await asyncio.to_thread(engine.records, list(records))
                slices += 1
                if slices % SLICES == 0:
                    found |= set(await self._names(engine, realm))
        return found | set(await self._names(engine, realm))

    async def _names(self, engine: Scratch, realm: str) -> list[str]:
        return await asyncio.to_thread(engine.names, realm, "", "", NAMES_MAX)
