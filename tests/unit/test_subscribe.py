"""Subscriptions inside the process: where they begin, what cancelling costs, and what they say of a gap."""

import asyncio
import gc
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import pytest

from fanout import _core
from fanout.errors import ContinuityLost, ErrorInfo, error
from fanout.subscribe import AHEAD_RETRY_S, BATCH, Subscriptions
from fanout.types import Message
from tests.support.sources import eventually


class Cursor:
    """A cursor in the test's hands."""

    serial = "where it began"
    replay = 0

    def __init__(self, outcome: int) -> None:
        self.outcome = outcome
        self.waiting: deque[Message] = deque()
        self.dropped = False
        self.closed = False
        self.largest_take = 0

    def take(self, limit: int) -> list[Message]:
        if self.dropped:
            self.dropped = False
            raise LookupError
        taken = [self.waiting.popleft() for _ in range(min(limit, len(self.waiting)))]
        self.largest_take = max(self.largest_take, len(taken))
        return taken

    def close(self) -> None:
        self.closed = True


class Engine:
    """Gives out cursors with the outcomes that the test lays ready, then with RESUMED or FRESH."""

    def __init__(self) -> None:
        self.outcomes: deque[int] = deque()
        self.cursors: dict[int, Cursor] = {}
        self.asked: list[tuple[str, str | None]] = []

    def cursor(self, channel: str, since: str | None, number: int) -> Cursor:
        self.asked.append((channel, since))
        outcome = self.outcomes.popleft() if self.outcomes else _core.FRESH
        cursor = self.cursors[number] = Cursor(outcome)
        return cursor

    def cursor_at(self, plan: int, number: int) -> Cursor:
        cursor = self.cursors[number] = Cursor(plan)
        return cursor


