"""The one port: each connection speaks HTTP/1.1 first and may turn to the realtime protocol on `/`.

- One request of a connection is answered at a time, in the order of asking; others wait parsed up to a bound, then
  reading stops.
- A head must be complete 5 s after it began (or after connecting), a body 30 s after its head; a connection without a
  request is kept for 75 s. A response must have left after 30 s.
- What comes is parsed, answered or upgraded in the time that a turn of the loop has for clients (`turns.py`); until
  then it is kept unheard, and no more is read.
- A handler's exception is a 500 with a constant body and one line in the log.
- An upgrade (RFC 6455 §4.2) is checked here, and handed over once everything before it has been answered and written.
- Draining answers what was asked, and closes.
"""

import asyncio
import base64
import binascii
import contextlib
import logging
import socket
import struct
from collections.abc import Callable
from typing import Final, cast

from fanout.errors import error
from fanout.transports.adopting import Adopting
from fanout.transports.http import CONTINUE, Handler, Request, Response, Streamed, plain
from fanout.transports.http_reader import Refusal, RequestReader, Upgrade
from fanout.transports.replies import error_reply
from fanout.transports.turns import Turns

__all__ = ["Front", "UpgradeHandler"]

log = logging.getLogger(__name__)

UpgradeHandler = Callable[[asyncio.Transport, int, Request, bytes, Callable[[], None]], None]
"""Takes a transport over, with its descriptor, the request, the bytes after that, and what to call once it is gone.

The descriptor is -1 where nobody but the transport may write, because it encrypts.
"""

_HEAD_SECONDS: Final = 5.0
_BODY_SECONDS: Final = 30.0
_IDLE_SECONDS: Final = 75.0
_WRITE_SECONDS: Final = 30.0
_LINGER_SECONDS: Final = 1.0
_UNREAD_BYTES: Final = 64 << 10  # encrypted, of a client that is not heard just now


class Front(Adopting):
    """Makes HTTP connections of accepted sockets. Everything belongs to the event loop."""

    def __init__(self, handler: Handler, upgrade: UpgradeHandler, turns: Turns) -> None:
        super().__init__()
        self.handler = handler
        self.upgrade = upgrade
        self.turns = turns
        self.draining = False
        self._http: set[_Connection] = set()
        self._empty = asyncio.Event()

    def _connection(self, fd: int) -> "_Connection":
        return _Connection(self, fd)

    async def drain(self, seconds: float) -> None:
        """Closes idle connections, lets the others be answered, and cuts what is left after `seconds`."""
        self.draining = True
        for connection in list(self._http):
            connection.drain()
        if self._http:
            self._empty.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._empty.wait(), seconds)
        for connection in list(self._http):
            connection.abort()

    # -- for the connections --

    def opened(self, connection: "_Connection") -> None:
        """A connection begins to speak HTTP."""
        self._http.add(connection)

    def left(self, connection: "_Connection") -> None:
        """A connection speaks HTTP no more."""
        self._http.discard(connection)
        if not self._http:
            self._empty.set()


