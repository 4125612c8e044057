"""A TCP connection that the engine writes and the loop reads: what is the same for every protocol without frames of its
own.

- The engine writes the socket itself. Over TLS, where only the transport may write, all that the engine has goes
  through that, as far as it has room.
- The engine lets go of the socket before it is closed, and is handed nothing after that.

Belongs to the event loop. A delivery to a client makes no call here, except over TLS.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar

__all__ = ["WRITE_BYTES", "Driven", "EngineLink"]

WRITE_BYTES: Final = 64 << 10
"""Taken from the engine at once for a client over TLS."""

_FORGET: Final = struct.pack("ii", 1, 0)  # the kernel keeps nothing for a peer that takes nothing


class Driven(Protocol):
    """What a link reports to: the driver of its connection."""

    def writable(self) -> None:
        """The transport has room."""

    def disconnected(self) -> None:
        """The connection is gone."""


D = TypeVar("D", bound=Driven)


class EngineLink(asyncio.Protocol, Generic[D]):
    """See the module's text, and `fanout.transports.driver.Link`."""

    __slots__ = ("_closing", "_driver", "_dropped", "_engine", "_fd", "_full", "_gone", "_handle", "_tcp")

    def __init__(self, engine: Any, driver: D, fd: int, gone: Callable[[], None]) -> None:
        """`fd` is -1 over TLS; `gone` is called once, when the connection is over."""
        self._engine = engine
        self._driver: D | None = driver
        self._fd = fd
        self._gone = gone
        self._tcp: asyncio.Transport | None = None
        self._handle = 0
        self._dropped = 0
        self._full = False
        self._closing = False

    # -- for the driver --

    def register(self, wire: int, connection_id: str, heartbeat_frames: bool, /) -> int:
        """See `Link`."""
        if self._fd >= 0:
            self._handle = self._engine.register(self._fd, wire, connection_id, heartbeat_frames)
        else:
            self._handle = self._engine.register_pipe(wire, connection_id, heartbeat_frames)
        return self._handle

    def write_some(self) -> bool:
        """See `Link`."""
        if self._tcp is None or self._full or not self._handle:
            return False
        piece = self._engine.take(self._handle, WRITE_BYTES)
        if piece:
            self._tcp.write(piece)
        elif piece is None:
            self._closing = True
            self._tcp.close()  # sends what is left, and TLS's own end
        return bool(piece)

    def cut(self) -> None:
        """See `Link`."""
        self._closing = True
        if self._tcp is not None:
            self._tcp.abort()

    # -- for subclasses --

    def _drop(self, data: bytes, most: int) -> None:
        """Drops what the client says out of turn; cuts it off when that is more than so many bytes in all."""
        self._dropped += len(data)
        if self._dropped > most:
            self.cut()

    def _leaving(self) -> None:
        """The connection is about to be the engine's no more."""

    # -- what the transport tells --

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
        self._leaving()
        if self._handle:
            self._engine.unregister(self._handle)
        if self._tcp is not None and self._fd >= 0:
            self._tcp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET)
        driver = self._driver
        assert driver is not None
        self._tcp = self._driver = None
        try:
            driver.disconnected()
        finally:
            self._gone()
