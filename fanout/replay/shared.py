"""Slices of the log that replays read, shared: what many channels want of a partition is read and sorted once.

- A slice is read when the first one asks for it. Who asks meanwhile waits for the same reading, and who asks within
  `HELD_S` of it is given what was read then. A failure is told to those who wait, and not held.
- One slice ends where the next one begins. So those whose places lie close together are on the same slices after their
  first.
- What is held is below what this node had read itself before: had the log been cut there, the node would find that, and
  slices are held for an entry (`Sorter.entry`). So the end of a partition is never held.
- Its records are sorted by the channels whose messages they may be, a piece at a time with pauses: then a replay costs
  what the records of its own channel cost.
- At most `HELD_BYTES` of values and `HELD_RECORDS` records are held; what was used longest ago is dropped first.
"""

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final, NamedTuple, Protocol

from fanout.asking import Asking
from fanout.delivered import offset_of, timestamp_of, value_bytes_of
from fanout.replay.order import Where
from fanout.sources.base import LIMITS, Source

__all__ = ["PAUSE_S", "PIECE", "Part", "Shared", "Sorter"]

HELD_S: Final = 5.0
HELD_BYTES: Final = 32 << 20
HELD_RECORDS: Final = 64_000  # some 30 MiB besides their values
PIECE: Final = 200  # records: a fifth of a millisecond of the loop
PIECE_BYTES: Final = 256 << 10  # of their values, which a rule may have looked into
PAUSE_S: Final = 0.001


class Sorter(Protocol):
    """What knows partitions and the channels of records; `fanout._core.Engine` answers this."""

    def channels_of(self, records: Sequence[Any]) -> Mapping[str, Sequence[int]]:
        """By channel, the numbers of those that may be messages of it."""

    def entry(self, topic: str, partition: int) -> tuple[int, int, int]:
        """Which entry stands for a partition, by two numbers, and how far it was read. Raises ValueError if none."""


class Part(NamedTuple):
    """What a channel is given of a range of offsets: those records below `next` that may be its messages.

    Of all channels: `first` is the offset of the first record of the slice, which may lie before the range, and
    `last_ms` the time of the last one in the range; None where there is none.
    """

    records: Sequence[Any]
    next: int
    first: int | None
    last_ms: int | None


class _Slice:
    """What is read from `start` on, below `stop`; once it is read, what the log has below `next`."""

    def __init__(self, start: int, stop: int) -> None:
        self.start = start
        self.stop = stop
        self.next = start
        self.bytes = 0
        self.is_read = False
        self.records: Sequence[Any] = ()
        self._offsets: list[int] = []
        self._channels: dict[str, list[int]] = {}

    def covers(self, start: int) -> bool:
        """Whether an offset is in it, or while it is read, may be expected to be."""
        until = self.next if self.is_read else min(self.stop, self.start + LIMITS.slice_records)
        return self.start <= start < until

    def part(self, channel: str, start: int, stop: int) -> Part:
        """What of it lies within a range that begins in it."""
        low, high = bisect_left(self._offsets, start), bisect_left(self._offsets, stop)
        numbers = self._channels.get(channel, [])
        own = [self.records[number] for number in numbers[bisect_left(numbers, low) : bisect_left(numbers, high)]]
        first = self._offsets[0] if self._offsets else None
        last_ms = timestamp_of(self.records[high - 1]) if low < high else None
        return Part(own, min(self.next, stop), first, last_ms)

    async def read(self, where: Where, source: Source, sorter: Sorter) -> None:
        """Reads and sorts it. Raises SourceError."""
        found = await source.read(*where, self.start, self.stop)
        for begin, piece, size in _pieces(found.records):
            self._offsets += map(offset_of, piece)
            self.bytes += size
            for channel, numbers in sorter.channels_of(piece).items():
                self._channels.setdefault(channel, []).extend(begin + number for number in numbers)
            await asyncio.sleep(PAUSE_S)
        self.records, self.next, self.is_read = found.records, found.next, True


def _pieces(records: Sequence[Any]) -> Iterator[tuple[int, Sequence[Any], int]]:
    """Where each piece begins, its records, and the bytes of their values."""
    begin = size = 0
    for at, record in enumerate(records, 1):
        size += value_bytes_of(record)
        if at - begin == PIECE or size >= PIECE_BYTES or at == len(records):
            yield begin, records[begin:at], size
            begin, size = at, 0


_Key = tuple[Where, tuple[int, int]]


class Shared:
    """The slices of one node. Belongs to the event loop."""

    def __init__(self, sorter: Sorter, source: Source) -> None:
        self._sorter = sorter
        self._source = source
        self._asking: Asking[_Slice, None] = Asking(LIMITS.reads)
        self._slices: dict[_Key, list[_Slice]] = {}  # by their starts
        self._held: dict[_Slice, tuple[_Key, asyncio.TimerHandle]] = {}  # that used longest ago first
        self.bytes = 0
        """Of the values that are held."""
        self.records = 0
        """That are held."""

    async def read(self, channel: str, where: Where, start: int, stop: int) -> Part:
        """What the log holds for a channel from `start` on, below `stop`: as far as one slice goes, and one record if
        there is any. `stop` is not above what this node has read. Raises as `Source.read`. May be cancelled.
        """
        while True:
            number, began, reached = self._sorter.entry(*where)
            key = where, (number, began)
            found = self._find(key, start) or self._insert(key, start, stop, reached)
            if not found.is_read:
                await self._asking.answer(found, partial(self._fill, key, found))
                if self._sorter.entry(*where)[:2] != key[1]:
                    continue
            if found.start == start or found.covers(start):
                if found in self._held:
                    self._held[found] = self._held.pop(found)
                return found.part(channel, start, stop)

    def close(self) -> None:
        """Ends what is being read."""
        self._asking.close()

    def _find(self, key: _Key, start: int) -> _Slice | None:
        slices = self._slices.get(key, [])
        before = bisect_right(slices, start, key=attrgetter("start"))
        return slices[before - 1] if before and slices[before - 1].covers(start) else None

    def _insert(self, key: _Key, start: int, stop: int, reached: int) -> _Slice:
        """A slice that is to be read, further than is asked for if others may want that."""
        slices = self._slices.setdefault(key, [])
        after = bisect_right(slices, start, key=attrgetter("start"))
        stop = max(stop, min(start + LIMITS.slice_records, reached))
        new = _Slice(start, min(stop, slices[after].start) if after < len(slices) else stop)
        slices.insert(after, new)
        return new

    async def _fill(self, key: _Key, one: _Slice) -> None:
        try:
            await one.read(key[0], self._source, self._sorter)
        finally:
            if one.next == one.start:  # also where it failed
                self._remove(key, one)
        if one.next == one.start:
            return
        self._held[one] = key, asyncio.get_running_loop().call_later(HELD_S, self._drop, one)
        self.bytes += one.bytes
        self.records += len(one.records)
        while self.bytes > HELD_BYTES or self.records > HELD_RECORDS:
            self._drop(next(iter(self._held)))

    def _drop(self, one: _Slice) -> None:
        """Holds it no more."""
        key, timer = self._held.pop(one)
        timer.cancel()
        self.bytes -= one.bytes
        self.records -= len(one.records)
        self._remove(key, one)

    def _remove(self, key: _Key, one: _Slice) -> None:
        slices = self._slices[key]
        slices.remove(one)
        if not slices:
            del self._slices[key]
