"""What is read on demand: asked for once, waited for, and who publishes waits in line."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from fanout import interest
from fanout.errors import SourceBusy, SourceError, SourceTimeout
from fanout.interest import Interest
from tests.support.sources import eventually


class Log:
    """Knows where channels lie, and is asked to read there."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.used: list[tuple[str, int]] = []
        self.lookups = 0

    def read_partition(self, topic: str, partition: int) -> None:
        self.asked.append((topic, partition))

    def partitions_of(self, channel: str, /) -> list[tuple[str, int]]:
        self.lookups += 1
        return [("needed", len(channel)), ("all", 0)]

    def needed(self) -> list[tuple[str, int]]:
        return self.used


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
async def here(log: Log) -> AsyncIterator[Interest]:
    made = Interest(log, cast("Any", log), ["needed"])
    yield made
    made.close()


class Publishes:
    """Publishes of one channel, and what became of them."""

    def __init__(self, here: Interest) -> None:
        self._here = here
        self.ended: list[int | str] = []

    def publish(self, number: int) -> None:
        def failed(problem: SourceError) -> None:
            self.ended.append(type(problem).__name__)

        self._here.when_read("abc", lambda: self.ended.append(number), failed)


async def test_what_is_needed_is_asked_for_once_and_had_when_it_is_caught_up(log: Log, here: Interest) -> None:
    assert not here.has("abc")
    assert not here.has("xyz")
    assert log.asked == [("needed", 3)]
    assert here.counts == {"read_on_demand": 1, "catching_up": 1}
    waiting = asyncio.ensure_future(here.wait("abc"))
    here.caught_up("needed", 3)
    assert await waiting
    assert here.has("xyz")
    assert here.counts == {"read_on_demand": 1, "catching_up": 0}


async def test_nothing_is_waited_for_where_all_is_read(log: Log) -> None:
    everything = Interest(log, cast("Any", log), [])
    assert everything.has("abc")
    await everything.run()
    assert log.asked == []


async def test_who_waits_for_what_does_not_come_is_told(
    here: Interest, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interest, "WAIT_S", 0.05)
    assert not await here.wait("abc")
    publishes = Publishes(here)
    publishes.publish(1)
    await asyncio.sleep(0.2)
    assert publishes.ended == [SourceTimeout.__name__]


async def test_publishes_wait_and_go_in_their_order(here: Interest) -> None:
    publishes = Publishes(here)
    for number in range(3):
        publishes.publish(number)
    assert publishes.ended == []
    here.caught_up("needed", 3)
    await asyncio.sleep(0)
    publishes.publish(3)  # the partition is read, but others were first
    assert publishes.ended == []
    async with asyncio.timeout(5):
        while len(publishes.ended) < 4:  # noqa: ASYNC110  a callback tells
            await asyncio.sleep(0.01)
    assert publishes.ended == [0, 1, 2, 3]
    publishes.publish(4)
    assert publishes.ended[-1] == 4


async def test_so_many_publishes_wait_and_no_more(here: Interest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interest, "WAITING_MAX", 2)
    publishes = Publishes(here)
    for number in range(3):
        publishes.publish(number)
    assert publishes.ended == [SourceBusy.__name__]


async def test_what_channels_in_use_need_later_is_asked_for_too(
    log: Log, here: Interest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interest, "LOOK_S", 0.01)
    log.used = [("needed", 7), ("all", 1)]
    running = asyncio.ensure_future(here.run())
    async with asyncio.timeout(5):
        while not log.asked:  # noqa: ASYNC110  another thread is asked meanwhile
            await asyncio.sleep(0.01)
    running.cancel()
    assert log.asked == [("needed", 7)]


async def test_where_channels_lie_is_not_asked_again_until_more_is_read(log: Log, here: Interest) -> None:
    publishes = Publishes(here)
    publishes.publish(1)
    await asyncio.sleep(10 * interest.RETRY_S)
    assert log.lookups <= 2
    here.caught_up("needed", 3)
    await eventually(lambda: publishes.ended == [1])
    assert log.lookups == 3
