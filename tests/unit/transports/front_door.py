"""A front door to knock at: real sockets, real parts, and the native engine or one in Python that shows its calls."""

import asyncio
import contextlib
import itertools
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from fanout._core import Engine
from fanout.auth.connection_key import ConnectionKeys
from fanout.auth.revoked import Revoked
from fanout.backlog import Backlog
from fanout.errors import ClientError, ErrorInfo, error
from fanout.rules.route import Rule
from fanout.session.limits import SessionSettings
from fanout.session.opening import open_session, reauthenticate
from fanout.session.resume import ConnectionTable
from fanout.sources.base import Done, NewRecord
from fanout.transports.comet import Comet
from fanout.transports.connections import Connections
from fanout.transports.front import Front
from fanout.transports.http import Request, Response
from fanout.transports.listener import Listener, connection_limit
from fanout.transports.rest import rest
from fanout.transports.router import Router
from fanout.transports.terms import Terms
from fanout.transports.tls import TlsDoor, server_context
from fanout.transports.websocket import websockets
from fanout.types import HistoryPage, HistoryQuery, Message, OutAnnotation, OutChange, OutMessage, PresenceEvent
from tests.support.certificates import Certificates
from tests.support.credentials import accepting
from tests.support.rest import rest_api

KEY = "app.key:secret"
READER = "app.reader:secret"
PUBLISHER = "app.publisher:secret"
STRANGER = "other.key:secret"
QUEUE_BYTES = 1 << 20


@dataclass
class Plan:
    outcome: int = 0
    serial: str = "p0"
    backlog: int = 0
    has_presence: bool = False

    @property
    def first(self) -> str:
        return self.serial


@dataclass
class _Connection:
    fd: int
    wire: int
    connection_id: str
    heartbeat_frames: bool
    queue: bytearray = field(default_factory=bytearray)
    finishing: bool = False


class FakeEngine:
    """Writes as the engine does: in order, partially where a socket is full, never after `unregister`."""

    def __init__(self) -> None:
        self.connections: dict[int, _Connection] = {}
        self.calls: list[tuple[Any, ...]] = []
        self.pages: dict[str, list[Message]] = {}
        self.plans: list[Plan] = []
        self.on_event: Callable[[str, int, int], None] = lambda *_: None
        self._handles = itertools.count(1)

    def register(self, fd: int, wire: int, connection_id: str, heartbeat_frames: bool) -> int:
        handle = next(self._handles)
        self.connections[handle] = _Connection(fd, wire, connection_id, heartbeat_frames)
        return handle

    def unregister(self, handle: int) -> None:
        connection = self.connections.pop(handle, None)
        if connection is not None:
            os.fstat(connection.fd)  # raises if the descriptor was closed before
            self.calls.append(("unregister", handle))

    def lost_at(self, handle: int, attachment: int) -> str | None:
        return None

    def send(self, handle: int, payload: bytes, opcode: int = 1) -> None:
        self._write(handle, frame(opcode, payload))

    def finish(self, handle: int, code: int = 1000, reason: str = "") -> None:
        self.calls.append(("finish", code, reason))
        self._write(handle, frame(8, struct.pack("!H", code) + reason.encode()))
        self.connections[handle].finishing = True
        self._flush(handle)

    def heard(self, handle: int) -> None:
        assert handle in self.connections

    def filter(self, expression: str) -> str:
        return expression

    def attach(
        self,
        handle: int,
        attachment: int,
        plan: Any,
        spelling: str,
        kinds: int,
        echo: bool,
        reply: bytes,
        *,
        delta: bool,
        filter: str | None,  # noqa: A002
    ) -> None:
        self.calls.append(("attach", attachment, spelling, kinds, echo, delta, filter))
        self.send(handle, reply, 1 if self.connections[handle].wire == 0 else 2)

    def detach(self, handle: int, attachment: int, reply: bytes | None) -> None:
        self.calls.append(("detach", attachment))
        if reply is not None:
            self.send(handle, reply, 1 if self.connections[handle].wire == 0 else 2)

    def locate(self, channel: str, serial: str | None, rewind_count: int, rewind_ms: int, now_ms: int) -> Plan:
        return self.plans.pop(0) if self.plans else Plan()

    async def page(self, channel: str, query: HistoryQuery, who: str) -> HistoryPage:
        if "foreign" in (query.cursor, query.until):
            raise ClientError(error(40011 if query.cursor else 90008))
        held = [m for m in self.pages.get(channel, []) if query.start_ms <= m.timestamp <= query.end_ms]
        held = held if query.forwards else held[::-1]
        first = int(query.cursor or 0)
        following = first + query.limit
        return HistoryPage(held[first:following], str(following) if following < len(held) else None)

    def names(self, realm: str, prefix: str, after: str, limit: int) -> list[str]:
        found = (name for name in self.pages if name.startswith(realm + prefix) and name > realm + after)
        return sorted(found)[:limit]

    def occupancy(self, channel: str) -> dict[str, int]:
        return {"subscribers": 1, "messages": len(self.pages.get(channel, []))}

    def _write(self, handle: int, data: bytes) -> None:
        connection = self.connections.get(handle)
        if connection is None or connection.finishing:
            return
        connection.queue += data
        if len(connection.queue) > QUEUE_BYTES:
            connection.queue.clear()
            self._shut(connection, socket.SHUT_RDWR)
            asyncio.get_running_loop().call_soon(self.on_event, "evicted", handle, 1)
            return
        self._flush(handle)

    def _flush(self, handle: int) -> None:
        connection = self.connections.get(handle)
        if connection is None:
            return
        with contextlib.suppress(OSError):
            while connection.queue:
                sent = os.write(connection.fd, connection.queue)
                del connection.queue[:sent]
        if connection.queue:
            asyncio.get_running_loop().call_later(0.01, self._flush, handle)
        elif connection.finishing:
            self._shut(connection, socket.SHUT_WR)

    @staticmethod
    def _shut(connection: _Connection, how: int) -> None:
        with contextlib.suppress(OSError), socket.socket(fileno=os.dup(connection.fd)) as twin:
            twin.shutdown(how)


