"""Sockets of an audit's clients, before a transport owns them and at their ends.

Everything belongs to the loop that opened it.
"""

import asyncio
import socket
import struct
from typing import Any, Final

__all__ = ["connected_socket", "reset_on_close"]

_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s


async def connected_socket(host: str, port: int, *, source: str | None, receive_buffer: int | None) -> socket.socket:
    """A TCP connection, over IPv4, that is still the caller's. Raises OSError.

    Bound to the address `source` of this machine; `receive_buffer` is the socket's, in bytes.
    """
    opened = socket.socket()
    try:
        opened.setblocking(False)
        if receive_buffer is not None:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            opened.bind((source, 0))
        await asyncio.get_running_loop().sock_connect(opened, (host, port))
    except BaseException:
        opened.close()
        raise
    return opened


def reset_on_close(transport: Any) -> None:
    """Whatever closes it, the peer is sent a reset (SO_LINGER of no time: socket(7))."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
