"""A client that comes back after every loss, on whichever node is next: what clients of every transport have in common.

- The server is one of several nodes; after each loss the next one's turn has come.
- What a link is made of, and what is said on it, is the subclass's: `_open` and `heard`.
- A client can be made to suffer: cut, kept away, kept from reading, or given a new link while the old one stays open.

Times are in seconds. Everything belongs to the loop that connected it.
"""

import asyncio
import contextlib
import random
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any, Final, Generic, Protocol, Self, TypeVar

from picows import WSError

from fanout.audit.story import Story

__all__ = ["ANSWER_S", "DEAF_MAX", "GRACE_S", "Owner", "Refused", "Returning", "Socket"]

ANSWER_S: Final = 20.0
RETRY_S: Final = 0.2  # between two tries to come back; half as much again, by chance
GRACE_S: Final = 10.0  # of silence beyond what the server promised
CLOSE_S: Final = 1.0  # until a link that was ended is not waited for
DEAF_MAX: Final = 2  # abandoned links that are kept; before the next one the oldest is ended


class Refused(Exception):
    """The server answered with an error. `code` is its number."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(f"{error.get('message')} ({error['code']})")
        self.code: int = error["code"]


class Socket(Protocol):
    """An open link, as far as its client's life goes."""

    def pause(self) -> None:
        """Stops reading: the server's side fills up."""

    def resume(self) -> None:
        """Reads again."""

    def end(self, *, reset: bool = False) -> None:
        """Closes without a word; with a reset of the connection if that is asked for."""

    def deafen(self) -> None:
        """The owner hears nothing of it any more, and nothing is read: to the server it is open, and silent."""


L = TypeVar("L", bound=Socket)
L_contra = TypeVar("L_contra", bound=Socket, contravariant=True)


class Owner(Protocol[L_contra]):
    """Who is told of what comes on a link."""

    def opened(self, link: L_contra, /) -> None:
        """The link is there; something may come before its opening returns."""

    def heard(self, link: L_contra, payload: bytes, /) -> None:
        """Something came: one whole message where the link has such, else some bytes."""

    def lost(self, link: L_contra, /) -> None:
        """The link is no more. Not called for one that was deafened."""


class Returning(ABC, Generic[L]):
    """One client, from its first connection to its `close`."""

    def __init__(self, urls: Sequence[str], *, source: str | None = None, receive_buffer: int | None = None) -> None:
        """`urls` are those of the nodes, the first to begin with.

        Links are bound to the address `source` of this machine; `receive_buffer` is their sockets', in bytes.
        """
        self.connections = 0
        """How often the server has let it in."""
        self.refusals = 0
        """How often it did not resume the connection, where there is one to resume, and gave another one."""
        self.errors = Counter[int]()
        """What was refused on the way and is asked for once more later, by code."""
        self.refused: Refused | None = None
        """Why it does not come back any more."""
        self.urls = list(urls)
        """Of the nodes; after each loss the next one's turn has come."""
        self.story = Story()
        """What happened to it."""
        self._source = source
        self._receive_buffer = receive_buffer
        self._turn = 0
        self._link: L | None = None
        self._deaf = deque[L]()
        self._connected: asyncio.Future[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._stays_away = False
        self._is_paused = False
        self._heard_at = 0.0
        self._gone = asyncio.Event()
        self._may_return = asyncio.Event()
        self._may_return.set()

    @abstractmethod
    async def _open(self, url: str) -> None:
        """Opens a link to the node. Raises OSError or WSError when it cannot be had."""

    @abstractmethod
    def heard(self, link: L, payload: bytes) -> None:
        """See `Owner`; calls `_is_in` once the server has let it in."""

    async def connect(self) -> Self:
        """Returns once the server has let it in. Raises Refused when it refuses, WSError or OSError else."""
        self._connected = asyncio.get_running_loop().create_future()
        self._gone.clear()
        await self._open(self.urls[self._turn % len(self.urls)])
        try:
            async with asyncio.timeout(ANSWER_S):
                await self._connected
        except TimeoutError:
            self.cut()
            raise
        return self

    @property
    def is_connected(self) -> bool:
        """Whether the server has let it in on the link of now."""
        return self._link is not None and self._connected is not None and self._connected.done()

    def cut(self) -> None:
        """Resets the connection; it comes back by itself."""
        if self._link is not None:
            self.story.tell("resets the connection")
            self._link.end(reset=True)

    def leave(self) -> None:
        """Resets the connection, and stays away until `come_back`."""
        self._may_return.clear()
        self.cut()

    def come_back(self) -> None:
        """Ends an absence that `leave` began."""
        self._may_return.set()

    def abandon(self) -> None:
        """Comes back on a new link, and leaves the old one open to the server, and silent, for a while."""
        if self._link is not None and self.is_connected:
            self.story.tell("leaves the connection open and silent")
            link, self._link = self._link, None
            link.deafen()
            if len(self._deaf) == DEAF_MAX:
                self._deaf.popleft().end()
            self._deaf.append(link)
            self.lost(link)

    def pause(self) -> None:
        """Stops reading."""
        self.story.tell("stops reading")
        self._is_paused = True
        if self._link is not None:
            self._link.pause()

    def resume(self) -> None:
        """Reads again."""
        self.story.tell("reads again")
        self._is_paused = False
        self._heard_at = time.monotonic()
        if self._link is not None:
            self._link.resume()

    async def close(self) -> None:
        """Ends the connection for good, without a word."""
        self._stays_away = True
        for link in self._deaf:
            link.end()
        if self._returning is not None:
            self._returning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._returning
        if self._link is not None:
            self._link.end()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await self._gone.wait()

    # -- for subclasses --

    def _is_in(self, how: str = "") -> None:
        """The server has let it in; `how` is told of it."""
        self.story.is_in(f"let in by {self.urls[self._turn % len(self.urls)]}{how}")
        self.connections += 1
        self._heard_at = time.monotonic()
        if self._connected is not None and not self._connected.done():
            self._connected.set_result(None)

    def _is_refused_for_good(self, error: Mapping[str, Any]) -> bool:
        """The server has refused the connection; whether that was news: it was not up yet."""
        if self._connected is None or self._connected.done():
            return False
        self._stays_away = True
        _fail(self._connected, Refused(error))
        return True

    def _is_silent(self, promised_s: float) -> bool:
        """Whether nothing has come for longer than the server promised, though it was listened for."""
        return bool(promised_s) and not self._is_paused and time.monotonic() - self._heard_at > promised_s + GRACE_S

    # -- what comes --

    def opened(self, link: L) -> None:
        """See `Owner`."""
        self._link = link
        if self._is_paused:
            link.pause()

    def lost(self, link: L) -> None:
        """See `Owner`."""
        self.story.tell("the connection is over")
        self._link = None
        self._gone.set()
        self._turn += 1
        if self._connected is not None and not self._connected.done():
            _fail(self._connected, ConnectionResetError("cut before it was let in"))
        elif not self._stays_away and self._returning is None:
            self._returning = asyncio.get_running_loop().create_task(self._return())

    async def _return(self) -> None:
        while True:
            await self._may_return.wait()
            try:
                await self.connect()
            except Refused as problem:
                self.refused = problem
                return
            except (OSError, WSError):
                self._turn += 1
                await asyncio.sleep(RETRY_S * random.uniform(1, 1.5))
                continue
            if self._link is not None:  # else it was cut again meanwhile
                self._returning = None
                return


def _fail(connected: "asyncio.Future[None]", problem: Exception) -> None:
    connected.set_exception(problem)
    connected.exception()  # noticed: whoever waited for it may have been cancelled by now
