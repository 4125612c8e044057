"""Sockets of an audit's clients, until a transport has them. Belongs to the loop that opens them."""

import asyncio
import socket

__all__ = ["connected"]


async def connected(host: str, port: int, *, source: str | None, receive_buffer: int | None) -> socket.socket:
    """A TCP connection, over IPv4. Raises OSError. May be cancelled.

    Bound to the address `source` of this machine; `receive_buffer` is the socket's, in bytes.

    Once it was handed to a transport that has ended, it has to be detached: uvloop closes the descriptor, and does not
    say so to a socket that it was yet to take. Closed once more, by the collector at the latest, it would be another's.
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
