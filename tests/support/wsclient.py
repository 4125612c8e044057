"""A protocol client without an SDK: lean enough for thousands in one test process, and able to misbehave.

It does what SDKs do where that matters for exactness: it remembers each channel's last `channelSerial`, comes back
after a cut with its connection key, attaches its channels again from those serials, and sends again what was not
acknowledged. Times are in seconds. Everything belongs to the loop that connected it.
"""

import asyncio
import base64
import contextlib
import itertools
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import msgspec
import orjson
from picows import WSCloseCode, WSError, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from fanout.audit.views import Received
from fanout.wire import Action

__all__ = ["ATTACH", "DETACH", "MESSAGE", "RESUMED", "ProtocolError", "RawClient", "text_of"]

HEARTBEAT, CONNECTED, ERROR = Action.HEARTBEAT, Action.CONNECTED, Action.ERROR
ATTACH, ATTACHED, DETACH, MESSAGE = Action.ATTACH, Action.ATTACHED, Action.DETACH, Action.MESSAGE
RESUMED = 1 << 2  # of ATTACHED's flags
ANSWER_S = 20
RETRY_S = 0.2

logging.getLogger("picows").setLevel(logging.WARNING)  # or it tells of each of thousands of connections


class ProtocolError(Exception):
    """The server answered with an error. `code` is its number."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(f"{error['message']} ({error['code']})")
        self.code: int = error["code"]


def text_of(data: Any) -> str:
    """Text of a payload as every client of the tests gives it: text as it is, bytes in hex."""
    return data.hex() if isinstance(data, bytes) else str(data)


@dataclass(slots=True)
class _Pending:
    """One publish until its ACK."""

    frame: dict[str, Any]
    answer: "asyncio.Future[list[str]]"


@dataclass(slots=True)
class _Channel:
    attach: dict[str, Any]
    serial: str | None = None
    answer: "asyncio.Future[dict[str, Any]] | None" = None
    attached: list[dict[str, Any]] = field(default_factory=list)


class RawClient:
    """One client. `received` holds what came, by channel, unless `on_message(channel, message)` takes it instead."""

    def __init__(
        self,
        port: int,
        key: str,
        wire: str = "json",
        *,
        query: Mapping[str, str] | None = None,
        source: str = "127.0.0.1",
        receive_buffer: int | None = None,
        on_message: Callable[[str, dict[str, Any]], None] | None = None,
    ) -> None:
        """`query` has more parameters of the URL, or others.

        Connects from the address `source` of this machine; `receive_buffer` is the socket's, in bytes.
        """
        self.port = port
        self.received: dict[str, list[Received]] = {}
        self.frames: deque[dict[str, Any]] = deque(maxlen=100)
        """The last frames that no method here waits for: errors, DISCONNECTED, heartbeats."""
        self.hello: dict[str, Any] = {}
        """The last CONNECTED."""
        self.connection_id: str | None = None
        self.close_code: int | None = None
        self.connections = 0
        self._query = {"v": "5", "format": wire, "key": key} | dict(query or {})
        self._binary = wire == "msgpack"
        self._source = source
        self._receive_buffer = receive_buffer
        self._on_message = on_message or self._keep
        self._connection_key: str | None = None
        self._channels: dict[str, _Channel] = {}
        self._pending: dict[int, _Pending] = {}
        self._serials = itertools.count()
        self._opened: socket.socket
        self._transport: WSTransport | None = None
        self._connected: asyncio.Future[None] | None = None
        self._returning: asyncio.Task[None] | None = None
        self._stays_away = False
        self._gone = asyncio.Event()
        self._changed = asyncio.Event()

    # -- connection --

    async def connect(self) -> "RawClient":
        """Returns once the server has said CONNECTED. Raises ProtocolError when it refuses, WSError or OSError else."""
        if self._connection_key is not None:
            self._query["resume"] = self._connection_key
        url = f"ws://127.0.0.1:{self.port}/?{urlencode(self._query)}"
        self._connected = asyncio.get_running_loop().create_future()
        self._gone.clear()
        try:
            _, listener = await ws_connect(
                lambda: _Listener(self), url, read_buffer_init_size=4096, socket_factory=self._socket, max_redirects=0
            )
        except OSError:  # nobody listens: picows leaves the socket to whoever made it
            self._opened.close()
            raise
        if listener is None:  # how picows says that the peer closed in the middle of the handshake
            raise ConnectionResetError("cut before the handshake was done")
        async with asyncio.timeout(ANSWER_S):
            await self._connected
        return self

    @property
    def is_connected(self) -> bool:
        """Whether the server has said CONNECTED on the transport of now."""
        return self._transport is not None and self._connected is not None and self._connected.done()

    def cut(self) -> None:
        """Resets the connection."""
        if self._transport is not None:
            tcp = self._transport.underlying_transport
            tcp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            tcp.abort()

    async def close(self) -> None:
        """Ends the connection for good, without a word."""
        self._stays_away = True
        if self._returning is not None:
            self._returning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._returning
        if self._transport is not None:
            self._transport.underlying_transport.abort()
            await self._gone.wait()

    async def ended(self) -> int | None:
        """Waits until the server has ended the connection, and does not come back; returns the code of its CLOSE."""
        self._stays_away = True
        async with asyncio.timeout(ANSWER_S):
            await self._gone.wait()
        return self.close_code

    def pause(self) -> None:
        """Stops reading from the socket."""
        assert self._transport is not None
        self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        assert self._transport is not None
        self._transport.underlying_transport.resume_reading()

    # -- protocol --

    def send(self, frame: dict[str, Any]) -> None:
        """One frame, as it is."""
        self.send_bytes(msgspec.msgpack.encode(frame) if self._binary else orjson.dumps(frame))

    def send_bytes(self, payload: bytes, *, binary: bool | None = None) -> None:
        """One WebSocket message of any content; of the wire's own kind unless told."""
        assert self._transport is not None
        is_binary = self._binary if binary is None else binary
        self._transport.send(WSMsgType.BINARY if is_binary else WSMsgType.TEXT, payload)

    async def attach(self, channel: str, **fields: Any) -> dict[str, Any]:
        """Returns ATTACHED. Raises ProtocolError when the channel is refused."""
        state = self._channels[channel] = _Channel({"action": ATTACH, "channel": channel, **fields})
        state.answer = asyncio.get_running_loop().create_future()
        self.send(state.attach)
        async with asyncio.timeout(ANSWER_S):
            return await state.answer

    def attached(self, channel: str) -> list[dict[str, Any]]:
        """Every ATTACHED of this channel, in order."""
        return self._channels[channel].attached

    async def publish(self, channel: str, *messages: dict[str, Any]) -> list[str]:
        """Returns the serials once the server has acknowledged; survives cuts. Raises ProtocolError for a NACK."""
        number = next(self._serials)
        frame = {"action": MESSAGE, "channel": channel, "msgSerial": number, "messages": messages}
        pending = self._pending[number] = _Pending(frame, asyncio.get_running_loop().create_future())
        if self.is_connected:
            self.send(frame)  # else it goes out after CONNECTED
        return await pending.answer

    async def until(self, reached: Callable[[], bool], timeout: float = ANSWER_S) -> None:  # noqa: ASYNC109
        """Waits for a condition on what came; it is asked after every frame. Raises TimeoutError."""
        async with asyncio.timeout(timeout):
            while not reached():
                self._changed.clear()
                await self._changed.wait()

    # -- what comes --

    def _socket(self, _: Any) -> socket.socket:
        opened = self._opened = socket.socket()
        opened.setblocking(False)
        if self._receive_buffer is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self._receive_buffer)
        opened.bind((self._source, 0))
        return opened

    def _keep(self, channel: str, message: dict[str, Any]) -> None:
        self.received.setdefault(channel, []).append(Received(message["id"], self._payload(message)))

    def _payload(self, message: dict[str, Any]) -> str:
        data: Any = message.get("data")
        return text_of(base64.b64decode(data) if message.get("encoding") == "base64" else data)

    def _frame(self, payload: bytes) -> None:
        frame = msgspec.msgpack.decode(payload) if self._binary else orjson.loads(payload)
        match frame["action"]:
            case Action.MESSAGE:
                channel = frame["channel"]
                self._channels[channel].serial = frame["channelSerial"]
                for message in frame["messages"]:
                    self._on_message(channel, message)
            case Action.ATTACHED:
                self._is_attached(frame)
            case Action.CONNECTED:
                self._is_connected(frame)
            case Action.ACK | Action.NACK:
                self._is_answered(frame)
            case Action.ERROR:
                self._is_refused(frame)
            case _:
                self.frames.append(frame)
        self._changed.set()

    def _is_connected(self, frame: dict[str, Any]) -> None:
        self.connections += 1
        self.hello = frame
        self._connection_key = frame["connectionDetails"]["connectionKey"]
        if self.connection_id is not None and frame["connectionId"] != self.connection_id:
            self.frames.append(frame)  # refused to resume: an SDK would count its publishes anew
        self.connection_id = frame["connectionId"]
        for channel in self._channels.values():
            self.send(channel.attach | ({"channelSerial": channel.serial} if channel.serial else {}))
        for pending in self._pending.values():
            self.send(pending.frame)
        assert self._connected is not None
        self._connected.set_result(None)

    def _is_attached(self, frame: dict[str, Any]) -> None:
        channel = self._channels[frame["channel"]]
        channel.serial = frame["channelSerial"]
        channel.attached.append(frame)
        if channel.answer is not None and not channel.answer.done():
            channel.answer.set_result(frame)

    def _is_answered(self, frame: dict[str, Any]) -> None:
        first = frame["msgSerial"]
        if first not in self._pending:  # of a frame that `send` sent
            self.frames.append(frame)
            return
        for index in range(frame["count"]):
            pending = self._pending.pop(first + index)
            if "error" in frame:
                pending.answer.set_exception(ProtocolError(frame["error"]))
            else:
                pending.answer.set_result(frame["res"][index]["serials"])

    def _is_refused(self, frame: dict[str, Any]) -> None:
        channel = self._channels.get(frame.get("channel", ""))
        if channel is not None and channel.answer is not None and not channel.answer.done():
            channel.answer.set_exception(ProtocolError(frame["error"]))
            del self._channels[frame["channel"]]
        elif "channel" not in frame and self._connected is not None and not self._connected.done():
            self._stays_away = True
            self._connected.set_exception(ProtocolError(frame["error"]))
        else:
            self.frames.append(frame)

    def _lost(self) -> None:
        self._transport = None
        self._gone.set()
        if self._connected is not None and not self._connected.done():
            self._connected.set_exception(ConnectionResetError("cut before CONNECTED"))
        elif not self._stays_away and self._returning is None:
            self._returning = asyncio.create_task(self._return())
        self._changed.set()

    async def _return(self) -> None:
        while True:
            try:
                await self.connect()
            except (OSError, WSError, TimeoutError):
                await asyncio.sleep(RETRY_S)
                continue
            if self._transport is not None:  # else it was cut again meanwhile
                self._returning = None
                return


class _Listener(WSListener):
    def __init__(self, client: RawClient) -> None:
        self._client = client

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._client._transport = transport

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self._client._frame(frame.get_payload_as_bytes())
        elif frame.msg_type == WSMsgType.CLOSE:
            code: Any = frame.get_close_code()
            self._client.close_code = int(code)
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self._client._lost()
