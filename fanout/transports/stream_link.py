"""The connection of a stream, between its transport, the engine and its driver.

- The engine writes the socket from the moment on at which the head of the response is written; over TLS, where only the
  transport may write, all that the engine has goes through that, as far as it has room.
- A client has nothing to say once it has asked. What it sends is dropped, and it is cut off when that is much.
- A client that takes nothing is cut off by the engine.

Belongs to the event loop. A delivery to a client makes no call here, except over TLS.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from fanout.transports.engine_link import WRITE_BYTES, Driven, EngineLink

__all__ = ["StreamLink", "Streaming"]

log = logging.getLogger(__name__)

_DROPPED_MAX: Final = 64 << 10


class Streaming(Driven, Protocol):
    """What the link reports to; the driver of a stream."""

    def begin(self) -> None:
        """The connection is the engine's to write."""


class StreamLink(EngineLink[Streaming]):
    """See the module's text, and `fanout.transports.driver.Link`."""

    __slots__ = ()

    def __init__(self, engine: Any, driver: Streaming) -> None:
        super().__init__(engine, driver, -1, _unheard)

    def start(self, transport: asyncio.Transport, fd: int, gone: Callable[[], None]) -> None:
        """Takes a transport over; see `fanout.transports.http.Streamed`."""
        self._tcp, self._fd, self._gone = transport, fd, gone
        transport.set_protocol(self)
        if transport.is_closing() or (fd >= 0 and transport.get_write_buffer_size()):
            self.cut()  # the head did not fit into an empty socket: never let two write at once
            return
        if fd < 0:
            transport.set_write_buffer_limits(WRITE_BYTES)
        transport.resume_reading()
        try:
            assert self._driver is not None
            self._driver.begin()
        except Exception:
            log.exception("a stream could not be begun")
            self.cut()

    # -- for the driver --

    def pause(self) -> None:
        """See `Link`: nothing is heard anyway."""

    def resume(self) -> None:
        """See `Link`."""

    def finish(self, code: int, /) -> None:
        """See `Link`."""
        if self._handle and not self._closing:
            self._closing = True
            self._engine.finish(self._handle, code)

    # -- what the transport tells --

    def data_received(self, data: bytes) -> None:
        """The client speaks out of turn."""
        self._drop(data, _DROPPED_MAX)


def _unheard() -> None:
    """The end of a stream that has not started."""
