"""Questions that are asked once for all who come meanwhile."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial

import pytest

from fanout.asking import Asking
from fanout.errors import SourceTimeout


class Log:
    """Answers when it is told to, with how often it has been asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.under_way = self.most = 0
        self.answers = asyncio.Event()
        self.failure: Exception | None = None

    def ask(self, question: str) -> Callable[[], Awaitable[int]]:
        return partial(self._ask, question)

    async def _ask(self, question: str) -> int:
        self.asked.append(question)
        count = len(self.asked)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await self.answers.wait()
        finally:
            self.under_way -= 1
        if self.failure is not None:
            raise self.failure
        return count


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


@pytest.mark.parametrize("afresh", [False, True])
async def test_who_comes_while_it_is_asked_shares_it_unless_all_that_is_there_has_to_be_told(afresh: bool) -> None:
    log, asking = Log(), Asking[str, int](4, afresh=afresh)
    first = asyncio.create_task(asking.answer("a", log.ask("a")))
    await turns()
    later = [asyncio.create_task(asking.answer("a", log.ask("a"))) for _ in range(100)]
    await turns()
    log.answers.set()
    assert await first == 1
    assert set(await asyncio.gather(*later)) == {2 if afresh else 1}
    assert await asking.answer("a", log.ask("a")) == len(log.asked), "what is over is asked anew"


async def test_so_many_are_asked_at_a_time_and_those_that_wait_are_shared() -> None:
    log, asking = Log(), Asking[str, int](2, afresh=True)
    waiting = [asyncio.create_task(asking.answer(name, log.ask(name))) for name in "abcabcabc"]
    await turns()
    assert log.asked == ["a", "b"]
    log.answers.set()
    await asyncio.gather(*waiting)
    assert (sorted(log.asked), log.most) == (["a", "b", "c"], 2)


async def test_who_gives_up_takes_the_answer_from_nobody() -> None:
    log, asking = Log(), Asking[str, int](1)
    first, second = (asyncio.create_task(asking.answer("a", log.ask("a"))) for _ in range(2))
    await turns()
    first.cancel()
    log.answers.set()
    assert await second == 1


async def test_a_failure_is_told_to_all_who_wait_and_not_remembered() -> None:
    log, asking = Log(), Asking[str, int](1)
    log.failure = SourceTimeout("away")
    log.answers.set()
    told = await asyncio.gather(*(asking.answer("a", log.ask("a")) for _ in range(3)), return_exceptions=True)
    assert [type(one) for one in told] == [SourceTimeout] * 3
    log.failure = None
    assert await asking.answer("a", log.ask("a")) == 2


async def test_nothing_is_asked_once_it_is_closed() -> None:
    log, asking = Log(), Asking[str, int](1)
    waiting = [asyncio.create_task(asking.answer(name, log.ask(name))) for name in "ab"]
    await turns()
    asking.close()
    assert [type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == [asyncio.CancelledError] * 2
    assert (log.asked, log.under_way) == (["a"], 0)
