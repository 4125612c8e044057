"""What the log says that subscribers must be given: each channel's messages, by the records alone.

Rules:

- Nothing of the engine is used: records are routed by functions of the caller's, and told apart by their ids here, so
  that a fault of the engine is not repeated by its judge.
- The second record with an id in a channel, up to the de-duplication window after the first by their timestamps, is a
  repeat and nobody is given it. Past the window the id is a new message's.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fanout.audit.views import Received
from fanout.types import Record

__all__ = ["Entry", "Expected", "Route", "by_channel", "expect", "message_of"]

DEDUP_WINDOW_MS: Final = 120_000  # docs/protocol.md, "Once"

Route = Callable[[Record], str | None]
"""The channel of a record; None: it is nobody's."""


class Entry(NamedTuple):
    """One message that a channel's subscribers must be given."""

    message: Received
    record: Record

    @property
    def partition(self) -> tuple[str, int]:
        """Topic and partition: only within it is there an order."""
        return self.record.topic, self.record.partition


@dataclass(slots=True)
class Expected:
    """The messages of each channel in the log's order, and the records that repeat an earlier one's id."""

    channels: dict[str, list[Entry]] = field(default_factory=dict)
    repeated: list[Record] = field(default_factory=list)

    def texts(self, channel: str) -> list[str]:
        """The payloads of a channel's messages."""
        return [entry.message.text for entry in self.channels.get(channel, ())]


def expect(records: Iterable[Record], routes: Mapping[str, Route]) -> Expected:
    """What follows from the records, which come in the order of each partition; `routes` has a function by topic."""
    expected = Expected()
    firsts: dict[tuple[str, str], int] = {}
    for record in records:
        channel = routes[record.topic](record)
        if channel is None:
            continue
        message = message_of(record)
        first = firsts.get((channel, message.id))
        if first is not None and record.timestamp - first <= DEDUP_WINDOW_MS:
            expected.repeated.append(record)
            continue
        firsts[channel, message.id] = record.timestamp
        expected.channels.setdefault(channel, []).append(Entry(message, record))
    return expected


def by_channel(prefix: str) -> Route:
    """Routes what clients publish: to the channel that is the record's key, or that a header names, if it begins so."""

    def route(record: Record) -> str | None:
        named = dict(record.headers or ()).get("fanout.channel")
        channel = (named or record.key or b"").decode(errors="replace")
        return channel if channel.startswith(prefix) else None

    return route


def message_of(record: Record) -> Received:
    """The message that a record is, by its headers."""
    headers = dict(record.headers or ())
    given = headers.get("fanout.id")
    message_id = given.decode() if given is not None else f"{record.topic}:{record.partition}:{record.offset}"
    value = record.value or b""
    try:
        return Received(message_id, value.hex() if headers.get("fanout.type") == b"binary" else value.decode())
    except UnicodeDecodeError:
        return Received(message_id, value.hex())
