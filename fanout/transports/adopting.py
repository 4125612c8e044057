"""Accepted sockets become connections, over TLS or without: what is the same for every port.

- Each counts from when it came until it says that it is gone.
- Over TLS nobody but the transport may write, since it encrypts: there a connection is not told its descriptor.

Belongs to the event loop.
"""

import asyncio
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from functools import partial
from typing import Any, Final

__all__ = ["Adopting"]

_HANDSHAKE_SECONDS: Final = 5.0
_GOODBYE_SECONDS: Final = 5.0  # for what is still to be sent over TLS, and for the client's end of it


class Adopting(ABC):
    """Makes connections of accepted sockets."""

    def __init__(self) -> None:
        self.open_connections = 0
        """Connections that came through here and are not gone, whatever they speak by now."""
        self.gone = self._gone  # one object for all connections
        self._adopting: set[asyncio.Task[None]] = set()

    @abstractmethod
    def _connection(self, fd: int) -> asyncio.Protocol:
        """What hears a new connection, and calls `gone` once when that is over. `fd` is -1 over TLS."""

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
        try:
            if context is None:
                await loop.connect_accepted_socket(partial(self._connection, accepted.fileno()), accepted)
            else:
                await loop.connect_accepted_socket(
                    partial(self._connection, -1),
                    accepted,
                    ssl=context,
                    ssl_handshake_timeout=_HANDSHAKE_SECONDS,
                    ssl_shutdown_timeout=_GOODBYE_SECONDS,
                )
        except OSError:  # gone already, or the handshake has failed
            accepted.close()
            self._gone()

    def _gone(self) -> None:
        self.open_connections -= 1
