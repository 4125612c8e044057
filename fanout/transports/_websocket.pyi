"""The WebSocket side of a connection (RFC 6455): picows parses, the engine writes."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol, final

FRAGMENTS_MAX: Final[int]
INCOMPLETE_BYTES: Final[int]
MESSAGE_BYTES: Final[int]

class Driver(Protocol):
    """What a connection reports to."""

    def connected(self) -> None: ...
    def may_speak(self, *, brief: bool) -> bool:
        """Asked before each frame. Who says no has paused the connection, which keeps the frame."""
    def message(self, payload: bytes, is_text: bool) -> None: ...
    def leaving(self) -> None:
        """The engine is about to forget the connection."""
    def disconnected(self) -> None: ...
    def writable(self) -> None:
        """There is room for more, over TLS: `WebSocket.write_some` is to be called."""

class Reader:
    """What the connections of a node share: the buffer that they are read into, picows' parser, and the room for what
    is incomplete.
    """

@final
class WebSocket(asyncio.BufferedProtocol):
    """One connection, between its transport, the engine and its driver. Belongs to the event loop."""

    handle: int
    """The engine's number of this connection, 0 while it has none."""

    def __init__(self, reader: Reader, engine: Any, driver: Driver, gone: Callable[[], None]) -> None:
        """`gone` is called once, when the connection's descriptor is about to be closed."""
    def start(self, transport: asyncio.Transport, fd: int, rest: bytes) -> None:
        """Takes a transport over whose client has been answered 101; `fd` is -1 over TLS, `rest` what came after the
        request.
        """
    def register(self, wire: int, connection_id: str, heartbeat_frames: bool) -> int:
        """Gives the outgoing side to the engine and returns its handle."""
    def pause(self) -> None:
        """Hears nothing more, until `resume`."""
    def resume(self) -> None:
        """Goes on with what had been read. Not to be called from `message`."""
    def write_some(self) -> bool:
        """Sends on what the engine has for a client over TLS, a piece of it; whether there may be more to send now."""
    def finish(self, code: int, reason: str = ...) -> None:
        """Begins the closing handshake after all that was queued; nothing more is heard from the client."""
    def cut(self) -> None:
        """Ends the connection at once."""
    def get_buffer(self, sizehint: int) -> memoryview: ...
    def buffer_updated(self, nbytes: int) -> None: ...
