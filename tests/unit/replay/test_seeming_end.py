"""A log that seems to end below a client's place: nobody is told that it lost anything before that has stood."""

import asyncio
from collections.abc import Callable, Collection, Iterator

import pytest

from fanout.replay import reading, standing
from fanout.sources.base import Slice
from tests.unit.history.memory_log import MemoryLog
from tests.unit.replay.bed import Bed

Make = Callable[[MemoryLog], Bed]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Bed] = []

    def bed(log: MemoryLog) -> Bed:
        made.append(Bed(log))
        return made[-1]

    yield bed
    for one in made:
        one.close()


def filled(count: int) -> MemoryLog:
    log = MemoryLog()
    for number in range(count):
        log.put("c", f"{number}")
        log.put("other", "x")
    return log


async def test_an_end_of_the_log_below_somebodys_place_is_not_believed_at_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker that has slept tells the end that it knew, and then knows better."""
    monkeypatch.setattr(standing, "STANDS_S", 0.05)
    bed = make(filled(10))
    end = bed.log.ends[0]
    ahead = bed.resumed(end + 1)
    await bed.until(lambda: ahead.answer is not ...)
    assert ahead.answer.code == 50003
    bed.log.put("c", "acknowledged before")
    again = bed.resumed(end + 1)
    await bed.until(lambda: again.answer is not ...)
    assert again.answer.code == 50003, "the log has got there, and this node has not"
    bed.log.cut(0, end)
    for told in (50003, None):
        last = bed.resumed(end + 1)
        await bed.until(lambda last=last: last.answer is not ...)  # type: ignore[misc]
        assert getattr(last.answer, "code", None) == told
        await asyncio.sleep(0.1)
    ahead, other = bed.resumed(end + 2), bed.resumed(end - 2)
    await bed.until(lambda: ahead.answer is not ... and other.values)
    assert (ahead.answer.code, other.values) == (50003, ["9"]), "who has come with it is not held up"


async def test_nor_is_it_while_a_replay_is_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RETRY_S", 0.01)
    bed = make(filled(2_000))
    read, bounds, told = bed.log.read, bed.log.bounds, list[int]()

    async def old_read(topic: str, partition: int, start: int, stop: int) -> Slice:
        if len(told) < 10 and start >= 1_000:
            return Slice([], start)
        return await read(topic, partition, start, stop)

    async def old_bounds(topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        if len(told) < 10:
            told.append(1)
            return {0: (0, 1_000)}
        return await bounds(topic, partitions)

    monkeypatch.setattr(bed.log, "read", old_read)
    monkeypatch.setattr(bed.log, "bounds", old_bounds)
    client = bed.resumed(0)
    await bed.until(lambda: len(client.values) == 2_000)
    assert ([int(value) for value in client.values], client.is_left, len(told)) == (list(range(2_000)), False, 10)


async def test_a_log_that_ends_below_for_good_ends_a_replay(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "RETRY_S", 0.01)
    monkeypatch.setattr(standing, "STANDS_S", 0.05)
    bed = make(filled(2_000))
    read = bed.log.read

    async def cut(topic: str, partition: int, start: int, stop: int) -> Slice:
        if start >= 1_000:
            bed.log.cut(0, 1_000)
            return Slice([], start)
        return await read(topic, partition, start, stop)

    monkeypatch.setattr(bed.log, "read", cut)
    client = bed.resumed(0)
    await bed.until(lambda: client.is_left)
    assert [int(value) for value in client.values] == list(range(500))


async def test_who_is_ahead_of_the_node_alone_is_to_come_back(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "STANDS_S", 0.0)
    bed = make(filled(10))
    bed.log.put("c", "not read yet")
    end = bed.log.ends[0]
    behind, beyond = bed.resumed(end), bed.resumed(end + 1)
    await bed.until(lambda: behind.answer is not ... and beyond.answer is not ...)
    assert (behind.answer.code, behind.answer.status) == (50003, 500)
    assert beyond.answer is None, "the log has not got there either"
    bed.node.read_on()
    again = bed.resumed(end)
    bed.log.put("c", "live")
    bed.node.read_on()
    await bed.begun(again)
    assert again.values == ["live"]