class _Connection(asyncio.Protocol):
    """One client, while it speaks HTTP."""

    __slots__ = (
        "_answering", "_closing", "_drained", "_eof", "_fd", "_front", "_reader", "_timer", "_timer_kind", "_transport",
        "_unheard",
    )  # fmt: skip

    def __init__(self, front: Front, fd: int) -> None:
        self._front = front
        self._fd = fd
        self._reader = RequestReader()
        self._unheard = b""  # read, and waits for its turn
        self._transport: asyncio.Transport
        self._answering: asyncio.Task[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._timer_kind = 0.0
        self._eof = False
        self._closing = False

    # -- the transport's side --

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports only quack like it
        if self._fd >= 0:
            self._transport.set_write_buffer_limits(high=0)  # uvloop then writes at once, not at the end of the turn
        else:
            self._transport.set_write_buffer_limits(high=1)  # with 0, transports over TLS pause for nothing
            self._transport.set_read_buffer_limits(high=_UNREAD_BYTES)  # type: ignore[attr-defined]
        self._front.opened(self)
        self._arm(_HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        self._disarm()
        self._unheard = b""
        self._reader.close()
        self.resume_writing()
        if self._answering is not None:
            self._answering.cancel()
        self._front.left(self)
        self._front.gone()

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        if not self._unheard and self._front.turns.take(self, brief=False):
            self._reader.feed(data)
            self._advance()
            return
        self._unheard += data
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Goes on with what was read. See `fanout.transports.turns.Caller`."""
        if not self._unheard or self._closing or self._transport.is_closing():
            return
        if not self._front.turns.take(self, brief=False):
            return
        unheard, self._unheard = self._unheard, b""
        self._transport.resume_reading()
        self._reader.feed(unheard)
        self._advance()

    def eof_received(self) -> bool:
        self._eof = True
        if self._fd < 0:
            return False  # TLS has no half-closed connections here: the transport closes
        return self._answering is not None or bool(self._reader.ready or self._unheard)  # it said everything, and waits

    def pause_writing(self) -> None:
        if self._drained is None:
            self._drained = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._drained is not None:
            self._drained.set_result(None)
            self._drained = None

    # -- one thing at a time --

    def _advance(self) -> None:
        """Goes on with what is next: answer, hand over, close, or wait for the client."""
        reader = self._reader
        if self._answering is not None or self._closing:
            if reader.full:
                self._transport.pause_reading()
            return
        if not reader.ready:
            reader.feed(b"")  # what was kept unparsed
        if not reader.ready:
            self._wait()
            return
        item = reader.ready.popleft()
        if isinstance(item, Refusal):
            self._transport.write(item.response.encode(keep_alive=False))
            self._close()
        elif isinstance(item, Upgrade):
            self._hand_over(item)
        else:
            self._disarm()
            self._answering = asyncio.get_running_loop().create_task(self._answer(item))

    def _wait(self) -> None:
        if self._unheard:
            return  # until its turn
        if self._eof or (self._front.draining and not self._reader.started):
            self._close()
            return
        self._transport.resume_reading()
        if self._reader.wants_continue:
            self._reader.wants_continue = False
            self._transport.write(CONTINUE)
        if self._reader.in_body:
            self._arm(_BODY_SECONDS)
        elif self._reader.started:
            self._arm(_HEAD_SECONDS)
        elif self._timer is None:
            self._arm(_IDLE_SECONDS)

    async def _answer(self, request: Request) -> None:
        try:
            response = await self._front.handler(request)
        except Exception:
            log.exception("%s %s failed", request.method, request.path)
            response = error_reply(request, error(50000))
        if isinstance(response, Streamed):
            self._begin(response)
            return
        keep_alive = request.keep_alive and not self._front.draining
        head_only = request.method == "HEAD"
        self._transport.write(response.encode(keep_alive=keep_alive, version=request.version, head_only=head_only))
        if self._drained is not None:
            self._arm(_WRITE_SECONDS)
            await self._drained
            self._disarm()
        self._answering = None
        if self._transport.is_closing():
            return
        if keep_alive:
            self._advance()
        else:
            self._close()

    def _begin(self, response: Streamed) -> None:
        """Writes the head, and hands the connection over; it speaks no more HTTP after this answer."""
        self._answering = None
        self._closing = True  # nothing more is ours
        self._front.left(self)
        self._transport.write(response.encode())
        if self._front.draining or self._eof:
            self._transport.abort()
        response.begin(self._transport, self._fd, self._front.gone)

    def _hand_over(self, upgrade: Upgrade) -> None:
        request = upgrade.request
        refusal = _refuse_upgrade(request)
        if refusal is None and self._front.draining:
            refusal = plain(503, ("retry-after", "1"))
        if refusal is not None:
            self._transport.write(refusal.encode(keep_alive=False))
            self._close()
            return
        self._disarm()
        self._closing = True  # nothing more is ours
        self._front.left(self)
        if (self._fd >= 0 and self._transport.get_write_buffer_size()) or self._eof:
            self._transport.abort()  # from now on another writer owns the socket: nothing of ours may still be queued
            return
        self._front.upgrade(self._transport, self._fd, request, upgrade.rest, self._front.gone)

    # -- the end --

    def drain(self) -> None:
        """Closes now if nothing was asked, else after the answers."""
        if self._answering is None and not (self._unheard or self._reader.started or self._reader.ready):
            self._close()

    def abort(self) -> None:
        """Cuts the connection."""
        self._transport.abort()

    def _close(self) -> None:
        """Sends what is written and closes; the client's further bytes are read and dropped for a moment.

        Closing over unread bytes would reset the connection, and the client might never see the answer.
        """
        self._closing = True
        self._reader.close()
        if self._eof or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._transport.resume_reading()
        self._transport.write_eof()
        self._arm(_LINGER_SECONDS)

    # -- one timer --

    def _arm(self, seconds: float) -> None:
        """Starts the time for what is awaited now, unless that very time is already running."""
        if self._timer is not None and self._timer_kind == seconds:
            return
        self._disarm()
        self._timer_kind = seconds
        self._timer = asyncio.get_running_loop().call_later(seconds, self._late)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _late(self) -> None:
        self._timer = None
        if self._unheard and self._drained is None:  # the node is late, and not the client
            self._arm(self._timer_kind)
            return
        if self._answering is None and not self._closing and self._reader.started:
            self._transport.write(plain(408).encode(keep_alive=False))
            self._close()
            return
        if self._drained is not None:  # the kernel need not keep what the client does not take
            linger = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self._transport.abort()


def _refuse_upgrade(request: Request) -> Response | None:
    """What is wrong with an opening handshake (RFC 6455 §4.2.1), or None."""
    if request.header("sec-websocket-version") != "13":
        return plain(426, ("sec-websocket-version", "13"), ("upgrade", "websocket"))
    try:
        key = base64.b64decode(request.header("sec-websocket-key"), validate=True)
    except (binascii.Error, ValueError):
        return plain(400)
    return None if len(key) == 16 and request.version == "1.1" else plain(400)