class Log:
    """Answers with what the test lays ready: an outcome in the place of a plan, an error, or None."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.answers: deque[int | ErrorInfo | None] = deque()

    def resume(self, channel: str, serial: str, answer: Callable[[Any], None]) -> None:
        self.asked.append((channel, serial))
        if self.answers:
            asyncio.get_running_loop().call_soon(answer, self.answers.popleft())

    def look(self, replay: int) -> None: ...


class Bed:
    def __init__(self) -> None:
        self.engine = Engine()
        self.log = Log()
        self.subscriptions = Subscriptions(cast("Any", self.engine), self.log)
        self.subscriptions.caught_up()

    def deliver(self, *texts: str) -> None:
        """The engine gets messages for its newest cursor, and says so."""
        number, cursor = max(self.engine.cursors.items())
        cursor.waiting.extend(message(text) for text in texts)
        self.subscriptions.wake(number)

    @property
    def cursor(self) -> Cursor:
        return max(self.engine.cursors.items())[1]


def message(text: str) -> Message:
    return Message(channel="chat", id=text, serial=text, timestamp=0, data=text, position=f"behind {text}")


@pytest.fixture
async def bed() -> Bed:
    return Bed()


async def test_begins_where_it_was_made_and_not_where_iterating_begins(bed: Bed) -> None:
    subscription = bed.subscriptions.open("chat", "position")
    assert bed.engine.asked == [("chat", "position")]
    bed.deliver("a", "b")
    assert [(await anext(subscription)).data, (await anext(subscription)).data] == ["a", "b"]


async def test_on_a_channel_that_is_not_read_it_begins_when_that_is_and_not_when_it_is_iterated() -> None:
    engine, reads = Engine(), asyncio.Queue[bool]()
    is_read = False

    async def wait(_channel: str) -> bool:
        return await reads.get()

    subscriptions = Subscriptions(cast("Any", engine), Log(), lambda channel: is_read, wait)
    subscriptions.caught_up()
    subscription = subscriptions.open("chat", None)
    reads.put_nowait(False)
    await asyncio.sleep(0.01)
    assert engine.asked == []
    is_read = True
    reads.put_nowait(True)
    await asyncio.sleep(0.01)
    assert engine.asked == [("chat", None)]
    max(engine.cursors.items())[1].waiting.append(message("a"))
    assert (await anext(subscription)).data == "a"
    subscriptions.close()


async def test_what_utf_8_cannot_hold_is_asked_for_like_any_position_that_is_none(bed: Bed) -> None:
    bed.subscriptions.open("chat", "AX\ud800")
    assert bed.engine.asked == [("chat", "AX?")]


async def test_waits_for_what_is_published_later(bed: Bed) -> None:
    subscription = bed.subscriptions.open("chat", None)
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(0)
    assert not waiting.done()
    bed.deliver("a")
    assert (await waiting).data == "a"


async def test_cancelling_loses_no_message(bed: Bed) -> None:
    subscription = bed.subscriptions.open("chat", None)
    for text in ("a", "b", "c"):
        waiting = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0)
        bed.deliver(text)
        waiting.cancel()  # in the same turn in which the message came
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert (await anext(subscription)).data == text


async def test_holds_one_small_batch(bed: Bed) -> None:
    subscription = bed.subscriptions.open("chat", None)
    bed.deliver(*map(str, range(3 * BATCH)))
    assert [int(str((await anext(subscription)).data)) for _ in range(3 * BATCH)] == list(range(3 * BATCH))
    assert bed.cursor.largest_take == BATCH


async def test_says_once_that_it_cannot_go_on_exactly_and_goes_on(bed: Bed) -> None:
    bed.engine.outcomes.append(_core.FOREIGN)
    subscription = bed.subscriptions.open("chat", "old")
    bed.deliver("a")
    with pytest.raises(ContinuityLost) as lost:
        await anext(subscription)
    assert (lost.value.channel, lost.value.reason) == ("chat", "foreign")
    assert (await anext(subscription)).data == "a"


class TestTheLog:
    """Where memory has forgotten what comes next."""

    async def begun(self, bed: Bed, cursors: int) -> None:
        """Waits for a cursor, and gives the newest one a message."""
        await eventually(lambda: len(bed.engine.cursors) == cursors)
        bed.deliver("a")

    async def test_is_asked_once_it_is_iterated_and_has_it(self, bed: Bed) -> None:
        bed.engine.outcomes.extend([_core.GAP, _core.GAP])
        subscription = bed.subscriptions.open("chat", "old")
        await asyncio.sleep(0.01)
        assert bed.log.asked == []
        bed.log.answers.append(_core.RESUMED)
        waiting = asyncio.ensure_future(anext(subscription))
        await self.begun(bed, 3)
        assert (await waiting).data == "a"
        assert bed.log.asked == [("chat", "old")]
        assert [cursor.closed for cursor in bed.engine.cursors.values()] == [True, True, False]

    @pytest.mark.parametrize(("answer", "reason"), [(_core.GAP, "expired"), (None, "foreign")])
    async def test_or_has_it_no_more(self, bed: Bed, answer: int | None, reason: str) -> None:
        outcomes = [_core.GAP, _core.GAP] if answer else [_core.GAP, _core.GAP, _core.FOREIGN]
        bed.engine.outcomes.extend(outcomes)
        bed.log.answers.append(answer)
        subscription = bed.subscriptions.open("chat", "old")
        with pytest.raises(ContinuityLost, match=reason):
            await anext(subscription)
        bed.deliver("a")
        assert (await anext(subscription)).data == "a"

    async def test_is_asked_behind_what_was_given_where_it_was_not_iterated_for_long(self, bed: Bed) -> None:
        subscription = bed.subscriptions.open("chat", None)
        bed.deliver("before")
        assert (await anext(subscription)).data == "before"
        bed.cursor.dropped = True
        bed.engine.outcomes.append(_core.GAP)
        bed.log.answers.append(_core.RESUMED)
        waiting = asyncio.ensure_future(anext(subscription))
        await self.begun(bed, 3)
        assert (await waiting).data == "a"
        assert bed.engine.asked[-1] == ("chat", "behind before")
        assert bed.log.asked == [("chat", "behind before")]

    async def test_that_does_not_answer_is_waited_for(self, bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("fanout.subscribe.LOG_RETRY_S", 0.01)
        bed.engine.outcomes.extend([_core.GAP] * 4)
        bed.log.answers.extend([error(50003), error(50003), _core.RESUMED])
        waiting = asyncio.ensure_future(anext(bed.subscriptions.open("chat", "old")))
        await self.begun(bed, 5)
        assert (await waiting).data == "a"
        assert len(bed.log.asked) == 3

    async def test_is_not_waited_for_by_one_that_is_closed(self, bed: Bed) -> None:
        bed.engine.outcomes.extend([_core.GAP] * 2)
        subscription = bed.subscriptions.open("chat", "old")
        waiting = asyncio.ensure_future(anext(subscription))
        await eventually(lambda: bool(bed.log.asked))
        await subscription.aclose()
        with pytest.raises(StopAsyncIteration):
            await waiting
        assert all(cursor.closed for cursor in bed.engine.cursors.values())


async def test_waits_for_a_node_that_has_yet_to_read_so_far(bed: Bed) -> None:
    bed.engine.outcomes.extend([_core.AHEAD, _core.AHEAD, _core.RESUMED])
    subscription = bed.subscriptions.open("chat", "ahead")
    waiting = asyncio.ensure_future(anext(subscription))
    await asyncio.sleep(10 * AHEAD_RETRY_S)
    bed.deliver("a")
    assert (await waiting).data == "a"
    assert [cursor.closed for cursor in bed.engine.cursors.values()] == [True, True, False]


async def test_gives_up_waiting_for_a_position_that_never_comes(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fanout.subscribe.AHEAD_WAIT_S", 0.05)
    bed.engine.outcomes.extend([_core.AHEAD] * 1_000)
    with pytest.raises(ContinuityLost, match="foreign"):
        await anext(bed.subscriptions.open("chat", "never"))


async def test_begins_only_when_the_node_has_caught_up() -> None:
    engine = Engine()
    subscriptions = Subscriptions(cast("Any", engine), Log())
    subscription = subscriptions.open("chat", None)
    assert engine.asked == []
    subscriptions.caught_up()
    assert engine.asked == [("chat", None)]
    engine.cursors[1].waiting.append(message("new"))
    assert (await anext(subscription)).data == "new"


async def test_closing_ends_the_iteration_that_waits(bed: Bed) -> None:
    async with bed.subscriptions.open("chat", None) as subscription:
        waiting = asyncio.ensure_future(anext(subscription))
        await asyncio.sleep(0)
    with pytest.raises(StopAsyncIteration):
        await waiting
    assert bed.cursor.closed


async def test_end_of_the_node_ends_every_iteration(bed: Bed) -> None:
    subscription = bed.subscriptions.open("chat", None)
    bed.subscriptions.close()
    assert [message async for message in subscription] == []
    assert bed.cursor.closed


async def test_forgotten_one_gives_its_cursor_back(bed: Bed) -> None:
    subscription = bed.subscriptions.open("chat", None)
    cursor = bed.cursor
    del subscription
    gc.collect()
    await asyncio.sleep(0)
    assert cursor.closed
    bed.subscriptions.wake(1)  # a late word of it harms nobody
