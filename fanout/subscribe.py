"""Subscriptions inside the process: the same cursors and promises that a connected client has, as async iterators.

A subscription holds its place in the channel and at most one small batch of messages. One that is not iterated costs
nothing else: the channel's history waits for it. Where memory has forgotten what comes next, be it that a subscription
begins in the past or that it was not iterated for long, the log is asked for it once it is iterated, and it is given a
replay like any client; while the log cannot be read, it waits. What the log has not either is said by the iterator
(`ContinuityLost`). Everything belongs to the event loop.
"""

import asyncio
import weakref
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Any, Final, Protocol, Self

from fanout import _core
from fanout.errors import ContinuityLost, ErrorInfo
from fanout.types import Message

__all__ = ["Log", "Subscription", "Subscriptions"]

BATCH: Final = 100  # messages taken at once: enough to make a call cheap, little to hold
AHEAD_RETRY_S: Final = 0.02
AHEAD_WAIT_S: Final = 5.0  # for a position that this node has yet to read; as long as a connected client waits
LOG_RETRY_S: Final = 1.0

_IN_LOG: Final = (_core.GAP, _core.UNREAD)  # outcomes of which the log knows more

REASONS: Final = {
    _core.GAP: "expired",
    _core.UNREAD: "foreign",
    _core.FOREIGN: "foreign",
    _core.AHEAD: "foreign",
    _core.CONFLATED: "conflated",
}


class Log(Protocol):
    """Resumes from the log; `fanout.replay.Replays` answers this."""

    def resume(self, channel: str, serial: str, answer: Callable[[Any], None]) -> None:
        """Finds a place. `answer` is called once, on the loop, perhaps before this returns: with a plan, an ErrorInfo,
        or None for a position that is none of this log.
        """

    def look(self, replay: int) -> None:
        """Somebody on that replay may have come to its end."""


async def _all_is_read(_channel: str) -> bool:
    """Of a node that reads all there is."""
    return True


class Subscription:
    """The messages of one channel, in order, each once: `async for message in subscription`.

    It begins where it was made, also if iterating begins later; on a channel that is not read here yet, when it is, a
    moment later. Cancelling loses nothing: the next step goes on with the same message. ContinuityLost is raised once
    where messages were missed; iterating again goes on. It ends (StopAsyncIteration) when it is closed or the server is
    left, also while a step waits. Forgetting it closes it; `async with` says when. One task at a time iterates.
    """

    def __init__(self, subscriptions: "Subscriptions", channel: str, since: str | None) -> None:
        self.channel = channel
        self.number = 0  # its cursor's, once it has one
        self._subscriptions = subscriptions
        self._since = since  # once it has a cursor, the position behind what was taken from it
        self._cursor: _core.Cursor | None = None
        self._lost: str | None = None
        self._messages: deque[Message] = deque()
        self._wake = asyncio.Event()
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Message:
        """The next message. Raises ContinuityLost, once, in the place of messages that were missed."""
        while not self._messages:
            self._wake.clear()
            if self._closed:
                raise StopAsyncIteration
            if self._cursor is None:
                await self._find_place()
            elif self._lost is not None:
                reason, self._lost = self._lost, None
                raise ContinuityLost(self.channel, reason)
            elif not self._take(self._cursor):
                await self._wake.wait()
        return self._messages.popleft()

    async def aclose(self) -> None:
        """Ends the iteration, also one that waits in another task. Idempotent."""
        self.end()
        self._messages.clear()
        self._subscriptions.forget(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # -- for Subscriptions --

    def wake(self) -> None:
        """Messages wait to be taken."""
        self._wake.set()

    def end(self) -> None:
        """Nothing more comes; what was taken is still given."""
        self._closed = True
        self._wake.set()

    def begin(self, *, however: bool = False) -> int:
        """Takes its place if memory has it, and says what became of its position. AHEAD: this node has yet to read that
        far; GAP or UNREAD: it is to be looked for in the log. With `however` it takes what place there is, but on a
        channel that is not read here.
        """
        if not self._subscriptions.is_read(self.channel):
            return _core.AHEAD
        cursor = self._subscriptions.cursor(self, self._since)
        if cursor.outcome in (_core.AHEAD, *_IN_LOG) and not however:
            self._subscriptions.leave(self)
        else:
            self._take_place(cursor)
        return cursor.outcome

    def begin_late(self, *, is_read: bool) -> bool:
        """Begins if the channel is read by now, and it has not; whether there is nothing more to wait for."""
        if is_read and self._cursor is None and not self._closed:
            self.begin()
        return is_read or self._closed

    # -- steps --

    def _take_place(self, cursor: _core.Cursor) -> None:
        self._cursor, self._since = cursor, cursor.serial
        self._lost = REASONS.get(cursor.outcome)
        self._wake.set()

    async def _find_place(self) -> None:
        """Waits until the node has read as far as `since`, for a while; and for the log where memory has forgotten."""
        await self._subscriptions.ready.wait()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + AHEAD_WAIT_S
        while self._cursor is None and not self._closed:
            outcome = self.begin(however=loop.time() >= deadline)
            if self._cursor is None and outcome in _IN_LOG:
                await self._find_in_log(self._since or "")
                deadline = loop.time() + AHEAD_WAIT_S
            elif self._cursor is None:
                await asyncio.sleep(AHEAD_RETRY_S)

    async def _find_in_log(self, since: str) -> None:
        answers: list[_core.Plan | ErrorInfo | None] = []

        def answered(answer: _core.Plan | ErrorInfo | None) -> None:
            answers.append(answer)
            self._wake.set()

        self._wake.clear()
        self._subscriptions.log.resume(self.channel, since, answered)
        while not answers and not self._closed:
            await self._wake.wait()
            self._wake.clear()
        if self._closed:
            return
        if isinstance(answers[0], ErrorInfo):
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), LOG_RETRY_S)  # closing ends the wait
        elif answers[0] is None:
            self.begin(however=True)
        else:
            self._take_place(self._subscriptions.cursor_at(self, answers[0]))

    def _take(self, cursor: _core.Cursor) -> bool:
        """Takes what there is; whether there was something, or its place is to be found again."""
        replay = cursor.replay
        try:
            self._messages.extend(cursor.take(BATCH))
        except LookupError:
            self._subscriptions.leave(self)
            self._cursor = None
            return True
        if replay:
            self._subscriptions.log.look(replay)
        if self._messages:
            self._since = self._messages[-1].position
        return bool(self._messages)


