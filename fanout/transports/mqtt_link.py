"""The connection of an MQTT client over TCP or TLS, between its transport, the engine and its driver.

- What comes in is handed to the driver as it comes, which holds what it does not hear yet; while it is paused nothing
  is read.
- The engine writes; over TLS, where only the transport may write, all that the engine has goes through that.

Belongs to the event loop. A delivery to a client makes no call here, except over TLS.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, Final, Protocol

from fanout.transports.engine_link import WRITE_BYTES, Driven, EngineLink

__all__ = ["MqttLink", "Speaking"]

log = logging.getLogger(__name__)

_UNREAD_BYTES: Final = 64 << 10  # encrypted, of a client that is not heard just now
_DROPPED_MAX: Final = 1 << 20  # bytes that a client may send into a closing connection
_GOODBYE_SECONDS: Final = 5.0  # for the client to close its side


class Speaking(Driven, Protocol):
    """What the link reports to; the driver of an MQTT connection."""

    def connected(self) -> None:
        """The connection is there."""

    def feed(self, data: bytes) -> None:
        """The client has sent this."""

    def leaving(self) -> None:
        """The connection is about to be the engine's no more."""


class MqttLink(EngineLink[Speaking]):
    """See the module's text, and `fanout.transports.driver.Link`."""

    __slots__ = ("_timer",)

    def __init__(self, engine: Any, fd: int, driver: Speaking, gone: Callable[[], None]) -> None:
        """`fd` is -1 over TLS; `gone` is called once, when the connection is over."""
        super().__init__(engine, driver, fd, gone)
        self._timer: asyncio.TimerHandle | None = None

    # -- for the driver --

    def pause(self) -> None:
        """See `Link`."""
        if self._tcp is not None and not self._closing:
            self._tcp.pause_reading()

    def resume(self) -> None:
        """See `Link`."""
        if self._tcp is not None and not self._closing:
            self._tcp.resume_reading()

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

    # -- what the transport tells --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket was accepted, and the handshake is over."""
        assert self._driver is not None
        self._tcp = transport  # type: ignore[assignment]  # uvloop's transports only quack like it
        if self._fd < 0:
            self._tcp.set_write_buffer_limits(WRITE_BYTES)  # type: ignore[union-attr]
            self._tcp.set_read_buffer_limits(high=_UNREAD_BYTES)  # type: ignore[union-attr]
        self._driver.connected()

    def data_received(self, data: bytes) -> None:
        """The client has sent something."""
        if self._closing:
            self._drop(data, _DROPPED_MAX)
            return
        assert self._driver is not None
        try:
            self._driver.feed(data)
        except Exception:
            log.exception("a packet could not be dealt with")
            self.cut()

    def _leaving(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        assert self._driver is not None
        self._driver.leaving()
