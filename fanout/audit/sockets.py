"""Sockets of an audit's clients: set while their transports own them, who alone open and close them. What two close is
closed twice, and the second time it may be another's.

Everything belongs to the loop that opened them.
"""

import socket
import struct
from typing import Any, Final

__all__ = ["limit_receive_buffer", "local_address", "reset_on_close"]

_AT_ONCE: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s


def local_address(source: str | None) -> dict[str, Any]:
    """What `create_connection` is told so that it binds to that address of this machine, if any."""
    return {} if source is None else {"local_addr": (source, 0)}


def limit_receive_buffer(transport: Any, size: int | None) -> None:
    """What the kernel holds for a reader that does not read (SO_RCVBUF: socket(7)), in bytes."""
    if size is not None:
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)


def reset_on_close(transport: Any) -> None:
    """Whatever closes it, the peer is sent a reset (SO_LINGER of no time: socket(7))."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
