"""A channel's messages out of the log: one stream for each partition, merged by their timestamps.

Rules:

- A stream reads its partition slice by slice, in one direction, and knows how far it has come: its place. What it has
  read and not given counts as not read.
- Within a partition the order is the log's. Between partitions the next message is the oldest (backwards the newest) at
  the front of any; so each has to have been read up to there first.
- What cannot hold the channel, as far as the node knows (`Decoder.blocks`), is passed over unread.
- A repeat (a second record with an id within `fanout._core.DEDUP_WINDOW_MS`) is left out if its first lies in the same
  slice or the one before: with each slice the one before is looked through.
- All streams of a page together read what its budget allows, and one slice more each at most. A slice is the shorter
  the larger the records are, as far as some of them tell, which are read first.
"""

import asyncio
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

from fanout._core import DEDUP_WINDOW_MS
from fanout.delivered import timestamp_of, value_bytes_of
from fanout.sources.base import Source
from fanout.types import Message

__all__ = ["Budget", "Decoder", "Stream", "merge"]

SLICE: Final = 1_000  # offsets; with many partitions less, so that a page comes round to all of them
SLICE_LEAST: Final = 50
SLICE_BYTES: Final = 1 << 20
AT_ONCE: Final = 8  # streams that read at the same time
LOOK: Final = 1_000_000  # offsets that are looked up at once: some 1,000 blocks, 0.05 to 0.4 ms
LOOK_COST: Final = 50  # offsets that could be read in that time


class Decoder(Protocol):
    """What records are to a channel; `fanout._core.Engine` answers this."""

    def decode(self, channel: str, records: Sequence[Any]) -> list[Message | None]:
        """A message for each record, or None."""

    def blocks(self, channel: str, topic: str, partition: int, start: int, stop: int) -> list[tuple[int, int]]:
        """The ranges of offsets there that may hold the channel, in order and apart."""


