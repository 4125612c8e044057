"""What the log has is asked once for all who want to know, remembered for a moment, and not when it is known better."""

import asyncio
from collections.abc import Collection
from typing import Any

import pytest

from fanout.errors import SourceError
from fanout.replay import bounds, standing
from fanout.replay.bounds import GRAIN_MS, Bounds
from tests.support.sources import eventually
from tests.unit.history.memory_log import TOPIC, MemoryLog


class Log(MemoryLog):
    """Counts what it is asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0
        for number in range(100):
            self.put("c", "x", timestamp=number * GRAIN_MS // 2)

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        self.asked += 1
        await asyncio.sleep(0)
        return await super().bounds(topic, partitions)

    async def since(self, topic: str, timestamp: int, partitions: Collection[int] | None = None) -> dict[int, int]:
        self.asked += 1
        return await super().since(topic, timestamp, partitions)


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def known(log: Log) -> Bounds:
    source: Any = log
    return Bounds(source)


async def test_all_who_ask_at_a_time_and_a_little_later_are_one_question(log: Log, known: Bounds) -> None:
    answers = await asyncio.gather(*(known.earliest(TOPIC, [0, 1]) for _ in range(50)))
    assert answers == [{0: 0, 1: 0}] * 50
    assert await known.earliest(TOPIC, [1, 0]) == {0: 0, 1: 0}
    assert log.asked == 1


async def test_nothing_is_told_of_a_partition_that_cannot_be_asked_for(log: Log, known: Bounds) -> None:
    log.absent = {1}
    for asked in (known.earliest(TOPIC, [0, 1]), known.since(TOPIC, 1, 0), known.now(TOPIC, 1, 0)):
        with pytest.raises(SourceError, match="partition 1 cannot be asked for now"):
            await asked
    log.absent = set()
    assert await known.now(TOPIC, 1, 0) == (0, 0)


async def test_an_end_below_a_place_is_believed_when_it_stands(
    log: Log, known: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(standing, "STANDS_S", 0.05)
    assert await known.now(TOPIC, 0, 100) == (0, 100), "nothing is wrong with this one"
    for place, goal in ((101, None), (50, 101)):
        with pytest.raises(SourceError, match="seems to end at offset 100"):
            await known.now(TOPIC, 0, place, goal)
    await asyncio.sleep(0.1)
    assert await known.now(TOPIC, 0, 101) == (0, 100)
    assert await known.now(TOPIC, 0, 50, 101) == (0, 100)
    with pytest.raises(SourceError, match="seems to end"):
        await known.now(TOPIC, 0, 102)  # of this place nothing was known


async def test_who_finds_that_retention_went_on_tells_all(log: Log, known: Bounds) -> None:
    await known.earliest(TOPIC, [0])
    log.expire(0, 40)
    assert await known.earliest(TOPIC, [0]) == {0: 0}
    assert await known.now(TOPIC, 0, 50) == (40, 100)
    assert await known.earliest(TOPIC, [0]) == {0: 40}


async def test_an_answer_is_not_held_for_long(log: Log, known: Bounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HELD_S", 0.01)
    await known.earliest(TOPIC, [0])
    await eventually(lambda: not len(known))
    await known.earliest(TOPIC, [0])
    assert log.asked == 2


async def test_so_many_answers_are_held(known: Bounds, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "HELD_MAX", 3)
    for number in range(10):
        await known.earliest(TOPIC, [number])
    assert len(known) == 3


async def test_times_close_together_are_one_question_and_nothing_is_passed_over(log: Log, known: Bounds) -> None:
    for timestamp in range(4 * GRAIN_MS, 5 * GRAIN_MS, 1_000):
        at = await known.since(TOPIC, 0, timestamp)
        assert all(record.timestamp < timestamp for record in log.partitions[0][:at])
    assert log.asked == 1


async def test_a_failure_is_held_for_a_moment_and_asked_once(
    log: Log, known: Bounds, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.failure = SourceError("away")
    for _ in range(10):
        with pytest.raises(SourceError, match="away"):
            await known.earliest(TOPIC, [0])
    assert log.asked == 1
    monkeypatch.setattr(bounds, "HELD_S", 0)
    log.failure = None
    assert await known.earliest(TOPIC, [0]) == {0: 0}


class SilentLog(Log):
    """Of some partitions there is no answer."""

    def __init__(self) -> None:
        super().__init__()
        self.silent = set(range(20))
        self.answers = asyncio.Event()
        self.open: set[int] = set()

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        (number,) = partitions or ()
        self.open.add(number)
        try:
            if number in self.silent:
                await self.answers.wait()
            self.asked += 1
            return {number: (0, 100)}
        finally:
            self.open.discard(number)


async def test_partitions_that_do_not_answer_hold_up_only_those_who_ask_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bounds, "ASK_S", 2.0)
    monkeypatch.setattr(bounds, "PATIENCE_S", 0.5)
    monkeypatch.setattr(bounds, "HELD_S", 0.01)
    log: Any = SilentLog()
    known, loop = Bounds(log), asyncio.get_running_loop()

    async def fails(number: int) -> float:
        begun = loop.time()
        with pytest.raises(SourceError, match="does not answer"):
            await known.earliest(TOPIC, [number])
        return loop.time() - begun

    first = asyncio.gather(*(fails(number) for number in log.silent))
    await asyncio.sleep(0.05)
    assert len(log.open) == bounds.ASKING
    await first
    await asyncio.sleep(0.05)
    again = asyncio.gather(*(fails(number) for number in log.silent for _ in range(50)))
    await asyncio.sleep(0.01)
    assert await asyncio.wait_for(known.earliest(TOPIC, [20]), 0.4) == {20: 0}, "a place is free"
    assert max(await again) < bounds.ASK_S
    assert len(log.open) == bounds.ASKING, "however many ask"
    log.answers.set()
    await eventually(lambda: not log.open)
    assert await known.earliest(TOPIC, [0]) == {0: 0}
    known.close()


async def test_so_many_failures_are_remembered(known: Bounds, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "FAILED_MAX", 3)
    log.failure = SourceError("away")
    for number in range(10):
        with pytest.raises(SourceError):
            await known.earliest(TOPIC, [number])
    assert len(known._failed) == 3


async def test_who_is_cancelled_takes_nobody_along(log: Log, known: Bounds) -> None:
    first, second = (asyncio.ensure_future(known.earliest(TOPIC, [0])) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == {0: 0}
    assert log.asked == 1
