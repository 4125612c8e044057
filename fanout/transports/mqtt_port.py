"""Where MQTT clients come in: a port of their own, and WebSocket's subprotocol `mqtt` on the common one.

Over the port they speak TLS where the common port does. Belongs to the event loop.
"""

import asyncio
import socket
import ssl
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fanout.transports._websocket import Reader, WebSocket
from fanout.transports.adopting import Adopting
from fanout.transports.front import UpgradeHandler
from fanout.transports.http import Request
from fanout.transports.mqtt import MqttClient
from fanout.transports.mqtt_driver import Shared
from fanout.transports.mqtt_link import MqttLink
from fanout.transports.websocket import switching

__all__ = ["SUBPROTOCOL", "MqttPort", "mqtt_websockets"]

SUBPROTOCOL: Final = "mqtt"
"""As it is registered for WebSocket (MQTT 5.0 §6)."""

_KEEPALIVE: Final = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 60),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
)


class MqttPort(Adopting):
    """Makes MQTT connections of accepted sockets."""

    def __init__(self, shared: Shared) -> None:
        super().__init__()
        self._shared = shared

    def adopt(self, accepted: socket.socket, context: ssl.SSLContext | None = None) -> Coroutine[Any, Any, None]:
        """See `Adopting`. Peers that vanish without a word are noticed by TCP, for clients that promise no pings."""
        for option in _KEEPALIVE:
            accepted.setsockopt(*option)
        return super().adopt(accepted, context)

    def _connection(self, fd: int) -> MqttLink:
        driver = MqttClient(self._shared, framed=False)
        link = driver.link = MqttLink(self._shared.connections.engine, fd, driver, self.gone)
        return link


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
