"""The connection of an MQTT client over TCP or TLS, between its transport, the engine and its driver.

- What comes in is handed to the driver as it comes, which holds what it does not hear yet; while it is paused nothing
  is read.
- The engine writes; over TLS, where only the transport may write, all that the engine has goes through that.
- Peers that vanish without a word are noticed by TCP, for clients that promise no pings.

Belongs to the event loop. A delivery to a client makes no call here, except over TLS.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["MqttLink", "Speaking"]

log = logging.getLogger(__name__)

_WRITE_BYTES: Final = 64 << 10  # taken from the engine at once for a client over TLS
_UNREAD_BYTES: Final = 64 << 10  # encrypted, of a client that is not heard just now
_DROPPED_MAX: Final = 1 << 20  # bytes that a client may send into a closing connection
_GOODBYE_SECONDS: Final = 5.0  # for the client to close its side
_FORGET: Final = struct.pack("ii", 1, 0)  # the kernel keeps nothing for a peer that takes nothing
_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


class Speaking(Protocol):
    """What the link reports to; the driver of an MQTT connection."""

    def connected(self) -> None:
        """The connection is there."""

    def feed(self, data: bytes) -> None:
        """The client has sent this."""

    def writable(self) -> None:
        """The transport has room."""

    def leaving(self) -> None:
        """The connection is about to be the engine's no more."""

    def disconnected(self) -> None:
        """It is gone."""


class MqttLink(asyncio.Protocol):
    """See the module's text, and `fanout.transports.driver.Link`."""

    __slots__ = ("_closing", "_driver", "_dropped", "_engine", "_fd", "_full", "_gone", "_handle", "_tcp", "_timer")

    def __init__(self, engine: Any, fd: int, driver: Speaking, gone: Callable[[], None]) -> None:
        """`fd` is -1 over TLS; `gone` is called once, when the connection is over."""
        self._engine = engine
        self._fd = fd
        self._driver: Speaking | None = driver
        self._gone: Callable[[], None] = gone
        self._tcp: asyncio.Transport | None = None
        self._handle = 0
        self._dropped = 0
        self._full = False
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None

    # -- for the driver --

    def register(self, wire: int, connection_id: str, heartbeat_frames: bool, /) -> int:
        """See `Link`."""
        if self._fd >= 0:
            self._handle = self._engine.register(self._fd, wire, connection_id, heartbeat_frames)
        else:
            self._handle = self._engine.register_pipe(wire, connection_id, heartbeat_frames)
        return self._handle

    def pause(self) -> None:
        """See `Link`."""
        if self._tcp is not None and not self._closing:
            self._tcp.pause_reading()

    def resume(self) -> None:
        """See `Link`."""
        if self._tcp is not None and not self._closing:
            self._tcp.resume_reading()

    def write_some(self) -> bool:
        """See `Link`."""
        if self._tcp is None or self._full or not self._handle:
            return False
        piece = self._engine.take(self._handle, _WRITE_BYTES)
        if piece:
            self._tcp.write(piece)
        elif piece is None:
            self._closing = True
            self._tcp.close()  # sends what is left, and TLS's own end
        return bool(piece)

    def finish(self, code: int, /) -> None:
        """See `Link`."""
        if self._tcp is None or self._closing:
            return
        self._closing = True
        if self._handle:
            self._engine.finish(self._handle, code)
            self._tcp.resume_reading()
            self._timer = asyncio.get_running_loop().call_later(_GOODBYE_SECONDS, self.cut)
        else:
            self._tcp.abort()

    def cut(self) -> None:
        """See `Link`."""
        self._closing = True
        if self._tcp is not None:
            self._tcp.abort()

    # -- what the transport tells --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket was accepted, and the handshake is over."""
        assert self._driver is not None
        self._tcp = transport  # type: ignore[assignment]  # uvloop's transports only quack like it
        if self._fd < 0:
            self._tcp.set_write_buffer_limits(_WRITE_BYTES)  # type: ignore[union-attr]
            self._tcp.set_read_buffer_limits(high=_UNREAD_BYTES)  # type: ignore[union-attr]
        for option in _KEEPALIVE:
            transport.get_extra_info("socket").setsockopt(*option)
        self._driver.connected()

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        if self._closing:
            self._dropped += len(data)
            if self._dropped > _DROPPED_MAX:
                self.cut()
            return
        assert self._driver is not None
        try:
            self._driver.feed(data)
        except Exception:
            log.exception("a packet could not be dealt with")
            self.cut()

    def pause_writing(self) -> None:
        """The transport has enough to send; only over TLS is it given anything."""
        self._full = True

    def resume_writing(self) -> None:
        """It has room again."""
        self._full = False
        if self._driver is not None:
            self._driver.writable()

    def eof_received(self) -> bool:
        """The client has closed its side: the transport is to close too."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is about to be closed, and is not touched by the engine after this."""
        if self._timer is not None:
            self._timer.cancel()
        driver = self._driver
        assert driver is not None
        driver.leaving()
        if self._handle:
            self._engine.unregister(self._handle)
        if self._tcp is not None and self._fd >= 0:
            self._tcp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET)
        self._tcp = self._driver = None
        try:
            driver.disconnected()
        finally:
            self._gone()
