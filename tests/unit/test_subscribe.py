"""Subscriptions inside the process: where they begin, what cancelling costs, and what they say of a gap."""

import asyncio
import gc
from collections import deque
from typing import Any, cast

import pytest

from fanout import _core
from fanout.errors import ContinuityLost
from fanout.subscribe import AHEAD_RETRY_S, BATCH, Subscriptions
from fanout.types import Message


class Cursor:
    """A cursor in the test's hands."""

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


class Bed:
    def __init__(self) -> None:
        self.engine = Engine()
        self.subscriptions = Subscriptions(cast("Any", self.engine))
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
    return Message(channel="chat", id=text, serial=text, timestamp=0, data=text)


@pytest.fixture
async def bed() -> Bed:
    return Bed()


async def test_begins_where_it_was_made_and_not_where_iterating_begins(bed: Bed) -> None:
    subscription = bed.subscriptions.open("chat", "position")
    assert bed.engine.asked == [("chat", "position")]
    bed.deliver("a", "b")
    assert [(await anext(subscription)).data, (await anext(subscription)).data] == ["a", "b"]


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


@pytest.mark.parametrize(("outcome", "reason"), [(_core.GAP, "expired"), (_core.FOREIGN, "foreign")])
async def test_says_once_that_it_cannot_go_on_exactly_and_goes_on(bed: Bed, outcome: int, reason: str) -> None:
    bed.engine.outcomes.append(outcome)
    subscription = bed.subscriptions.open("chat", "old")
    bed.deliver("a")
    with pytest.raises(ContinuityLost) as lost:
        await anext(subscription)
    assert (lost.value.channel, lost.value.reason) == ("chat", reason)
    assert (await anext(subscription)).data == "a"


async def test_says_that_messages_were_dropped_in_their_place(bed: Bed) -> None:
    subscription = bed.subscriptions.open("chat", None)
    bed.deliver("a")
    assert (await anext(subscription)).data == "a"
    bed.cursor.dropped = True
    bed.deliver("c")
    with pytest.raises(ContinuityLost, match="dropped"):
        await anext(subscription)
    assert (await anext(subscription)).data == "c"


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
    subscriptions = Subscriptions(cast("Any", engine))
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