class FakePublisher:
    """Answers at once, later, or never."""

    def __init__(self) -> None:
        self.published: list[tuple[str, Sequence[OutMessage]]] = []
        self.waiting: list[Callable[[], None]] = []
        self.hold = False
        self.refusal: ErrorInfo | None = None

    def publish(
        self, channel: str, messages: Sequence[OutMessage], done: Callable[[list[str] | ErrorInfo], None]
    ) -> None:
        self.published.append((channel, messages))
        result: list[str] | ErrorInfo = self.refusal or [f"s{len(self.published)}-{i}" for i in range(len(messages))]
        if self.hold:
            self.waiting.append(lambda: done(result))
        else:
            done(result)


class FakeLog:
    """What waits here is answered by the test."""

    def __init__(self) -> None:
        self.waiting: list[Done] = []

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        self.waiting.append(done)


class FakePresence:
    """Writes down who is said to be present, and confirms it."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str, list[str]]] = []  # connection, channel, actions
        self.left: list[tuple[str, str]] = []

    def write(
        self,
        connection_id: str,
        channel: str,
        events: Sequence[PresenceEvent],
        done: Callable[[list[None] | ErrorInfo], None],
    ) -> None:
        self.said.append((connection_id, channel, [event.action for event in events]))
        done([None] * len(events))

    def leave(self, connection_id: str, channel: str) -> None:
        self.left.append((connection_id, channel))


class FakeMutator:
    """Writes down what it is to change, and confirms it at once."""

    def __init__(self) -> None:
        self.changed: list[tuple[str, Sequence[OutChange | OutAnnotation]]] = []

    def change(
        self,
        channel: str,
        changes: Sequence[OutChange | OutAnnotation],
        who: str,
        done: Callable[[list[str] | ErrorInfo], None],
    ) -> None:
        self.changed.append((channel, changes))
        done([f"v{len(self.changed)}-{index}" for index in range(len(changes))])


class FakeReplays:
    """A log that has nothing more than memory."""

    def resume(self, channel: str, serial: str, answer: Callable[[Any], None]) -> None:
        answer(None)


class FrontDoor:
    """Everything on one port, as a server puts it together."""

    def __init__(self, engine: Any, *, limit: int | None = None, certificates: Certificates | None = None) -> None:
        self.engine = engine
        self.certificates = certificates
        self.publisher = FakePublisher()
        self.presence = FakePresence()
        self.mutator = FakeMutator()
        self.log = FakeLog()
        self.backlog = Backlog(self.log)
        self.watched: list[str] = []
        self.ready = asyncio.Event()
        self.ready.set()
        self.revoked = Revoked()
        authenticator = accepting(KEY, READER + '={"room":["subscribe"]}', STRANGER, revoked=self.revoked)
        settings = SessionSettings()
        table = ConnectionTable(ttl_ms=settings.connection_state_ttl_ms, now=now_ms)
        connection_keys = ConnectionKeys(b"0123456789abcdef")
        self.connections = Connections(
            engine=engine,
            publisher=self.publisher,
            presence=self.presence,
            mutator=self.mutator,
            backlog=self.backlog,
            replays=FakeReplays(),
            watch=self.watched.append,
            open_session=lambda query, authorization, now: open_session(
                query,
                authorization=authorization,
                authenticator=authenticator,
                table=table,
                connection_keys=connection_keys,
                channels=engine,
                settings=settings,
                now_ms=now,
            ),
            reauthenticate=lambda session, token, now: reauthenticate(
                session,
                token,
                authenticator=authenticator,
                connection_keys=connection_keys,
                settings=settings,
                now_ms=now,
            ),
            terms=Terms(self.revoked, now_ms),
            ready=self.ready,
            clock=now_ms,
        )
        api = rest_api(authenticator=authenticator, engine=engine, publisher=self.publisher, clock=now_ms)
        self.handled: list[Request] = []
        most = connection_limit() if limit is None else limit
        self.comet = Comet(
            self.connections,
            authenticator,
            connection_keys,
            has_room=lambda: self.open_connections() < most,
            max_idle_ms=settings.max_idle_ms,
        )
        own = [("GET", "/", self.page), ("POST", "/echo", self.echo), ("GET", "/slow", self.slow)]
        self.router = Router([*rest(api), *self.comet.routes(), *own])
        self.front = Front(self.router, websockets(self.connections), self.connections.turns)
        take, self.tls = self.front.take, None
        if certificates is not None:
            self.tls = TlsDoor(server_context(certificates.certificate, certificates.key), self.front.adopt)
            take = self.tls.take
        self.listener = Listener(take, self.open_connections, self.connections.turns, limit)
        self.release = asyncio.Event()
        self.port = 0

    def open_connections(self) -> int:
        return self.front.open_connections + (self.tls.waiting if self.tls else 0) + len(self.comet)

    async def page(self, request: Request) -> Response:
        self.handled.append(request)
        return Response(200, b"<p>page</p>", "text/html")

    async def echo(self, request: Request) -> Response:
        return Response(200, request.body, "application/octet-stream")

    async def slow(self, _request: Request) -> Response:
        await self.release.wait()
        return Response(200, b"slow")

    @property
    def address(self) -> tuple[str, int]:
        return "127.0.0.1", self.port

    @property
    def fake(self) -> FakeEngine:
        assert isinstance(self.engine, FakeEngine)
        return self.engine

    async def gone(self) -> None:
        """Waits until no connection is left: every test ends here, so that none may linger."""
        for _ in range(300):
            if not self.open_connections():
                break
            await asyncio.sleep(0.01)
        assert self.open_connections() == 0
        assert len(self.connections) == 0


@contextlib.asynccontextmanager
async def front_door(*, limit: int | None = None) -> AsyncIterator[FrontDoor]:
    """With the engine in Python."""
    door = FrontDoor(FakeEngine(), limit=limit)
    door.fake.on_event = door.connections.event
    async with _open(door):
        yield door
    assert not door.fake.connections


@contextlib.asynccontextmanager
async def native_front_door(
    *, io_threads: int = 1, limit: int | None = None, certificates: Certificates | None = None
) -> AsyncIterator[FrontDoor]:
    """With the native engine, which has one partition of an empty log."""
    engine = Engine(io_threads=io_threads, secret=b"0123456789abcdef")
    engine.rules([Rule("topic", "#{key}")])
    engine.partition("topic", b"0" * 16, 0, 0)
    door = FrontDoor(engine, limit=limit, certificates=certificates)
    loop = asyncio.get_running_loop()

    def dispatch() -> None:
        for event in engine.events():
            door.connections.event(*event)

    loop.add_reader(engine.event_fd, dispatch)
    if io_threads == 0:
        loop.add_reader(engine.shard_fd, engine.run_shards)
    async with _open(door):
        yield door
    loop.remove_reader(engine.event_fd)
    if io_threads == 0:
        loop.remove_reader(engine.shard_fd)
    engine.close()


@contextlib.asynccontextmanager
async def _open(door: FrontDoor) -> AsyncIterator[None]:
    door.port = await door.listener.start("127.0.0.1", 0)
    try:
        yield
    finally:
        door.listener.stop()
        if door.tls is not None:
            door.tls.close()
        door.connections.abort_all()
        await door.front.drain(0.2)
    await door.gone()


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, mask: bytes | None = None) -> bytes:
    """One WebSocket frame; masked, as a client's are, if `mask` is given."""
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if mask is not None else 0
    size = len(payload)
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if mask is None:
        return head + payload
    return head + mask + bytes(byte ^ mask[index & 3] for index, byte in enumerate(payload))


