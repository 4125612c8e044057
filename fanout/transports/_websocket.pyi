"""The WebSocket side of a connection (RFC 6455): picows reads, the engine writes."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

FRAGMENTS_MAX: Final[int]
MESSAGE_BYTES: Final[int]

class Driver(Protocol):
    """What a listener reports to."""

    def connected(self) -> None: ...
    def message(self, payload: bytes, is_text: bool) -> None: ...
    def disconnected(self) -> None: ...

class Listener:
    """One connection, between picows, the engine and its driver. Belongs to the event loop."""

    handle: int
    """The engine's number of this connection, 0 while it has none."""

    def __init__(self, engine: Any, driver: Driver, gone: Callable[[], None]) -> None:
        """`gone` is called once, when the connection's descriptor is about to be closed."""
    def register(self, wire: int, connection_id: str, heartbeat_frames: bool) -> int:
        """Gives the outgoing side to the engine and returns its handle."""
    def pause(self) -> None:
        """Stops reading, until `resume`."""
    def resume(self) -> None: ...
    def finish(self, code: int, reason: str = ...) -> None:
        """Begins the closing handshake after all that was queued; nothing more is read from the client."""
    def cut(self) -> None:
        """Ends the connection at once."""

def hand_over(transport: asyncio.Transport, key: str, listener: Listener, rest: bytes) -> None:
    """Lets picows speak WebSocket on a transport whose client asked for it with Sec-WebSocket-Key `key`.

    `rest` is what arrived after the request. The write buffer of `transport` must be empty.
    """
