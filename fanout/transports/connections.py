"""The realtime connections of a node, whatever they are made of: who is here, who waits, and who has to go.

Everything belongs to the event loop.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from fanout.errors import error
from fanout.transports.driver import Driver
from fanout.transports.outgoing import Outgoing
from fanout.transports.ports import Backlog, Mutator, Opener, Presence, Publisher, Renewer, Replays
from fanout.transports.terms import Terms
from fanout.transports.turns import Turns

__all__ = ["Connections"]

log = logging.getLogger(__name__)

_CLOSE_SECONDS: Final = 6.0  # the engine cuts a closing connection after 5 s
_DISMISSED_PER_TURN: Final = 50  # some 2 ms of the loop
_NO_APP: Final = error(40101, "its app is no more")


class Connections:
    """The realtime connections of a node."""

    def __init__(
        self,
        *,
        engine: Any,
        publisher: Publisher,
        presence: Presence,
        mutator: Mutator,
        backlog: Backlog,
        replays: Replays,
        watch: Callable[[str], None],
        open_session: Opener,
        reauthenticate: Renewer,
        terms: Terms,
        ready: asyncio.Event,
        clock: Callable[[], int],
    ) -> None:
        """`ready` is set once the node has caught up with its log; `clock` reads the time in ms."""
        self.engine = engine
        self.publisher = publisher
        self.presence = presence
        self.mutator = mutator
        self.backlog = backlog
        self.replays = replays
        self.watch = watch
        self.open_session = open_session
        self.reauthenticate = reauthenticate
        self.terms = terms
        self.ready = ready
        self.clock = clock
        self.turns = Turns()
        self.outgoing = Outgoing()
        self.opened = 0  # connections that came up, ever, those refused in band among them
        self._by_handle: dict[int, Driver] = {}
        self._held: dict[Driver, None] = {}  # bounded by the listener's limit of connections
        self._unknown: dict[Driver, None] = {}  # whose credential cannot be judged yet; bounded likewise
        self._opening: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        """Connections that are open or held."""
        return len(self._by_handle) + len(self._held) + len(self._unknown)

    def find(self, handle: int) -> Driver | None:
        """The open connection of that handle."""
        return self._by_handle.get(handle)

    def event(self, kind: str, handle: int, argument: int) -> None:
        """Takes one event of the engine's. Those of connections that are gone, and other kinds, are ignored."""
        driver = self._by_handle.get(handle)
        if driver is None:
            return
        if kind == "lost":
            driver.lost(argument)
        elif kind == "conflated":
            driver.conflated(argument)
        elif kind == "left":
            driver.left()
        elif kind == "write":
            driver.writable()
        elif kind == "evicted":
            driver.cut()  # the socket is shut down already; a connection that is not read from would not notice

    async def drain(self, window_s: float) -> None:
        """Sends all clients away, spread over the window, and waits until they have gone; cuts who does not go."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        drivers = self._all()
        for index, driver in enumerate(drivers):
            due = begun + window_s * index / len(drivers)
            if due - loop.time() > 0.001:  # the timers' own grain
                await asyncio.sleep(due - loop.time())
            _end(driver.drain)
        if len(self):
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), _CLOSE_SECONDS)
        self.abort_all()

    def dismiss(self, app: str) -> None:
        """Sends the clients of an app away whose keys are no more: those here now, a few in each turn of the loop."""
        self._dismiss([driver for driver in self._by_handle.values() if driver.app == app])

    def _dismiss(self, drivers: list[Driver]) -> None:
        for driver in drivers[:_DISMISSED_PER_TURN]:
            _end(partial(driver.unauthorized, _NO_APP))
        if rest := drivers[_DISMISSED_PER_TURN:]:
            asyncio.get_running_loop().call_soon(self._dismiss, rest)

    def abort_all(self) -> None:
        """Cuts every connection. What its client was not told it learns by resuming."""
        if self._opening is not None:
            self._opening.cancel()
        for driver in self._all():
            _end(driver.cut)

    # -- for the drivers --

    def hold(self, driver: Driver) -> None:
        """Opens the connection when the node is ready."""
        self._held[driver] = None
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._open_held())

    async def _open_held(self) -> None:
        await self.ready.wait()
        self.go_on()

    def go_on(self) -> None:
        """Opens connections that were held. See `fanout.transports.turns.Caller`."""
        while self._held and self.turns.take(self, brief=False):
            driver = next(iter(self._held))
            del self._held[driver]
            try:
                driver.open()
            except Exception:
                log.exception("a connection could not be opened")
                driver.cut()

    def hold_until(self, done: "asyncio.Future[None]", driver: Driver) -> None:
        """Opens the connection when that is done."""
        self._unknown[driver] = None
        done.add_done_callback(lambda _: self._known(driver))

    def _known(self, driver: Driver) -> None:
        if driver in self._unknown:  # still there
            del self._unknown[driver]
            self.hold(driver)

    def _all(self) -> list[Driver]:
        return [*self._by_handle.values(), *self._held, *self._unknown]

    def entered(self, handle: int, driver: Driver) -> None:
        """The connection has its handle."""
        self.opened += 1
        self._held.pop(driver, None)
        self._unknown.pop(driver, None)
        self._by_handle[handle] = driver

    def left(self, handle: int, driver: Driver) -> None:
        """The connection is gone."""
        self._held.pop(driver, None)
        self._unknown.pop(driver, None)
        self._by_handle.pop(handle, None)
        if not len(self):
            self._empty.set()


def _end(end: Callable[[], None]) -> None:
    """Ends one connection; the others are ended whatever comes of that."""
    try:
        end()
    except Exception:
        log.exception("a connection could not be ended")
