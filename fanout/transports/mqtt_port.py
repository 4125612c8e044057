"""Where MQTT clients come in: a port of their own, and WebSocket's subprotocol `mqtt` on the common one.

Over the port they speak TLS where the common port does. Belongs to the event loop.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fanout.transports._websocket import Reader, WebSocket
from fanout.transports.front import UpgradeHandler
from fanout.transports.http import Request
from fanout.transports.mqtt import MqttClient
from fanout.transports.mqtt_driver import Shared
from fanout.transports.mqtt_link import MqttLink
from fanout.transports.websocket import switching

__all__ = ["SUBPROTOCOL", "MqttPort", "mqtt_websockets"]

SUBPROTOCOL: Final = "mqtt"
"""As it is registered for WebSocket (MQTT 5.0 §6)."""

_HANDSHAKE_SECONDS: Final = 5.0
_GOODBYE_SECONDS: Final = 5.0  # for what is still to be sent over TLS, and for the client's end of it


class MqttPort:
    """Makes MQTT connections of accepted sockets."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._adopting: set[asyncio.Task[None]] = set()
        self.open_connections = 0
        """Connections that came through here and are not gone."""

    def take(self, accepted: socket.socket) -> None:
        """Becomes the owner of a connected, non-blocking socket."""
        task = asyncio.get_running_loop().create_task(self.adopt(accepted))
        self._adopting.add(task)
        task.add_done_callback(self._adopting.discard)

    def adopt(self, accepted: socket.socket, context: ssl.SSLContext | None = None) -> Coroutine[Any, Any, None]:
        """Likewise, over TLS if there is a context. What it returns ends with the handshake, however that went."""
        self.open_connections += 1
        return self._adopt(accepted, context)

    async def _adopt(self, accepted: socket.socket, context: ssl.SSLContext | None) -> None:
        loop = asyncio.get_running_loop()
        fd = accepted.fileno() if context is None else -1
        try:
            if context is None:
                await loop.connect_accepted_socket(lambda: self._link(fd), accepted)
            else:
                await loop.connect_accepted_socket(
                    lambda: self._link(fd),
                    accepted,
                    ssl=context,
                    ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=_GOODBYE_SECONDS,
                )
        except OSError:  # gone already, or the handshake has failed
            accepted.close()
            self.open_connections -= 1

    def _link(self, fd: int) -> MqttLink:
        driver = MqttClient(self._shared, framed=False)
        link = driver.link = MqttLink(self._shared.connections.engine, fd, driver, self._gone)
        return link

    def _gone(self) -> None:
        self.open_connections -= 1


def mqtt_websockets(shared: Shared) -> UpgradeHandler:
    """What takes over the transports whose clients ask to speak MQTT over WebSocket; they share one reader."""
    reader = Reader()

    def accept(transport: asyncio.Transport, fd: int, request: Request, rest: bytes, gone: Callable[[], None]) -> None:
        driver = MqttClient(shared, framed=True)
        link = WebSocket(reader, shared.connections.engine, driver, gone)
        driver.link = link
        transport.write(switching(request, SUBPROTOCOL))
        link.start(transport, fd, rest)

    return accept
