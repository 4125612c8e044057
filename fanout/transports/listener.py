"""The listening socket: accepts, a bounded number at a time, and hands each connection over.

- At most 16 connections are accepted in one turn of the loop, and only in the time that it has for clients
  (`turns.py`): while others are still to be let in, it stands in line behind them.
- Above the limit of connections a client is told 503 and closed; the limit stays below what the process may open.
- When descriptors run out all the same, accepting rests for a moment instead of spinning on a socket that stays
  readable.
- What a client may send ahead of us waits in a kernel buffer of 128 KiB, which also bounds how far read buffers grow.
"""

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable
from typing import Final

from fanout.transports.http import Response, plain
from fanout.transports.turns import Turns

__all__ = ["Listener", "connection_limit", "turn_away"]

log = logging.getLogger(__name__)

_ACCEPTS_PER_TURN: Final = 16  # what becomes of each afterwards costs the loop some 40 µs more
_BACKLOG: Final = 2048
_RECEIVE_BUFFER: Final = 128 << 10
_RESERVED_DESCRIPTORS: Final = 256  # the log's connections, files, threads' own descriptors
_REST_SECONDS: Final = 0.5
_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
_TRANSIENT: Final = frozenset({errno.ECONNABORTED, errno.EINTR, errno.EPROTO, errno.EPERM})


def connection_limit() -> int:
    """How many connections this process may hold: its descriptors (RLIMIT_NOFILE) less what the rest of it needs."""
    soft, _hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return 1 << 20
    return max(soft - _RESERVED_DESCRIPTORS, soft // 2)


class Listener:
    """One listening socket. Everything belongs to the loop that called `start`."""

    def __init__(
        self,
        take: Callable[[socket.socket], None],
        open_connections: Callable[[], int],
        turns: Turns,
        limit: int | None = None,
        *,
        speaks_http: bool = True,
    ) -> None:
        """`take` becomes the owner of each accepted socket. `limit` of connections: `connection_limit()` at most. Who
        is above it is told so over HTTP, and else only closed.
        """
        self._take = take
        self._open_connections = open_connections
        self._turns = turns
        self._limit = connection_limit() if limit is None else min(limit, connection_limit())
        self._speaks_http = speaks_http
        self._socket: socket.socket | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._resting: asyncio.TimerHandle | None = None
        self.refused = 0  # connections above the limit, ever

    async def start(self, host: str, port: int) -> int:
        """Listens on the first address of `host`; port 0 picks a free one. Returns the port.

        Raises OSError (socket.gaierror for a name that does not resolve).
        """
        self._loop = asyncio.get_running_loop()
        found = await self._loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _name, address = found[0]
        listening = socket.socket(family, kind, protocol)
        try:
            listening.setblocking(False)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # accepted sockets inherit both
            listening.bind(address)
            listening.listen(_BACKLOG)
        except OSError:
            listening.close()
            raise
        self._socket = listening
        self._loop.add_reader(listening, self.go_on)
        return int(listening.getsockname()[1])

    def stop(self) -> None:
        """Stops listening; what was accepted goes on. Idempotent."""
        if self._socket is None or self._loop is None:
            return
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._socket)
        self._socket.close()
        self._socket = None

    def go_on(self) -> None:
        """Accepts. See `fanout.transports.turns.Caller`; the loop calls it, too, while somebody waits."""
        if self._socket is None or self._resting is not None:
            return
        for _ in range(_ACCEPTS_PER_TURN):
            if not self._turns.take(self, brief=False):
                return
            try:
                accepted, _peer = self._socket.accept()
            except BlockingIOError:
                return
            except OSError as failure:
                if failure.errno in _EXHAUSTED:
                    self._rest(failure)
                    return
                if failure.errno in _TRANSIENT:
                    continue
                raise
            if self._open_connections() >= self._limit:
                self.refused += 1
                if self._speaks_http:
                    turn_away(accepted, plain(503, ("retry-after", "5")))
                else:
                    accepted.close()
            else:
                self._take(accepted)

    def _rest(self, failure: OSError) -> None:
        assert self._socket is not None
        assert self._loop is not None
        log.error("cannot accept connections for lack of resources (%s); trying again", failure.strerror)
        self._loop.remove_reader(self._socket)
        self._resting = self._loop.call_later(_REST_SECONDS, self._resume)

    def _resume(self) -> None:
        self._resting = None
        if self._socket is not None and self._loop is not None:
            self._loop.add_reader(self._socket, self.go_on)


def turn_away(accepted: socket.socket, response: Response) -> None:
    """Answers and closes. What the client has sent is read: closing over unread bytes would take the answer back."""
    with accepted:
        try:
            accepted.setblocking(False)
            accepted.send(response.encode(keep_alive=False))
            accepted.shutdown(socket.SHUT_WR)
            accepted.recv(16 << 10)
        except OSError:
            return
