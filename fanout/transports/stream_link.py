"""The connection of a stream, between its transport, the engine and its driver.

- The engine writes the socket from the moment on at which the head of the response is written; over TLS, where only the
  transport may write, all that the engine has goes through that, as far as it has room.
- A client has nothing to say once it has asked. What it sends is dropped, and it is cut off when that is much.
- A client that takes nothing is cut off by the engine.

Belongs to the event loop. A delivery to a client makes no call here, except over TLS.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Protocol

__all__ = ["StreamLink", "Streaming"]

log = logging.getLogger(__name__)

_WRITE_BYTES: Final = 64 << 10  # taken from the engine at once for a client over TLS
_DROPPED_MAX: Final = 64 << 10
_FORGET: Final = struct.pack("ii", 1, 0)  # the kernel keeps nothing for a peer that takes nothing


class Streaming(Protocol):
    """What the link reports to; the driver of a stream."""

    def begin(self) -> None:
        """The connection is the engine's to write."""

    def writable(self) -> None:
        """The transport has room."""

    def disconnected(self) -> None:
        """The connection is gone."""


class StreamLink(asyncio.Protocol):
    """See the module's text, and `fanout.transports.driver.Link`."""

    __slots__ = ("_closing", "_driver", "_dropped", "_engine", "_fd", "_full", "_gone", "_handle", "_tcp")

    def __init__(self, engine: Any, driver: Streaming) -> None:
        self._engine = engine
        self._driver: Streaming | None = driver
        self._gone: Callable[[], None] | None = None
        self._tcp: asyncio.Transport | None = None
        self._fd = -1
        self._handle = 0
        self._dropped = 0
        self._full = False
        self._closing = False

    def start(self, transport: asyncio.Transport, fd: int, gone: Callable[[], None]) -> None:
        """Takes a transport over; see `fanout.transports.http.Streamed`."""
        self._tcp, self._fd, self._gone = transport, fd, gone
        transport.set_protocol(self)
        if transport.is_closing() or (fd >= 0 and transport.get_write_buffer_size()):
            self.cut()  # the head did not fit into an empty socket: never let two write at once
            return
        if fd < 0:
            transport.set_write_buffer_limits(_WRITE_BYTES)
        transport.resume_reading()
        try:
            assert self._driver is not None
            self._driver.begin()
        except Exception:
            log.exception("a stream could not be begun")
            self.cut()

    # -- for the driver --

    def register(self, wire: int, connection_id: str, heartbeat_frames: bool, /) -> int:
        """See `Link`."""
        if self._fd >= 0:
            self._handle = self._engine.register(self._fd, wire, connection_id, heartbeat_frames)
        else:
            self._handle = self._engine.register_pipe(wire, connection_id, heartbeat_frames)
        return self._handle

    def pause(self) -> None:
        """See `Link`: nothing is heard anyway."""

    def resume(self) -> None:
        """See `Link`."""

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
        if self._handle and not self._closing:
            self._closing = True
            self._engine.finish(self._handle, code)

    def cut(self) -> None:
        """See `Link`."""
        self._closing = True
        if self._tcp is not None:
            self._tcp.abort()

    # -- what the transport tells --

    def data_received(self, data: bytes) -> None:
        """The client speaks out of turn."""
        self._dropped += len(data)
        if self._dropped > _DROPPED_MAX:
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
        if self._handle:
            self._engine.unregister(self._handle)
        if self._tcp is not None and self._fd >= 0:
            self._tcp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET)
        driver, gone = self._driver, self._gone
        self._tcp = self._driver = self._gone = None
        try:
            if driver is not None:
                driver.disconnected()
        finally:
            if gone is not None:
                gone()