class Subscriptions:
    """The subscriptions of one node. It does not keep them alive."""

    def __init__(
        self,
        engine: _core.Engine,
        log: Log,
        is_read: Callable[[str], bool] = lambda channel: True,
        wait: Callable[[str], Awaitable[bool]] = _all_is_read,
    ) -> None:
        """`is_read` says of a channel whether all that may feed it is read here; `wait` says so after a while in which
        it may come to be.
        """
        self.log = log
        self.is_read = is_read
        self._wait = wait
        self._beginning: set[asyncio.Task[None]] = set()
        self.ready = asyncio.Event()
        """The node has caught up: from now on what arrives is new."""
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._open: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._by_number: weakref.WeakValueDictionary[int, Subscription] = weakref.WeakValueDictionary()
        self._cursors: dict[int, tuple[_core.Cursor, weakref.finalize[..., Subscription]]] = {}

    def open(self, channel: str, since: str | None) -> Subscription:
        """A new subscription, which begins now; on a node that has not caught up, when it has."""
        if since is not None:  # what UTF-8 cannot hold is no position either
            since = since.encode(errors="replace").decode()
        subscription = Subscription(self, channel, since)
        self._open.add(subscription)
        if self.ready.is_set():
            self._begin(subscription)
        return subscription

    def caught_up(self) -> None:
        """Begins what waited for the node to be ready."""
        self.ready.set()
        for subscription in list(self._open):
            self._begin(subscription)

    def wake(self, number: int) -> None:
        """The engine has messages for the cursor of this number. Unknown ones are ignored."""
        subscription = self._by_number.get(number)
        if subscription is not None:
            subscription.wake()

    def cursor(self, subscription: Subscription, since: str | None) -> _core.Cursor:
        """A cursor on the subscription's channel behind a position."""
        number = next(self._numbers)
        return self._keep(subscription, number, self._engine.cursor(subscription.channel, since, number))

    def cursor_at(self, subscription: Subscription, plan: _core.Plan) -> _core.Cursor:
        """A cursor where the log was found to be gone on with."""
        number = next(self._numbers)
        return self._keep(subscription, number, self._engine.cursor_at(plan, number))

    def leave(self, subscription: Subscription) -> None:
        """Closes a subscription's cursor; it is given another one."""
        self._close(subscription.number)

    def forget(self, subscription: Subscription) -> None:
        """Closes a subscription's cursor for good."""
        self._open.discard(subscription)
        self._close(subscription.number)

    def _begin(self, subscription: Subscription) -> None:
        if self.is_read(subscription.channel):
            subscription.begin()
            return
        task = self._loop.create_task(self._begin_late(weakref.ref(subscription), subscription.channel))
        self._beginning.add(task)
        task.add_done_callback(self._beginning.discard)

    async def _begin_late(self, wanted: "weakref.ref[Subscription]", channel: str) -> None:
        while True:
            is_read = await self._wait(channel)
            subscription = wanted()
            if subscription is None or subscription.begin_late(is_read=is_read):
                return
            del subscription  # forgetting it closes it

    def _keep(self, subscription: Subscription, number: int, cursor: _core.Cursor) -> _core.Cursor:
        forgotten = weakref.finalize(subscription, self._forgotten, number)
        forgotten.atexit = False
        subscription.number = number
        self._cursors[number] = (cursor, forgotten)
        self._by_number[number] = subscription
        return cursor

    def close(self) -> None:
        """Ends all subscriptions, and takes back all that they held of the engine."""
        self.ready.set()
        for task in self._beginning:
            task.cancel()
        for subscription in list(self._open):
            subscription.end()
        for number in list(self._cursors):
            self._close(number)

    def _close(self, number: int) -> None:
        if number in self._cursors:
            cursor, forgotten = self._cursors.pop(number)
            forgotten.detach()
            cursor.close()

    def _forgotten(self, number: int) -> None:
        """A subscription is gone; said on whichever thread let go of it last."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close, number)
