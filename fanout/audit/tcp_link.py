"""One TCP connection of an audit's client, with TLS or without, and the ways in which it can go wrong on purpose.

Everything belongs to the loop that opened it.
"""

import asyncio
import socket
import ssl
import struct
from typing import Final, cast
from urllib.parse import SplitResult

from fanout.audit.returning import Owner
from fanout.audit.sockets import connected

__all__ = ["TcpLink", "open_tcp"]

OPEN_S: Final = 10.0
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s


class TcpLink(asyncio.Protocol):
    """An open connection. Made by `open_tcp`."""

    def __init__(self, owner: "Owner[TcpLink]") -> None:
        self._owner: Owner[TcpLink] | None = owner
        self._transport: asyncio.Transport | None = None

    def send(self, payload: bytes) -> None:
        """Some bytes; into the void if the link is no more."""
        if self._transport is not None:
            self._transport.write(payload)

    def pause(self) -> None:
        """Stops reading: the server's side fills up."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def end(self, *, reset: bool = False) -> None:
        """Closes the socket without a word; with a reset of the connection if that is asked for."""
        if self._transport is None:
            return
        if reset:
            tcp = self._transport.get_extra_info("socket")
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._transport.abort()

    def deafen(self) -> None:
        """The owner hears nothing of it any more, and nothing is read: to the server it is open, and silent."""
        self._owner = None
        self.pause()

    def given_up(self) -> None:
        """It is no more, and need not have said so: uvloop does not, of what it has just made."""
        self._transport = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's only quack like it
        if self._owner is not None:
            self._owner.opened(self)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        if self._owner is not None:
            self._owner.heard(self, data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        self._transport = None
        if self._owner is not None:
            self._owner.lost(self)


async def open_tcp(
    node: SplitResult, owner: Owner[TcpLink], *, source: str | None = None, receive_buffer: int | None = None
) -> None:
    """Opens a connection, with TLS if the node's scheme ends with `s`. Raises OSError, TimeoutError after 10 s.

    Binds to the address `source` of this machine; `receive_buffer` is the socket's, in bytes.
    """
    assert node.hostname is not None
    assert node.port is not None
    loop = asyncio.get_running_loop()
    context = ssl.create_default_context() if node.scheme.endswith("s") else None
    name = node.hostname if context is not None else None
    async with asyncio.timeout(OPEN_S):
        opened = await connected(node.hostname, node.port, source=source, receive_buffer=receive_buffer)
        link = TcpLink(owner)
        try:
            transport, _ = await loop.create_connection(lambda: link, sock=opened, ssl=context, server_hostname=name)
        except BaseException:
            opened.detach()
            link.given_up()
            raise
        if transport.is_closing():
            opened.detach()
