"""Where partitions end: asked once for all who come while a question waits, and anew for who comes later."""

import asyncio
from collections.abc import Collection

import pytest

from fanout.errors import SourceError, SourceTimeout
from fanout.mqtt import ends as module
from fanout.mqtt.ends import Ends
from fanout.sources.base import Slice


class Log:
    """A log that answers when it is told to."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, tuple[int, ...]]] = []
        self.answers = asyncio.Event()
        self.end = 1
        self.is_away = False
        self.absent: set[int] = set()

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        self.asked.append((topic, tuple(partitions or ())))
        end = self.end
        await self.answers.wait()
        if self.is_away:
            raise SourceTimeout("away")
        return {number: (0, end) for number in partitions or () if number not in self.absent}

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        raise AssertionError("nothing is read")


async def test_a_question_is_shared_by_who_comes_before_it_is_put(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ASKING", 1)
    log = Log()
    ends = Ends(log)
    early = asyncio.create_task(ends.of("t", 0))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert log.asked == [("t", (0,))]
    log.end = 5  # what is written now is not in the answer that is under way
    late = [asyncio.create_task(ends.of("t", 0)) for _ in range(1_000)]
    other = asyncio.create_task(ends.of("t", 1))
    await asyncio.sleep(0)
    log.answers.set()
    assert await early == 1
    assert set(await asyncio.gather(*late)) == {5}
    assert await other == 5
    assert log.asked == [("t", (0,)), ("t", (0,)), ("t", (1,))]


async def test_who_gives_up_takes_the_answer_from_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    ends = Ends(log)
    first, second = (asyncio.create_task(ends.of("t", 0)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    log.answers.set()
    assert await second == 1
    assert len(log.asked) == 1


async def test_all_are_told_that_the_log_does_not_answer() -> None:
    log = Log()
    log.is_away = True
    log.answers.set()
    ends = Ends(log)
    told = await asyncio.gather(*(ends.of("t", 0) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in told] == [SourceTimeout] * 3
    log.is_away = False
    assert await ends.of("t", 0) == 1


async def test_a_partition_that_cannot_be_asked_for_has_no_end() -> None:
    log = Log()
    log.answers.set()
    log.absent = {0}
    with pytest.raises(SourceError, match="cannot be asked for now"):
        await Ends(log).of("t", 0)


async def test_nothing_is_asked_once_it_is_closed() -> None:
    log = Log()
    ends = Ends(log)
    waiting = asyncio.create_task(ends.of("t", 0))
    await asyncio.sleep(0)
    ends.close()
    with pytest.raises(asyncio.CancelledError):
        await waiting
