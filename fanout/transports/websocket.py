"""Realtime connections over WebSocket (RFC 6455): answers the opening handshake, and decodes what a client sends.

Text frames are JSON and binary frames MessagePack; a client that sends the one and asked for the other is told so and
closed. Everything belongs to the event loop.
"""

import asyncio
import base64
import hashlib
from collections.abc import Callable, Mapping
from typing import Final

from fanout.errors import ClientError, error
from fanout.session.params import requested_wire
from fanout.transports._websocket import Reader, WebSocket
from fanout.transports.connections import Connections
from fanout.transports.driver import Driver
from fanout.transports.front import UpgradeHandler
from fanout.transports.http import Request
from fanout.wire import JSON, decode

__all__ = ["by_subprotocol", "switching", "websockets"]

_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3


def websockets(connections: Connections) -> UpgradeHandler:
    """What takes over the transports whose clients ask to speak WebSocket; they share one reader."""
    reader = Reader()

    def accept(transport: asyncio.Transport, fd: int, request: Request, rest: bytes, gone: Callable[[], None]) -> None:
        driver = _Client(connections, request, requested_wire(request.query))
        link = WebSocket(reader, connections.engine, driver, gone)
        driver.link = link
        transport.write(switching(request))
        link.start(transport, fd, rest)

    return accept


class _Client(Driver):
    """The driver of one WebSocket."""

    __slots__ = ()

    def message(self, payload: bytes, is_text: bool) -> None:
        """The client has sent one whole message."""
        if is_text != (self.wire == JSON):
            self.fail(error(40000, "text frames are JSON and binary frames MessagePack, as `format` asked for"))
            return
        try:
            frame = decode(payload, self.wire)
        except ClientError as refused:
            self.fail(refused.info)
        else:
            self.receive(frame)


def by_subprotocol(handlers: Mapping[str, UpgradeHandler], otherwise: UpgradeHandler) -> UpgradeHandler:
    """Leaves a client to who speaks one of the subprotocols that it asks for (RFC 6455 §1.9)."""

    def accept(transport: asyncio.Transport, fd: int, request: Request, rest: bytes, gone: Callable[[], None]) -> None:
        asked = request.tokens("sec-websocket-protocol")
        handler = next((handlers[name] for name in handlers if name in asked), otherwise)
        handler(transport, fd, request, rest, gone)

    return accept


def switching(request: Request, subprotocol: str | None = None) -> bytes:
    """The answer to an opening handshake (RFC 6455 §4.2.2)."""
    key = request.header("sec-websocket-key")
    accept = base64.b64encode(hashlib.sha1(key.encode() + _GUID, usedforsecurity=False).digest())
    chosen = b"" if subprotocol is None else b"Sec-WebSocket-Protocol: " + subprotocol.encode() + b"\r\n"
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n" + chosen + b"\r\n"
    )
