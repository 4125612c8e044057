"""What becomes of positions where the log was cut before the node that is asked began to read."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout._core import GAP, RESUMED
from fanout.replay.bounds import Bounds
from fanout.replay.doubts import Doubts
from tests.unit.history.memory_log import TOPIC, LogNode, MemoryLog
from tests.unit.replay.bed import Bed


def written(*epochs: int, gap: int = 0) -> MemoryLog:
    """A message of `c` in each of these epochs."""
    log = MemoryLog()
    for number, epoch in enumerate(epochs):
        log.put("c", f"{number}", epoch=epoch, gap=gap)
    return log


def position(log: MemoryLog) -> str:
    """Where a node stands that has read all of a log."""
    node = LogNode(log, starts={0: 0})
    try:
        node.read_on()
        return node.engine.position("c")
    finally:
        node.engine.close()


@pytest.fixture
def beds() -> Iterator[list[Bed]]:
    beds: list[Bed] = []
    yield beds
    for bed in beds:
        bed.close()


async def resumed(log: MemoryLog, start: int, serial: str, beds: list[Bed]) -> tuple[int, list[str]]:
    """What a client is told by a node that reads from `start` on, and given."""
    bed = Bed(log, start=start)
    beds.append(bed)
    client = bed.client()
    client.resume(serial)
    last = f"{log.ends[0] - 1}"
    await bed.until(lambda: client.values[-1:] == [last])
    return client.answer.outcome, client.values


async def test_a_log_that_was_cut_below_what_the_node_has_read_is_a_gap_from_the_cut(beds: list[Bed]) -> None:
    serial = position(written(1, 1, 1, 1, 1, 1))
    log = written(1, 1, 1, 2, 2, 2, 2, 2, 3, 3)
    assert await resumed(log, 8, serial, beds) == (GAP, [str(number) for number in range(3, 10)])


async def test_a_log_that_was_not_cut_is_resumed_from_whoever_leads_it_now(beds: list[Bed]) -> None:
    serial = position(written(1, 1, 1, 1, 1, 1))
    log = written(1, 1, 1, 1, 1, 1, 4, 4, 5, 5)
    for start in (6, 8):
        assert await resumed(log, start, serial, beds) == (RESUMED, ["6", "7", "8", "9"])


async def test_where_no_record_tells_a_gap_is_told(beds: list[Bed]) -> None:
    serial = position(written(1, 1, 1, 1, 1, 1))
    log = written(1, 1, 1, 1, 1, 1, 4, 4, 5, 5)
    log.expire(0, 6)
    assert (await resumed(log, 8, serial, beds))[0] == GAP


async def test_an_end_of_the_log_that_is_too_low_settles_nothing(beds: list[Bed]) -> None:
    serial = position(written(1, 1, 1, 1, 1, 1))
    log = written(1, 1, 1, 1, 1, 1, 4, 4, 5, 5)
    bed = Bed(log, start=8)
    beds.append(bed)
    log.partitions[0], all_of_it = log.partitions[0][:0], log.partitions[0]
    log.ends[0] = 4
    early, late = bed.client(), bed.client()
    early.resume(serial)
    await bed.until(lambda: early.answer is not ...)
    assert early.answer.code == 50003
    log.partitions[0], log.ends[0] = all_of_it, 10
    late.resume(serial)
    await bed.until(lambda: late.values[-1:] == ["9"])
    assert (late.answer.outcome, late.values) == (RESUMED, ["6", "7", "8", "9"])


class Known:
    """One doubtful place, and what was found."""

    def __init__(self, offset: int, epoch: int) -> None:
        self._doubt = (TOPIC, 0, offset, epoch)
        self.seen: list[tuple[int, int, int]] = []

    def doubts(self, channel: str, position: str) -> list[tuple[str, int, int, int]]:
        return [self._doubt]

    def saw(self, topic: str, partition: int, epoch: int, first: int, until: int) -> None:
        self.seen.append((epoch, first, until))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_first_record_of_a_newer_epoch_is_found_wherever_it_lies(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 8), min_size=1, max_size=6))
    log = MemoryLog()
    for epoch, count in enumerate(lengths):
        for _ in range(count):
            log.put("c", "x", epoch=epoch, gap=data.draw(st.sampled_from([0, 0, 1, 5])))
    records = log.partitions.get(0, [])
    end = log.ends.get(0, 0)
    known = Known(data.draw(st.integers(0, end)), data.draw(st.integers(0, len(lengths))))
    _, _, offset, epoch = known.doubts("", "")[0]
    below = [record for record in records if record.offset < offset]
    source: Any = log

    async def settle() -> None:
        await Doubts(known, source, Bounds(source)).settle("c", "")

    asyncio.run(settle())
    newer = [record for record in below if record.leader_epoch > epoch]
    if not below:
        assert known.seen == []
    elif newer:
        assert known.seen == [(newer[0].leader_epoch, newer[0].offset, newer[0].offset + 1)]
    else:
        assert known.seen == [(below[-1].leader_epoch, below[-1].offset, offset)]
