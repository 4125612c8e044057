"""TLS on the common port (RFC 8446, RFC 5246): the certificate, and the door where sockets wait for their handshake.

- A socket stays in the kernel until its whole ClientHello is there, 5 s at most: who says nothing, or begins and stops,
  holds no more than a socket.
- At most two handshakes begin in a turn of the loop, in the order of their ClientHellos: each costs it up to a
  millisecond, and a storm of them must not hold up those who are connected.
- At most 512 handshakes are under way, each for 5 s; while others wait, one that has taken a second makes room.
- Who does not begin with TLS gets none: HTTP is answered in plain words that this port wants TLS, anything else is
  closed.
- TLS 1.2 and 1.3 with forward secrecy and authenticated encryption, nothing older; no renegotiation. ALPN knows
  http/1.1.

Everything belongs to the event loop.
"""

import asyncio
import contextlib
import socket
import ssl
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from fanout.errors import ConfigError
from fanout.transports.http import Response
from fanout.transports.listener import turn_away

__all__ = ["TlsDoor", "server_context"]

_HELLO_SECONDS: Final = 5.0
_ROOM_SECONDS: Final = 1.0  # longer than a handshake takes over any network that is of use
_HANDSHAKES_MAX: Final = 512
_BEGUN_PER_TURN: Final = 2
_RECORD_HEAD: Final = 5  # RFC 8446 §5.1: type, version, length
_RECORD_MAX: Final = 1 << 14
_HANDSHAKE: Final = 22
_CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"  # of TLS 1.2; those of 1.3 are all of this kind
_NOT_TLS: Final = Response(400, b"This port speaks TLS: write https:// or wss://\n")


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """What a server answers handshakes with: PEM files of its certificate, with the chain behind it, and of its key.

    Raises ConfigError, in the options' words, for files that cannot be used or do not belong together.
    """
    for option, path in (("tls-cert", certificate), ("tls-key", key)):
        try:
            path.open("rb").close()
        except OSError as problem:
            raise ConfigError(f"{option}: '{path}' cannot be read ({problem.strerror}); name a PEM file") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    try:
        context.load_cert_chain(certificate, key, password="")  # an encrypted key would ask the terminal
    except ssl.SSLError as problem:
        if problem.reason == "KEY_VALUES_MISMATCH":
            raise ConfigError(f"tls-key: '{key}' is not the key of the certificate in '{certificate}'") from None
        raise ConfigError(
            f"tls-cert: '{certificate}' and '{key}' are not a certificate and its key ({problem.reason}); "
            "give PEM files, the key without a password"
        ) from None
    return context


class TlsDoor:
    """Between the listener, which hands sockets over with `take`, and who makes connections of them."""

    def __init__(
        self, context: ssl.SSLContext, adopt: Callable[[socket.socket, ssl.SSLContext], Coroutine[Any, Any, None]]
    ) -> None:
        """`adopt` becomes the owner of a socket, and returns when its handshake is over, whatever came of it."""
        self.context = context  # of the handshakes that begin from now on
        self._adopt = adopt
        self._silent: dict[socket.socket, asyncio.TimerHandle] = {}  # no whole ClientHello yet
        self._line: deque[socket.socket] = deque()
        self._begun: dict[asyncio.Task[None], tuple[socket.socket, float]] = {}  # the oldest first
        self._next: asyncio.Handle | None = None

    @property
    def waiting(self) -> int:
        """Sockets that nobody has adopted yet."""
        return len(self._silent) + len(self._line)

    def take(self, accepted: socket.socket) -> None:
        """Becomes the owner of a connected, non-blocking socket."""
        loop = asyncio.get_running_loop()
        self._silent[accepted] = loop.call_later(_HELLO_SECONDS, self._drop, accepted)
        self._wait_for(accepted, _RECORD_HEAD)
        loop.add_reader(accepted, self._look, accepted)

    def close(self) -> None:
        """Turns away who has not come through."""
        for waiting in list(self._silent):
            self._drop(waiting)
        for waiting in self._line:
            waiting.close()
        self._line.clear()
        for beginning, _since in self._begun.values():
            _end(beginning)

    @staticmethod
    def _wait_for(accepted: socket.socket, size: int) -> None:
        """Has the loop called when so many bytes have come, or no more will."""
        accepted.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, size)

    def _look(self, accepted: socket.socket) -> None:
        """Looks at what has come without taking it: TLS is to find it where it is."""
        try:
            head = accepted.recv(_RECORD_HEAD, socket.MSG_PEEK)
            if len(head) < _RECORD_HEAD:  # it will not say more
                self._drop(accepted)
                return
            length = int.from_bytes(head[3:])
            if head[0] != _HANDSHAKE or head[1] != 3 or not 0 < length <= _RECORD_MAX:
                self._refuse(accepted, head)
                return
            size = _RECORD_HEAD + length
            if len(accepted.recv(size, socket.MSG_PEEK)) < size:
                self._wait_for(accepted, size)
                return
            self._wait_for(accepted, 1)
        except BlockingIOError:
            return
        except OSError:
            self._drop(accepted)
            return
        self._forget(accepted)
        self._line.append(accepted)
        self._go_on()

    def _refuse(self, accepted: socket.socket, head: bytes) -> None:
        self._forget(accepted)
        if head[:3].isalpha() and head[:3].isupper():  # a method: GET, POST, OPTIONS ...
            turn_away(accepted, _NOT_TLS)
        else:
            accepted.close()

    def _forget(self, accepted: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(accepted)
        self._silent.pop(accepted).cancel()

    def _drop(self, accepted: socket.socket) -> None:
        self._forget(accepted)
        accepted.close()

    # -- handshakes --

    def _go_on(self) -> None:
        """Sees to it that those in line come in."""
        if self._next is not None or not self._line:
            return
        loop = asyncio.get_running_loop()
        if len(self._begun) < _HANDSHAKES_MAX:
            self._next = loop.call_soon(self._begin)
            return
        oldest, since = next(iter(self._begun.values()))
        if loop.time() - since >= _ROOM_SECONDS:
            _end(oldest)  # which ends its task, and that goes on
        else:
            self._next = loop.call_at(since + _ROOM_SECONDS, self._begin)

    def _begin(self) -> None:
        self._next = None
        loop = asyncio.get_running_loop()
        for _ in range(_BEGUN_PER_TURN):
            if not self._line or len(self._begun) >= _HANDSHAKES_MAX:
                break
            accepted = self._line.popleft()
            task = loop.create_task(self._adopt(accepted, self.context))
            self._begun[task] = accepted, loop.time()
            task.add_done_callback(self._done)
        self._go_on()

    def _done(self, task: asyncio.Task[None]) -> None:
        del self._begun[task]
        self._go_on()


def _end(accepted: socket.socket) -> None:
    """Ends a connection whose descriptor is its transport's by now: that notices, and closes."""
    with contextlib.suppress(OSError):
        accepted.shutdown(socket.SHUT_RDWR)
