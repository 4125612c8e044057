"""What is read on demand: asked for once, waited for, let go when nobody needs it; and who publishes waits in line."""

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
        self.left: list[tuple[str, int]] = []
        self.whole: list[int] = []
        self.used: list[tuple[str, int]] = []
        self.lookups = 0

    def read_partition(self, topic: str, partition: int, *, whole: bool) -> None:
        self.asked.append((topic, partition))
        self.whole += [partition] if whole else []

    def let_go(self, topic: str, partition: int) -> None:
        self.left.append((topic, partition))

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
    made = Interest(log, cast("Any", log), ["needed"], 0)
    yield made
    made.close()


class Publishes:
    """Publishes of one channel, and what became of them."""

    def __init__(self, here: Interest, channel: str = "abc") -> None:
        self._here = here
        self._channel = channel
        self.ended: list[int | str] = []

    def publish(self, number: int) -> None:
        def failed(problem: SourceError) -> None:
            self.ended.append(type(problem).__name__)

        self._here.when_read(self._channel, lambda: self.ended.append(number), failed)


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
    everything = Interest(log, cast("Any", log), [], 0)
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


async def test_what_could_not_be_read_since_the_start_is_waited_for_and_not_asked_for(log: Log) -> None:
    unbegun = {"abc"}
    here = Interest(log, cast("Any", log), [], 0, lambda channel: channel in unbegun)
    publishes = Publishes(here)
    publishes.publish(1)
    waiting = asyncio.ensure_future(here.wait("abc"))
    assert await here.wait("other")
    await asyncio.sleep(0.05)
    assert (publishes.ended, waiting.done()) == ([], False)
    unbegun.clear()
    here.began()
    assert await asyncio.wait_for(waiting, 1)
    await eventually(lambda: publishes.ended == [1])
    assert log.asked == []
    here.close()


@pytest.fixture
async def looking(log: Log, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Interest]:
    """One that lets go soon what nobody needs."""
    monkeypatch.setattr(interest, "LOOK_S", 0.02)
    monkeypatch.setattr(interest, "DEDUP_WINDOW_MS", 200)
    here = Interest(log, cast("Any", log), ["needed"], 100)
    running = asyncio.ensure_future(here.run())
    yield here
    running.cancel()
    here.close()


async def read(here: Interest, *channels: str) -> None:
    for channel in channels:
        here.has(channel)
        here.caught_up("needed", len(channel))
    await asyncio.sleep(0)


async def test_what_nobody_needs_is_let_go_one_at_a_time_and_what_is_in_use_stays(log: Log, looking: Interest) -> None:
    log.used = [("needed", 1)]
    begun = asyncio.get_running_loop().time()
    await read(looking, "a", "bb", "ccc")
    await eventually(lambda: log.left)
    assert asyncio.get_running_loop().time() - begun > 0.2, "not before a repeat would be known all the same"
    assert looking.counts == {"read_on_demand": 3, "catching_up": 0}
    await asyncio.sleep(0.3)
    assert log.left == [("needed", 2)], "the next when this one is gone"
    looking.let_go("needed", 2)
    await eventually(lambda: log.left == [("needed", 2), ("needed", 3)])
    looking.let_go("needed", 3)
    await eventually(lambda: looking.counts == {"read_on_demand": 1, "catching_up": 0})
    assert looking.has("a")


async def test_what_is_needed_while_it_is_let_go_is_asked_for_when_it_is_gone(log: Log, looking: Interest) -> None:
    await read(looking, "bb")
    await eventually(lambda: log.left)
    looking.caught_up("needed", 2)  # of a reading that began anew behind a loss
    publishes = Publishes(looking, "bb")
    publishes.publish(1)
    waiting = asyncio.ensure_future(looking.wait("bb"))
    await asyncio.sleep(0.05)
    assert (log.asked, publishes.ended, waiting.done()) == ([("needed", 2)], [], False)
    looking.let_go("needed", 2)
    await eventually(lambda: log.asked == [("needed", 2)] * 2)
    assert not looking.has("bb")
    looking.caught_up("needed", 2)
    assert await waiting
    await eventually(lambda: publishes.ended == [1])


async def test_what_has_been_added_is_read_whole_until_it_was_looked_at(log: Log, looking: Interest) -> None:
    with looking.counting("needed", b"1", 3):
        pass
    looking.has("bb")
    with looking.counting("needed", b"1", 6):
        pass
    looking.has("dddd")
    log.used = [("needed", 3)]
    looking.has("7777777")  # other nodes know of it already
    await eventually(lambda: ("needed", 3) in log.asked)
    assert log.whole == [4, 7, 3]
    await eventually(lambda: not looking._added)
    looking.has("55555")
    with looking.counting("needed", b"2", 2):
        looking.has("a")
    assert log.whole == [4, 7, 3, 1]


async def test_what_is_being_counted_was_not_looked_at_yet(log: Log, looking: Interest) -> None:
    with looking.counting("needed", b"1", 3):
        pass
    with looking.counting("needed", b"1", 6):
        await asyncio.sleep(10 * interest.LOOK_S)
        looking.has("55555")
    assert log.whole == [5]


async def test_a_publish_that_ends_with_an_error_holds_up_no_other(here: Interest) -> None:
    def fails() -> None:
        raise RuntimeError("not expected")

    here.when_read("abc", fails, lambda problem: None)
    publishes = Publishes(here)
    publishes.publish(1)
    here.caught_up("needed", 3)
    await eventually(lambda: publishes.ended == [1])


async def test_where_channels_lie_is_not_asked_again_until_more_is_read(log: Log, here: Interest) -> None:
    publishes = Publishes(here)
    publishes.publish(1)
    await asyncio.sleep(10 * interest.RETRY_S)
    assert log.lookups <= 2
    here.caught_up("needed", 3)
    await eventually(lambda: publishes.ended == [1])
    assert log.lookups == 3
