"""One WebSocket of an audit's client, and the ways in which it can go wrong on purpose.

Everything belongs to the loop that opened it.
"""

import asyncio
import logging
import socket
import struct
from typing import Any, Final

from picows import WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport, ws_connect

from fanout.audit.returning import Owner
from fanout.audit.sockets import connected

__all__ = ["Link", "open_link"]

OPEN_S: Final = 10.0
BUFFER_BYTES: Final = 4096  # thousands of links share a process
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s

logging.getLogger("picows").setLevel(logging.WARNING)  # or it tells of each of thousands of connections


class Link(WSListener):
    """An open WebSocket. Made by `open_link`."""

    def __init__(self, owner: Owner["Link"]) -> None:
        self._owner: Owner[Link] | None = owner
        self._transport: WSTransport | None = None
        self.close_code: int | None = None
        """Of the server's CLOSE."""

    def send(self, payload: bytes, *, binary: bool) -> None:
        """One WebSocket message; into the void if the link is no more."""
        if self._transport is not None:
            self._transport.send(WSMsgType.BINARY if binary else WSMsgType.TEXT, payload)

    def pause(self) -> None:
        """Stops reading: the server's side fills up."""
        if self._transport is not None:
            self._transport.underlying_transport.pause_reading()

    def resume(self) -> None:
        """Reads again."""
        if self._transport is not None:
            self._transport.underlying_transport.resume_reading()

    def end(self, *, reset: bool = False) -> None:
        """Closes the socket without a word; with a reset of the connection if that is asked for."""
        if self._transport is None:
            return
        tcp = self._transport.underlying_transport
        if reset and not tcp.is_closing():
            tcp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        tcp.abort()

    def deafen(self) -> None:
        """The owner hears nothing of it any more, and nothing is read: to the server it is open, and silent."""
        self._owner = None
        self.pause()

    def given_up(self) -> None:
        """Its opening has failed for its owner, and may go on without: picows does not stop with who waited for it."""
        self._owner = None
        self.end()

    def on_ws_connected(self, transport: WSTransport) -> None:
        """Called by picows."""
        self._transport = transport
        if self._owner is None:
            self.end()
        else:
            self._owner.opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        """Called by picows."""
        if frame.msg_type == WSMsgType.CLOSE:
            code: Any = frame.get_close_code()
            self.close_code = int(code)
            transport.send_close(WSCloseCode.OK)
            transport.disconnect()
        elif self._owner is not None and frame.msg_type in (WSMsgType.TEXT, WSMsgType.BINARY):
            self._owner.heard(self, frame.get_payload_as_bytes())

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        """Called by picows."""
        self._transport = None
        if self._owner is not None:
            self._owner.lost(self)


async def open_link(
    url: str, owner: Owner[Link], *, source: str | None = None, receive_buffer: int | None = None
) -> Link:
    """Opens a WebSocket. Raises OSError, TimeoutError after 10 s, or picows' WSError when it cannot be had.

    Binds to the address `source` of this machine; `receive_buffer` is the socket's, in bytes.
    """
    made: list[socket.socket] = []
    link = Link(owner)

    async def make(url: Any) -> socket.socket | None:
        if source is None and receive_buffer is None:
            return None
        made.append(await connected(url.host, url.port, source=source, receive_buffer=receive_buffer))
        return made[-1]

    try:
        async with asyncio.timeout(OPEN_S):
            _, listener = await ws_connect(
                lambda: link,
                url,
                read_buffer_init_size=BUFFER_BYTES,
                socket_factory=make,
                max_redirects=0,
                use_aiofastnet=False,  # the loop's own transports: only they close their descriptors
            )
    except BaseException:
        link.given_up()
        for opened in made:
            opened.detach()
        raise
    if listener is None:  # how picows says that the peer closed in the middle of the handshake
        raise ConnectionResetError("cut before the handshake was done")
    return link
