"""Subscriptions inside the process: the same cursors and promises that a connected client has, as async iterators.

A subscription holds its place in the channel and at most one small batch of messages. One that is not iterated costs
nothing else: the channel's history waits for it, and where that has run out the iterator says so (`ContinuityLost`).
Everything belongs to the event loop.
"""

import asyncio
import weakref
from collections import deque
from itertools import count
from types import TracebackType
from typing import Final, Self

from fanout import _core
from fanout.errors import ContinuityLost
from fanout.types import Message

__all__ = ["Subscription", "Subscriptions"]

BATCH: Final = 100  # messages taken at once: enough to make a call cheap, little to hold
AHEAD_RETRY_S: Final = 0.02
AHEAD_WAIT_S: Final = 5.0  # for a position that this node has yet to read; as long as a connected client waits

REASONS: Final = {
    _core.GAP: "expired",
    _core.UNREAD: "expired",
    _core.FOREIGN: "foreign",
    _core.AHEAD: "foreign",
    _core.CONFLATED: "conflated",
}


class Subscription:
    """The messages of one channel, in order, each once: `async for message in subscription`.

    It begins where it was made, also if iterating begins later. Cancelling loses nothing: the next step goes on with
    the same message. ContinuityLost is raised once where messages were missed; iterating again goes on. It ends
    (StopAsyncIteration) when it is closed or the server is left, also while a step waits. Forgetting it closes it;
    `async with` says when. One task at a time iterates.
    """

    def __init__(self, subscriptions: "Subscriptions", channel: str, since: str | None) -> None:
        self.channel = channel
        self.number = 0  # its cursor's, once it has one
        self._subscriptions = subscriptions
        self._since = since
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

    def begin(self, *, however: bool = False) -> None:
        """Takes its place, unless this node has yet to read that far; `however` takes what place there is."""
        cursor = self._subscriptions.cursor(self, self._since, however=however)
        if cursor is not None:
            self._cursor = cursor
            self._lost = REASONS.get(cursor.outcome)
            self._wake.set()

    # -- steps --

    async def _find_place(self) -> None:
        """Waits until the node has read as far as `since`, for a while."""
        await self._subscriptions.ready.wait()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + AHEAD_WAIT_S
        while self._cursor is None and not self._closed:
            self.begin(however=loop.time() >= deadline)
            if self._cursor is None:
                await asyncio.sleep(AHEAD_RETRY_S)

    def _take(self, cursor: _core.Cursor) -> bool:
        try:
            self._messages.extend(cursor.take(BATCH))
        except LookupError:
            self._lost = "dropped"
            return True
        return bool(self._messages)


class Subscriptions:
    """The subscriptions of one node. It does not keep them alive."""

    def __init__(self, engine: _core.Engine) -> None:
        self.ready = asyncio.Event()
        """The node has caught up: from now on what arrives is new."""
        self._engine = engine
        self._loop = asyncio.get_running_loop()
        self._numbers = count(1)
        self._open: weakref.WeakSet[Subscription] = weakref.WeakSet()
        self._by_number: weakref.WeakValueDictionary[int, Subscription] = weakref.WeakValueDictionary()
        self._cursors: dict[int, _core.Cursor] = {}

    def open(self, channel: str, since: str | None) -> Subscription:
        """A new subscription, which begins now; on a node that has not caught up, when it has."""
        subscription = Subscription(self, channel, since)
        self._open.add(subscription)
        if self.ready.is_set():
            subscription.begin()
        return subscription

    def caught_up(self) -> None:
        """Begins what waited for the node to be ready."""
        self.ready.set()
        for subscription in list(self._open):
            subscription.begin()

    def wake(self, number: int) -> None:
        """The engine has messages for the cursor of this number. Unknown ones are ignored."""
        subscription = self._by_number.get(number)
        if subscription is not None:
            subscription.wake()

    def cursor(self, subscription: Subscription, since: str | None, *, however: bool) -> _core.Cursor | None:
        """A cursor on the subscription's channel; None if `since` is ahead of this node and `however` is not given."""
        number = next(self._numbers)
        cursor = self._engine.cursor(subscription.channel, since, number)
        if cursor.outcome == _core.AHEAD and not however:
            cursor.close()
            return None
        subscription.number = number
        self._cursors[number] = cursor
        self._by_number[number] = subscription
        weakref.finalize(subscription, self._forgotten, number).atexit = False
        return cursor

    def forget(self, subscription: Subscription) -> None:
        """Closes a subscription's cursor."""
        self._open.discard(subscription)
        self._close(subscription.number)

    def close(self) -> None:
        """Ends all subscriptions, and takes back all that they held of the engine."""
        self.ready.set()
        for subscription in list(self._open):
            subscription.end()
        for number in list(self._cursors):
            self._close(number)

    def _close(self, number: int) -> None:
        cursor = self._cursors.pop(number, None)
        if cursor is not None:
            cursor.close()

    def _forgotten(self, number: int) -> None:
        """A subscription is gone; said on whichever thread let go of it last."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._close, number)