def client_frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0) -> bytes:
    """One frame as a client sends it. The mask is zero: masked by form, readable by eye."""
    size = len(payload)
    head = frame(opcode, b"\0" * 0, fin=fin, rsv=rsv)[:1]
    if size < 126:
        head += struct.pack("!B", 0x80 | size)
    elif size < 1 << 16:
        head += struct.pack("!BH", 0x80 | 126, size)
    else:
        head += struct.pack("!BQ", 0x80 | 127, size)
    return head + bytes(4) + payload


def upgrade(query: str = f"key={KEY}&v=6&format=json", **fields: str) -> bytes:
    """An opening handshake; keyword arguments replace its fields (underscores stand for hyphens)."""
    head = {
        "host": "localhost",
        "upgrade": "websocket",
        "connection": "Upgrade",
        "sec-websocket-version": "13",
        "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==",
    } | {name.replace("_", "-"): value for name, value in fields.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items() if value)
    return f"GET /?{query} HTTP/1.1\r\n{lines}\r\n".encode()


class Wire:
    """A client that says what it likes, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, door: FrontDoor) -> "Wire":
        if door.certificates is None:
            return cls(*await asyncio.open_connection(*door.address))
        context = door.certificates.client()
        return cls(*await asyncio.open_connection(*door.address, ssl=context, server_hostname="localhost"))

    @classmethod
    async def websocket(cls, door: FrontDoor, query: str = f"key={KEY}&v=6&format=json") -> "Wire":
        wire = await cls.open(door)
        await wire.say(upgrade(query))
        assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
        return wire

    async def say(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 5)

    async def response(self) -> tuple[int, dict[str, str], bytes]:
        """Status, fields and body of one response."""
        lines = (await self.head()).decode().split("\r\n")
        fields = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        body = await asyncio.wait_for(self.reader.readexactly(int(fields.get("content-length", 0))), 5)
        return int(lines[0].split(" ")[1]), fields, body

    async def frame(self) -> tuple[int, bytes]:
        """Opcode and payload of the next frame."""
        first, size = await asyncio.wait_for(self.reader.readexactly(2), 5)
        if size == 126:
            (size,) = struct.unpack("!H", await self.reader.readexactly(2))
        elif size == 127:
            (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
        return first & 15, await asyncio.wait_for(self.reader.readexactly(size), 5)

    async def message(self) -> dict[str, Any]:
        """The next protocol message on the JSON wire."""
        opcode, payload = await self.frame()
        assert opcode == 1, (opcode, payload)
        message: dict[str, Any] = orjson.loads(payload)
        return message

    async def tell(self, message: dict[str, Any]) -> None:
        await self.say(client_frame(1, orjson.dumps(message)))

    async def closed_with(self) -> int:
        """The code of the CLOSE that ends the connection; skips what comes before it."""
        while True:
            opcode, payload = await self.frame()
            if opcode == 8:
                assert await asyncio.wait_for(self.reader.read(), 5) == b""
                return int(struct.unpack("!H", payload[:2])[0])

    async def end(self) -> bytes:
        """Everything until the server closes."""
        with contextlib.suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(), 10)
        return b""

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):
            await self.writer.wait_closed()