@dataclass(slots=True)
class Budget:
    """How many offsets a page may still read, how many at once, and how many bytes its messages may still have."""

    left: int
    slice: int
    bytes: int

    @classmethod
    def of(cls, offsets: int, streams: int, size: int) -> "Budget":
        """For so many streams: each of them can be read at least once, with the slice before; `size` in bytes."""
        at_once = max(SLICE_LEAST, min(SLICE, offsets // (2 * streams or 1) - SLICE_LEAST))
        return cls(max(offsets, 2 * SLICE_LEAST * streams), at_once, size)

    def spend(self, message: Message) -> None:
        """Takes a message's bytes."""
        extras = len(orjson.dumps(message.extras)) if message.extras else 0
        self.bytes -= len(message.data or "") + extras


@dataclass(frozen=True, slots=True)
class _Part:
    """One slice: the channel's messages in it, oldest first, and the times of its first and last record."""

    messages: list[Message]
    first_ms: int | None
    last_ms: int | None
    record_bytes: float
    """Of its records' values, on average; 0 if it has none."""


class Stream:
    """The channel's messages of one partition from `place` on, up to `last`; backwards, below it down to `last`.

    `earliest` is the first offset that the log has, `times` the first and last timestamp that are wanted.
    """

    def __init__(
        self,
        source: Source,
        decoder: Decoder,
        channel: str,
        where: tuple[str, int],
        *,
        place: int,
        last: int,
        earliest: int,
        forwards: bool,
        times: tuple[int, int],
    ) -> None:
        self.where = where
        self.earliest = earliest
        self._source = source
        self._decoder = decoder
        self._channel = channel
        self._read_to = place
        self._last = last
        self._forwards = forwards
        self._times = times
        self._ready: deque[Message] = deque()  # at most a slice's
        self._parts: dict[tuple[int, int], _Part] = {}  # the slice read last, for the next
        self._slice = 0  # not known yet
        self._range = (place, place)  # what may hold the channel, around its place
        self.reached = -math.inf

    @property
    def place(self) -> int:
        """Where who goes on from here begins."""
        if not self._ready:
            return self._read_to
        return _offset(self._ready[0]) + (not self._forwards)

    @property
    def is_over(self) -> bool:
        """Whether nothing more comes."""
        return not self._ready and self._is_read

    @property
    def head(self) -> float | None:
        """When the next message comes, as `reached`; None if it has not been read."""
        return self._order(self._ready[0].timestamp) if self._ready else None

    def may_come_before(self, head: float) -> bool:
        """Whether a message of this stream, not read yet, may be in front of one at that time."""
        return not self._ready and not self._is_read and self.reached < head

    def pop(self) -> Message:
        """Gives the next message. There is one: `head` says so."""
        return self._ready.popleft()

    async def read_on(self, budget: Budget) -> None:
        """Reads the next slice, or passes over what cannot hold the channel. Raises SourceError."""
        if not self._found():
            budget.left -= LOOK_COST
            return
        if not self._slice and budget.slice > SLICE_LEAST:
            self._measure(await self._part(*self._next(SLICE_LEAST), budget))
        count = min(budget.slice, self._slice or SLICE_LEAST)
        low, high = self._next(count)
        first = self._first(max(self.earliest, low - count), low)
        before = await self._part(first, low, budget)
        part = await self._part(low, high, budget)
        firsts = {message.id: message.timestamp for message in before.messages}
        start, end = self._times
        fresh = [m for m in part.messages if start <= m.timestamp <= end and not _repeats(m, firsts)]
        self._ready.extend(fresh if self._forwards else reversed(fresh))
        self._read_to = high if self._forwards else low
        self._measure(part)
        far = part.last_ms if self._forwards else part.first_ms
        if far is not None:
            self.reached = max(self.reached, self._order(far))
        self._parts = {(low, high): part} if self._forwards else {(first, low): before}

    def _found(self) -> bool:
        """Goes on to where the channel may be next, as far as one look reaches; whether it may be there."""
        if self._forwards:
            low, high = self._read_to, min(self._last, self._read_to + LOOK)
        else:
            low, high = max(self._last, self._read_to - LOOK), self._read_to
        ranges = self._decoder.blocks(self._channel, *self.where, low, high)
        if not ranges:
            self._read_to = high if self._forwards else low
            return False
        self._range = low, high = ranges[0 if self._forwards else -1]
        self._read_to = low if self._forwards else high
        return True

    def _first(self, low: int, high: int) -> int:
        """The first offset of these that may hold the channel; the one behind them if none does."""
        ranges = self._decoder.blocks(self._channel, *self.where, low, high)
        return ranges[0][0] if ranges else high

    def _next(self, count: int) -> tuple[int, int]:
        """The range of so many offsets that is to be read next."""
        low, high = self._range
        if self._forwards:
            return self._read_to, min(high, self._read_to + count)
        return max(low, self._read_to - count), self._read_to

    def _measure(self, part: _Part) -> None:
        """Chooses the next slice's length by the size of what was read."""
        self._slice = max(SLICE_LEAST, min(SLICE, int(SLICE_BYTES / max(part.record_bytes, 1))))

    @property
    def _is_read(self) -> bool:
        return self._read_to >= self._last if self._forwards else self._read_to <= self._last

    def _order(self, timestamp: int) -> int:
        return timestamp if self._forwards else -timestamp

    async def _part(self, low: int, high: int, budget: Budget) -> _Part:
        if known := self._parts.get((low, high)):
            return known
        budget.left -= max(0, high - low)
        messages: list[Message] = []
        times: list[int] = []
        count = size = 0
        while low < high:
            records, following = await self._source.read(*self.where, low, high)
            if records:
                count += len(records)
                size += sum(map(value_bytes_of, records))
                times += timestamp_of(records[0]), timestamp_of(records[-1])
                messages += filter(None, self._decoder.decode(self._channel, records))
            if following <= low:  # the log has been cut here since
                break
            low = following
        return _Part(messages, times[0] if times else None, times[-1] if times else None, size / count if count else 0)


async def merge(streams: Sequence[Stream], most: int, budget: Budget) -> tuple[list[Message], bool]:
    """The next messages, at most so many; and whether more may come. Raises SourceError.

    It may be fewer, and none, when the budget is used up; the last one may be larger than what is left of its bytes.
    """
    found: list[Message] = []
    while True:
        heads = [stream.head for stream in streams]
        first = min((head for head in heads if head is not None), default=math.inf)
        behind = sorted((s for s in streams if s.may_come_before(first)), key=lambda stream: stream.reached)
        if behind:
            if budget.left <= 0:
                return found, True
            await asyncio.gather(*(stream.read_on(budget) for stream in behind[:AT_ONCE]))
        elif first == math.inf:
            return found, False
        elif len(found) == most or budget.bytes <= 0:
            return found, True
        else:
            found.append(streams[heads.index(first)].pop())
            budget.spend(found[-1])


def _repeats(message: Message, firsts: dict[str, int]) -> bool:
    first = firsts.get(message.id)
    return first is not None and message.timestamp - first <= DEDUP_WINDOW_MS


def _offset(message: Message) -> int:
    return int(message.serial.partition("-")[0])
