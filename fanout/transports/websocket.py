"""The driver of sessions: carries out on one WebSocket what its session decides, and hands the session what comes in.

- Effects are carried out in their order, and all of them before the session is handed anything else.
- A client that cannot be let in is told so in band (ERROR, then close): browsers cannot read a failed handshake.
- While the node catches up with its log a client is held, 8 s at most; then it is sent away to come back.
- A client with 1000 messages under way is not heard until half of them are answered: so each client takes one large
  publish's time of the loop and no more.
- What clients send is heard for a bounded time in each turn of the loop; who comes later waits (`turns.py`).
- A connection has no task and no queue of its own: replies and deliveries wait in the engine alone.

Everything belongs to the event loop.
"""

import asyncio
import base64
import contextlib
import hashlib
import logging
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

from fanout.errors import ClientError, ErrorInfo, error
from fanout.session import connection
from fanout.session.effects import Attach, Close, Detach, Effect, Publish, Reply, Retry
from fanout.session.params import requested_wire
from fanout.session.session import Session
from fanout.transports._websocket import Reader, WebSocket
from fanout.transports.http import Request
from fanout.transports.turns import Turns
from fanout.types import OutMessage
from fanout.wire import JSON, decode, encode

__all__ = ["Connections", "Opener", "Publisher"]

log = logging.getLogger(__name__)

_HOLD_SECONDS: Final = 8.0  # SDKs give a connection 10 s to come up
_PENDING_MAX: Final = 1_000  # messages: one publish of the largest, or as many small ones as keep the log busy
_CLOSE_SECONDS: Final = 6.0  # the engine cuts a closing connection after 5 s
_OPENED_PER_TURN: Final = 64
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


class Publisher(Protocol):
    """Writes to the log; `fanout.publish.Publisher` answers this."""

    def publish(
        self, channel: str, messages: Sequence[OutMessage], done: Callable[[list[str] | ErrorInfo], None]
    ) -> None:
        """Writes the messages next to each other. `done` is called once, on the loop, perhaps before this returns."""


class Opener(Protocol):
    """Begins a session; `fanout.session.opening.open_session` with what the node knows."""

    def __call__(self, query: Mapping[str, str], authorization: str | None, now_ms: int, /) -> Session:
        """Raises ClientError for a client that is not let in."""


