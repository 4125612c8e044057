"""Places of which the records that a node has read do not tell whether the log was cut there since: the log is asked.

A place was made when some leader epoch was the newest below it. If the newest record that the log has below it is of
that epoch or an older one, nothing was cut off. Else what lay below is gone from where the first newer epoch begins,
which is looked for. What is found is remembered, and so tells of others' places too. Where the log has no record below,
or none within `BACK` offsets, the doubt stays.
"""

import asyncio
from typing import Any, Final, Protocol

from fanout.delivered import leader_epoch_of, offset_of
from fanout.replay.bounds import Bounds
from fanout.replay.order import Where
from fanout.sources.base import Source

__all__ = ["Doubts", "Epochs"]

BACK: Final = 1_000  # transaction markers and what compaction took are rarely more in a row; at most one slice


class Epochs(Protocol):
    """What knows the epochs; `fanout._core.Engine` answers this."""

    def doubts(self, channel: str, position: str) -> list[tuple[str, int, int, int]]:
        """Topic, partition, offset and epoch of each doubtful place."""

    def saw(self, topic: str, partition: int, epoch: int, first: int, until: int) -> None:
        """A record of that epoch lies at `first`, none of a newer one below `until`."""


class Doubts:
    """The doubts of one node. Belongs to the event loop. Its tables have the partitions that are read."""

    def __init__(self, epochs: Epochs, source: Source, bounds: Bounds) -> None:
        self._epochs = epochs
        self._source = source
        self._bounds = bounds
        self._turns: dict[Where, asyncio.Lock] = {}
        self._waiting: dict[Where, list[tuple[int, int]]] = {}  # offset and epoch

    async def settle(self, channel: str, position: str) -> None:
        """Settles the doubts about a position, as far as the log can. Raises SourceError. May be cancelled.

        Of each partition one is settled at a time, the highest place first: that mostly tells of those below.
        """

        def is_doubted(where: Where) -> bool:
            return any((topic, partition) == where for topic, partition, *_ in self._epochs.doubts(channel, position))

        for topic, partition, offset, epoch in self._epochs.doubts(channel, position):
            where, waiting = (topic, partition), self._waiting.setdefault((topic, partition), [])
            waiting.append((offset, epoch))
            try:
                async with self._turns.setdefault(where, asyncio.Lock()):
                    highest = max(waiting)
                    if is_doubted(where):
                        await self._settle(*where, *highest)
                    if highest != (offset, epoch) and is_doubted(where):
                        await self._settle(*where, offset, epoch)
            finally:
                waiting.remove((offset, epoch))

    async def _settle(self, topic: str, partition: int, offset: int, epoch: int) -> None:
        source = self._source
        earliest = (await self._bounds.earliest(topic, [partition]))[partition]
        last = await _last(source, topic, partition, max(earliest, offset - 1), offset)
        if last is None:
            last = await _last(source, topic, partition, max(earliest, offset - BACK), offset - 1)
        if last is None:
            await self._bounds.now(topic, partition, offset)  # it may only seem so
            return
        if leader_epoch_of(last) > epoch:
            last = await _first_newer(source, topic, partition, epoch, (earliest, last))
            offset = offset_of(last) + 1
        self._epochs.saw(topic, partition, leader_epoch_of(last), offset_of(last), offset)


async def _last(source: Source, topic: str, partition: int, start: int, stop: int) -> Any | None:
    """The last record of a range."""
    found = None
    while start < stop:
        part = await source.read(topic, partition, start, stop)
        found = part.records[-1] if part.records else found
        if part.next <= start:
            break
        start = part.next
    return found


async def _first(source: Source, topic: str, partition: int, start: int, stop: int) -> Any | None:
    """The first record of a range."""
    while start < stop:
        part = await source.read(topic, partition, start, stop)
        if part.records:
            return part.records[0]
        if part.next <= start:
            break
        start = part.next
    return None


async def _first_newer(source: Source, topic: str, partition: int, epoch: int, bounds: tuple[int, Any]) -> Any:
    """The first record of a newer epoch from an offset on; one is known. Epochs rise with the offsets."""
    low, newer = bounds
    high = offset_of(newer)
    while low < high:
        middle = (low + high) // 2
        record = await _first(source, topic, partition, middle, high)
        if record is not None and leader_epoch_of(record) <= epoch:
            low = offset_of(record) + 1
        else:
            newer = newer if record is None else record  # a message without a value is false
            high = middle
    return newer
