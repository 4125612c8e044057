"""What many replays want of a partition is read once, held within bounds, and never served when it may be wrong."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from fanout.errors import SourceError
from fanout.replay import shared
from fanout.replay.shared import Part, Shared
from fanout.sources.base import LIMITS, Slice
from tests.support.sources import eventually
from tests.unit.history.memory_log import TOPIC, MemoryLog

WHERE = (TOPIC, 0)
CHANNELS = 3


class Sorter:
    """Knows the channels of records by their keys."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.number = 0
        self.sorted = 0

    def channels_of(self, records: Sequence[Any]) -> dict[str, list[int]]:
        self.sorted += len(records)
        found: dict[str, list[int]] = {}
        for number, record in enumerate(records):
            found.setdefault(record.key.decode(), []).append(number)
        return found

    def entry(self, topic: str, partition: int) -> tuple[int, int, int]:
        return self.number, 0, self._log.ends[partition]


class Bed:
    """A log of records of some channels in turn, with values of `size` bytes."""

    def __init__(self, count: int, size: int = 10) -> None:
        self.log = MemoryLog()
        for number in range(count):
            self.log.put(f"c{number % CHANNELS}", f"{number}".ljust(size, "."))
        self.sorter = Sorter(self.log)
        source: Any = self.log
        self.shared = Shared(self.sorter, source)

    async def read(self, channel: int, start: int, stop: int) -> Part:
        return await self.shared.read(f"c{channel}", WHERE, start, stop)

    async def read_all(self, channel: int, start: int, stop: int) -> list[int]:
        """The numbers of all records of a channel in a range."""
        seen: list[int] = []
        while start < stop:
            part = await self.read(channel, start, stop)
            seen += [record.offset for record in part.records]
            assert part.next > start
            start = part.next
        return seen


def own(channel: int, start: int, stop: int) -> list[int]:
    return [number for number in range(start, stop) if number % CHANNELS == channel]


async def test_all_channels_are_one_reading() -> None:
    bed = Bed(5_000)
    starts = [7, 100, 0, 350, 20, 101]
    seen = await asyncio.gather(*(bed.read_all(n % CHANNELS, start, 4_900) for n, start in enumerate(starts)))
    assert seen == [own(n % CHANNELS, start, 4_900) for n, start in enumerate(starts)]
    assert bed.log.reads <= 5 + len(starts)
    assert bed.sorter.sorted <= 5_000


async def test_each_is_told_what_lies_in_its_range_alone() -> None:
    bed = Bed(100)
    assert (await bed.read(0, 10, 40)).next == 40
    part = await bed.read(1, 20, 25)
    assert bed.log.reads == 1, "further than was asked for"
    assert [record.offset for record in part.records] == own(1, 20, 25)
    assert (part.next, part.first, part.last_ms) == (25, 10, 1_000_024)


async def test_where_nothing_is_left_is_looked_at_again_each_time() -> None:
    bed = Bed(10)
    bed.log.cut(0, 4)
    bed.log.ends[0] = 10  # of what was there nothing can be read now
    first = await bed.read(0, 0, 10)
    assert (first.next, len(first.records)) == (10, 2)
    read = bed.log.read

    async def nothing(topic: str, partition: int, start: int, stop: int) -> Slice:
        bed.log.reads += 1
        return Slice([], start)

    bed.log.read = nothing  # type: ignore[method-assign]
    bed.log.ends[0] = 20
    for reads in (2, 3):
        assert (await bed.read(0, 10, 20)) == Part([], 10, None, None)
        assert bed.log.reads == reads
    bed.log.read = read  # type: ignore[method-assign]
    bed.log.put("c0", "late")
    assert [record.offset for record in (await bed.read(0, 10, 21)).records] == [20]


async def test_nothing_is_held_that_the_node_has_not_read() -> None:
    bed = Bed(10)
    bed.log.put("c0", "x")
    bed.log.ends[0] = 10  # as far as the node knows
    await bed.read(0, 0, 5)
    bed.log.ends[0] = 11
    bed.log.partitions[0][10] = bed.log.partitions[0][10]._replace(value=b"after the cut")
    (record,) = (await bed.read(0, 10, 11)).records
    assert record.value == b"after the cut"


async def test_another_entry_is_served_nothing_of_the_former() -> None:
    bed = Bed(10)
    await bed.read(0, 0, 10)
    bed.sorter.number = 1
    bed.log.partitions[0][0] = bed.log.partitions[0][0]._replace(value=b"of another topic")
    assert (await bed.read(0, 0, 10)).records[0].value == b"of another topic"


async def test_an_entry_that_ends_while_its_slice_is_read_is_read_again() -> None:
    bed = Bed(10)
    reading = asyncio.ensure_future(bed.read(0, 0, 10))
    await asyncio.sleep(0)
    bed.sorter.number = 1
    assert [record.offset for record in (await reading).records] == own(0, 0, 10)
    assert bed.log.reads == 2


async def test_who_is_cancelled_takes_nobody_along() -> None:
    bed = Bed(100)
    first, second = (asyncio.ensure_future(bed.read(n, 0, 100)) for n in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert [record.offset for record in (await second).records] == own(1, 0, 100)
    assert first.cancelled()
    assert bed.log.reads == 1


async def test_a_failure_is_told_to_those_who_wait_and_not_held() -> None:
    bed = Bed(100)
    bed.log.failure = SourceError("away")
    waiting = [asyncio.ensure_future(bed.read(n, 0, 100)) for n in range(3)]
    assert [str(problem) for problem in await asyncio.gather(*waiting, return_exceptions=True)] == ["away"] * 3
    bed.log.failure = None
    assert (await bed.read(0, 0, 100)).next == 100


async def test_so_many_bytes_are_held_and_those_that_are_used_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "HELD_BYTES", 2_500_000)
    bed = Bed(6_000, size=1_000)
    for start in range(0, 6_000, 1_000):
        await bed.read(0, 0, 1_000)
        await bed.read(0, start, start + 1_000)
        assert bed.shared.bytes <= 2_500_000
    assert (bed.log.reads, bed.shared.records) == (6, 2_000)
    await bed.read(0, 1_000, 2_000)
    assert bed.log.reads == 7, "it was dropped"


async def test_so_many_records_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "HELD_RECORDS", 1_500)
    bed = Bed(3_000)
    await bed.read_all(0, 0, 3_000)
    assert bed.shared.records == LIMITS.slice_records


async def test_nothing_is_held_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared, "HELD_S", 0.01)
    bed = Bed(1_000)
    await bed.read(0, 0, 1_000)
    assert bed.shared.records == 1_000
    await eventually(lambda: not bed.shared.records)
    await bed.read(0, 0, 1_000)
    assert bed.log.reads == 2


async def test_it_ends_with_what_is_being_read() -> None:
    bed = Bed(10)
    waiting = asyncio.ensure_future(bed.read(0, 0, 10))
    await asyncio.sleep(0)
    bed.shared.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