class Connections:
    """The realtime connections of a node."""

    def __init__(
        self,
        *,
        engine: Any,
        publisher: Publisher,
        open_session: Opener,
        ready: asyncio.Event,
        clock: Callable[[], int],
    ) -> None:
        """`ready` is set once the node has caught up with its log; `clock` reads the time in ms."""
        self.engine = engine
        self.publisher = publisher
        self.open_session = open_session
        self.ready = ready
        self.clock = clock
        self.turns = Turns()
        self.opened = 0  # connections that came up, ever, those refused in band among them
        self._reader = Reader()
        self._by_handle: dict[int, _Driver] = {}
        self._held: dict[_Driver, None] = {}  # bounded by the listener's limit of connections
        self._opening: asyncio.Task[None] | None = None
        self._empty = asyncio.Event()

    def __len__(self) -> int:
        """Connections that are open or held."""
        return len(self._by_handle) + len(self._held)

    def accept(
        self, transport: asyncio.Transport, fd: int, request: Request, rest: bytes, gone: Callable[[], None]
    ) -> None:
        """Takes over a transport whose client asked to speak WebSocket; an `UpgradeHandler` of the front."""
        driver = _Driver(self, request)
        driver.link = WebSocket(self._reader, self.engine, driver, gone)
        transport.write(_switching(request.header("sec-websocket-key")))
        driver.link.start(transport, fd, rest)

    def event(self, kind: str, handle: int, argument: int) -> None:
        """Takes one event of the engine's. Those of connections that are gone, and other kinds, are ignored."""
        driver = self._by_handle.get(handle)
        if driver is None:
            return
        if kind == "lost":
            driver.lost(argument)
        elif kind == "evicted":
            driver.cut()  # the socket is shut down already; a connection that is not read from would not notice

    async def drain(self, window_s: float) -> None:
        """Sends all clients away, spread over the window, and waits until they have gone; cuts who does not go."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        drivers = [*self._by_handle.values(), *self._held]
        for index, driver in enumerate(drivers):
            due = begun + window_s * index / len(drivers)
            if due - loop.time() > 0.001:  # the timers' own grain
                await asyncio.sleep(due - loop.time())
            driver.drain()
        if len(self):
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), _CLOSE_SECONDS)
        self.abort_all()

    def abort_all(self) -> None:
        """Cuts every connection. What its client was not told it learns by resuming."""
        if self._opening is not None:
            self._opening.cancel()
        for driver in [*self._by_handle.values(), *self._held]:
            driver.cut()

    # -- for the drivers --

    def hold(self, driver: "_Driver") -> None:
        """Opens the connection when the node is ready."""
        self._held[driver] = None
        if self._opening is None or self._opening.done():
            self._opening = asyncio.get_running_loop().create_task(self._open_held())

    async def _open_held(self) -> None:
        await self.ready.wait()
        while self._held:
            for driver in list(self._held)[:_OPENED_PER_TURN]:
                del self._held[driver]
                try:
                    driver.open()
                except Exception:
                    log.exception("a connection could not be opened")
                    driver.cut()
            await asyncio.sleep(0)

    def entered(self, handle: int, driver: "_Driver") -> None:
        """The connection has its handle."""
        self.opened += 1
        self._held.pop(driver, None)
        self._by_handle[handle] = driver

    def left(self, handle: int, driver: "_Driver") -> None:
        """The connection is gone."""
        self._held.pop(driver, None)
        self._by_handle.pop(handle, None)
        if not len(self):
            self._empty.set()


class _Driver:
    """One connection. `link` is its WebSocket; the four methods after `__init__` are what that asks and reports."""

    __slots__ = (
        "_handle", "_node", "_paused", "_pending", "_request", "_session", "_steps", "_timer", "_wire", "link",
    )  # fmt: skip

    link: WebSocket

    def __init__(self, node: Connections, request: Request) -> None:
        self._node = node
        self._request: Request | None = request
        self._session: Session | None = None
        self._wire = requested_wire(request.query)
        self._handle = 0
        self._timer: asyncio.TimerHandle | None = None
        self._steps: deque[Callable[[], Sequence[Effect]]] | None = None
        self._pending = 0  # messages under way; a retry counts as one
        self._paused = False

    def connected(self) -> None:
        """The handshake is done."""
        if self._node.ready.is_set():
            self.open()
            return
        self.link.pause()
        self._timer = asyncio.get_running_loop().call_later(_HOLD_SECONDS, self._send_away)
        self._node.hold(self)

    def may_speak(self) -> bool:
        """Whether the client is heard now; if not, what it sends waits until its turn comes."""
        if self._node.turns.take(self):
            return True
        self._pause()
        return False

    def message(self, payload: bytes, is_text: bool) -> None:
        """The client has sent one whole message."""
        session = self._session
        assert session is not None  # a client that is held, or was refused, is not heard
        if is_text != (self._wire == JSON):
            wrong = error(40000, "text frames are JSON and binary frames MessagePack, as `format` asked for")
            self._run(partial(session.fail, wrong))
            return
        try:
            frame = decode(payload, self._wire)
        except ClientError as refused:
            self._run(partial(session.fail, refused.info))
        else:
            self._run(partial(session.receive, frame, self._node.clock()))

    def disconnected(self) -> None:
        """The socket is about to be closed."""
        self._cancel_timer()
        self._node.left(self._handle, self)
        self._handle = 0
        if self._session is not None:
            self._session.closed()
            self._session.deliver = _to_nobody  # and no longer to us: the two would hold each other

    # -- what the node asks --

    def open(self) -> None:
        """Begins the session, or refuses the client in band."""
        request, self._request = self._request, None
        assert request is not None
        self._cancel_timer()
        try:
            session = self._node.open_session(request.query, request.headers.get("authorization"), self._node.clock())
        except ClientError as refused:
            self._register("", heartbeats=False)
            self._run(partial(connection.ended, refused.info))
            return
        self._wire = session.params.wire
        self._register(session.connection_id, heartbeats=session.params.heartbeats)
        self._session = session
        session.deliver = self._deliver
        self._run(session.open)
        self.link.resume()

    def lost(self, attachment: int) -> None:
        """The engine stopped delivering an attachment because its continuity was lost."""
        if self._session is not None:
            self._run(partial(self._session.lost, attachment, self._node.clock()))

    def drain(self) -> None:
        """Sends the client away."""
        if self._session is not None:
            self._run(self._session.drain)
        elif self._handle == 0:
            self._send_away()

    def cut(self) -> None:
        """Ends the connection at once."""
        self.link.cut()

    # -- effects --

    def _run(self, step: Callable[[], Sequence[Effect]]) -> None:
        """Takes a step of the session's and carries out what it decides, after what is being carried out now."""
        if self._steps is not None:
            self._steps.append(step)
            return
        self._steps = deque((step,))
        try:
            while self._steps:
                for effect in self._steps.popleft()():
                    self._perform(effect)
        finally:
            self._steps = None

    def _deliver(self, effects: Sequence[Effect]) -> None:
        """Takes effects that the session came to without being asked."""
        self._run(lambda: effects)

    def _perform(self, effect: Effect) -> None:
        if self._handle == 0:
            return  # the client is gone, and with it all that it could have been told
        engine = self._node.engine
        match effect:
            case Reply():
                engine.send(self._handle, encode(effect.frame, self._wire), 1 if self._wire == JSON else 2)
            case Attach():
                reply = encode(effect.frame, self._wire)
                engine.attach(
                    self._handle, effect.attachment, effect.plan, effect.spelling, effect.subscribe, effect.echo, reply
                )
            case Detach():
                engine.detach(self._handle, effect.attachment, encode(effect.frame, self._wire))
            case Publish():
                count = len(effect.messages)
                self._begin(count)
                self._node.publisher.publish(
                    effect.channel, effect.messages, partial(self._answered, effect.msg_serial, count)
                )
            case Retry():
                self._begin(1)
                asyncio.get_running_loop().call_later(effect.after_ms / 1000, self._retry, effect.frame)
            case Close():
                if effect.error is not None:
                    log.info("connection closed: %s (%d)", effect.error.message, effect.error.code)
                self.link.finish(effect.code)

    def _answered(self, msg_serial: int, count: int, result: list[str] | ErrorInfo) -> None:
        session = self._session
        assert session is not None
        self._end(count)
        if isinstance(result, ErrorInfo):
            self._run(partial(session.refused, msg_serial, result))
        else:
            self._run(partial(session.published, msg_serial, result))

    def _retry(self, frame: Any) -> None:
        assert self._session is not None
        self._end(1)
        self._run(partial(self._session.receive, frame, self._node.clock()))

    def _begin(self, count: int) -> None:
        self._pending += count
        if self._pending >= _PENDING_MAX:
            self._pause()

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.link.pause()

    def _end(self, count: int) -> None:
        self._pending -= count
        if self._paused and self._pending <= _PENDING_MAX // 2:
            asyncio.get_running_loop().call_soon(self.go_on)  # after the answers, and when others had their turn

    def go_on(self) -> None:
        """Hears the client again, first what had been read before. See `fanout.transports.turns.Speaker`."""
        if self._handle == 0 or not self._paused or self._pending > _PENDING_MAX // 2:
            return
        self._paused = False
        self.link.resume()

    # -- before the session --

    def _register(self, connection_id: str, *, heartbeats: bool) -> None:
        self._handle = self.link.register(self._wire, connection_id, heartbeats)
        self._node.entered(self._handle, self)

    def _send_away(self) -> None:
        self._cancel_timer()
        self._register("", heartbeats=False)
        self._run(partial(connection.disconnected, error(80003, "this node is not ready yet")))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _to_nobody(_effects: Sequence[Effect]) -> None:
    """Carries nothing out."""


def _switching(key: str) -> bytes:
    """The answer to an opening handshake (RFC 6455 §4.2.2)."""
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
