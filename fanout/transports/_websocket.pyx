# cython: language_level=3, freethreading_compatible=True
"""The WebSocket side of a connection (RFC 6455): picows parses, the engine writes. All use of picows is here.

- One writer: what is to be said, CLOSE included, goes to the engine's queue, and nothing here writes to the socket;
  except over TLS, where all that the engine has goes through the transport, which encrypts, as far as that has room.
- The engine forgets the descriptor in `connection_lost`, which runs before the transport closes it.
- All connections of a node are read into one buffer and parsed by one parser, a whole frame at a time. A connection
  keeps bytes of its own only while a frame or message is incomplete or it is paused. When all together keep too much
  of what is incomplete, the one that has not been done for longest is ended.
- Only the newest PING of what arrived together is answered. RSV bits, fragments, UTF-8 and close codes are checked
  here.
- Once the closing has begun, what still arrives is dropped unread; the engine cuts the connection if the peer does not
  close too.

Belongs to the event loop. A delivery to a client makes no call here.
"""

import asyncio
import logging

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_FromStringAndSize, PyByteArray_Resize
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_GET_BUFFER
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

cimport cython
from picows.picows cimport WSFrame, WSListener, WSMsgType, WSTransport

import picows
from picows.picows import WSProtocol

from fanout.transports.turns import BRIEF_BYTES
from fanout.transports.waiting import Waiting

__all__ = ["FRAGMENTS_MAX", "INCOMPLETE_BYTES", "MESSAGE_BYTES", "Reader", "WebSocket"]

cdef extern from "sys/socket.h" nogil:
    int SOL_SOCKET, SO_LINGER
    struct linger:
        int l_onoff
        int l_linger
    int setsockopt(int, int, int, const void *, unsigned int)

log = logging.getLogger(__name__)

MESSAGE_BYTES = 524_288  # one message, whole or in fragments: the maxFrameSize that clients are told
FRAGMENTS_MAX = 1_024  # of one message
INCOMPLETE_BYTES = 64 << 20  # of all messages that are incomplete

cdef Py_ssize_t _message_bytes = MESSAGE_BYTES
cdef Py_ssize_t _fragments_max = FRAGMENTS_MAX
cdef Py_ssize_t _BRIEF_BYTES = BRIEF_BYTES
cdef Py_ssize_t _DROPPED_MAX = 1 << 20  # bytes that a client may send into a closing connection
cdef Py_ssize_t _HELD_MAX = 16 << 10  # bytes that a client may send before it is heard; no SDK sends any
cdef Py_ssize_t _READ_BYTES = 16 << 10  # read at once; libuv reads up to 32 times before others have their turn
cdef Py_ssize_t _WRITE_BYTES = 64 << 10  # taken from the engine at once for a client over TLS, 0.1 ms of encryption
cdef Py_ssize_t _HEAD_MAX = 14  # bytes of a frame before its payload, the mask included


class _Refused(Exception):
    """picows refuses a frame, for a reason and with the code that tells the client."""

    def __init__(self, code, reason):
        self.code = code
        self.reason = reason


class _Quiet:
    """picows' logger: a client's mistakes are answered to the client, not logged."""

    name = __name__

    def isEnabledFor(self, level):  # noqa: N802
        return False

    def debug(self, *args):
        pass

    info = warning = error = log = debug

    def exception(self, text, *args):
        raise  # a failure of picows' own: whoever gave it the frame deals with it


class _Mouth:
    """picows' transport and its socket. All that it ever says are the response to our own handshake and a verdict."""

    def write(self, data):
        cdef bytes said = bytes(data)
        if said.startswith(b"\x88"):
            raise _Refused(int.from_bytes(said[2:4], "big"), said[4:].decode("utf-8", "replace"))
        if not said.startswith(b"HTTP/1.1 101 "):
            raise RuntimeError("picows wrote something other than a CLOSE frame")

    def get_write_buffer_size(self):
        return 1  # so that picows leaves its descriptor alone

    def get_extra_info(self, name):
        return self if name == "socket" else None

    def fileno(self):
        return -1

    def setsockopt(self, *args):
        return 0

    getsockopt = setsockopt


cdef class Reader(WSListener):
    """What the connections of a node share: the buffer that they are read into, picows' parser, and the room for what
    is incomplete.

    The parser is used as a function of one whole frame. One that has refused a frame is not used again.
    """

    cdef bytearray _buffer
    cdef object _room  # a view of the buffer
    cdef object _protocol
    cdef object _incomplete
    cdef bytes _payload
    cdef int kind
    cdef bint fin
    cdef bint reserved

    def __init__(self):
        self._buffer = bytearray(_READ_BYTES)
        self._room = memoryview(self._buffer)
        self._incomplete = Waiting(INCOMPLETE_BYTES, _make_room)

    cdef bytes parse(self, const char *data, Py_ssize_t size):
        """The unmasked payload of a frame that `_frame_bytes` has measured; `kind`, `fin`, `reserved` are the frame's.

        Raises _Refused.
        """
        cdef Py_buffer *room
        cdef Py_ssize_t part
        cdef bytes payload
        protocol = self._protocol or self._new_protocol()
        self._protocol = None  # for good, should it refuse
        self._payload = None
        while size:
            view = protocol.get_buffer(-1)
            room = PyMemoryView_GET_BUFFER(view)
            part = min(size, room.len)
            memcpy(room.buf, data, part)
            protocol.buffer_updated(part)
            data += part
            size -= part
        payload, self._payload = self._payload, None
        if payload is None:
            raise _Refused(1002, "the frame cannot be read")
        self._protocol = protocol
        return payload

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        self.kind = frame.msg_type
        self.fin = frame.fin
        self.reserved = frame.rsv1 or frame.rsv2 or frame.rsv3
        self._payload = PyBytes_FromStringAndSize(frame.payload_ptr, frame.payload_size)
        transport.close_handshake = None  # a second CLOSE will be another connection's

    cdef _new_protocol(self):
        protocol = WSProtocol(
            None,  # host and port: of a client
            None,  # path: of a client
            False,  # a server
            lambda request: self,
            _quiet,
            True,  # an exception of the listener closes the connection
            None,  # no time limit: the request is complete
            False, 10, 10, 1,  # no pings: the engine's
            False,  # no pongs: ours
            _message_bytes,
            None,  # extra headers: of a client
            4096,  # bytes of its buffer, which grows to what the largest frame takes
        )
        protocol.connection_made(_Mouth())
        room = protocol.get_buffer(-1)
        room[:len(_REQUEST)] = _REQUEST
        protocol.buffer_updated(len(_REQUEST))
        return protocol


def _make_room(link):
    link.finish(1008, "a message was begun and not ended, and others need the room")


cdef object _quiet = _Quiet()
cdef bytes _REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


cdef Py_ssize_t _frame_bytes(const uint8_t *data, Py_ssize_t size) noexcept:
    """How long the frame is that begins with these bytes (RFC 6455 §5.2); 0 if more are needed to tell.

    Of one whose head alone is enough to refuse it, so that nobody waits for its end, it is the head.
    """
    cdef uint64_t length
    cdef Py_ssize_t head = 6
    cdef int index
    if size < 2:
        return 0
    length = data[1] & 0x7F
    if length == 126:
        head = 8
    elif length == 127:
        head = 14
    if head > 6 and size < head - 4:
        return 0
    if head > 6:
        length = 0
        for index in range(2, head - 4):
            length = length << 8 | data[index]
    if not data[1] & 0x80 or length > <uint64_t> _message_bytes:
        return min(size, _HEAD_MAX)
    return head + <Py_ssize_t> length


cdef class _Base:
    """A class of ours can inherit from one of Python's only behind another one of ours."""


cdef _forget_unsent(int fd):
    """Has the kernel drop what the peer has not taken when the socket is closed.

    It would keep it for a peer that never will. After an orderly end nothing is left to drop; any other end is a reset,
    so that the peer learns of it as well.
    """
    cdef linger reset
    reset.l_onoff, reset.l_linger = 1, 0
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset))


@cython.final
cdef class WebSocket(_Base, asyncio.BufferedProtocol):
    """One connection, between its transport, the engine and its driver.

    The driver answers `connected()`, `may_speak(brief)` before each frame, `message(payload, is_text)`, `leaving()`,
    `disconnected()`, and `writable()`, which has `write_some` called.
    """

    data_received = None  # uvloop would keep what it calls of the protocol before, which is all of HTTP's state

    cdef Reader _reader
    cdef object _engine
    cdef object _driver
    cdef object _gone
    cdef object _tcp  # the transport that owns the descriptor; None once it is lost
    cdef bytearray _rest  # read, and not heard yet
    cdef bytes _ping  # the newest PING that is not answered
    cdef list _fragments
    cdef Py_ssize_t _counted  # bytes of the fragments, then of what is dropped
    cdef Py_ssize_t _incomplete  # bytes, as the reader knows
    cdef int _fd  # -1 over TLS
    cdef bint _text
    cdef bint _full  # the transport has enough to send
    cdef bint _paused
    cdef bint _closing
    cdef readonly unsigned long long handle  # the engine's number of this connection, 0 while it has none

    def __init__(self, Reader reader, engine, driver, gone):
        """`gone` is called once, when the connection's descriptor is about to be closed."""
        self._reader = reader
        self._engine = engine
        self._driver = driver
        self._gone = gone

    def start(self, transport, int fd, bytes rest):
        """Takes a transport over whose client has been answered 101; `rest` is what came after the request."""
        self._tcp = transport
        self._fd = fd
        transport.set_protocol(self)
        if transport.is_closing() or (fd >= 0 and transport.get_write_buffer_size()):
            self.cut()  # the response did not fit into an empty socket: never let two write at once
            return
        if fd < 0:
            transport.set_write_buffer_limits(_WRITE_BYTES)
        if rest:
            self._rest = bytearray(rest)
        try:
            self._driver.connected()
        except Exception:
            log.exception("a connection could not be opened")
            self.finish(1011)
        if not self._paused:
            self._hear_rest()
        elif len(rest) > _HELD_MAX:
            self.cut()

    # -- for the driver --

    def register(self, int wire, str connection_id, bint heartbeat_frames):
        """Gives the outgoing side to the engine and returns its handle."""
        if self._fd >= 0:
            self.handle = self._engine.register(self._fd, wire, connection_id, heartbeat_frames)
        else:
            self.handle = self._engine.register_pipe(wire, connection_id, heartbeat_frames)
        return self.handle

    def write_some(self):
        """Sends on what the engine has for a client over TLS, a piece of it; whether there may be more to send now."""
        cdef bytes piece
        if self._tcp is None or self._full or not self.handle:
            return False
        piece = self._engine.take(self.handle, _WRITE_BYTES)
        if piece:
            self._tcp.write(piece)
        elif piece is None:
            self._end()
            self._tcp.close()  # sends what is left, and TLS's own end
        return bool(piece)

    def pause(self):
        """Hears nothing more, until `resume`."""
        if self._tcp is not None and not self._closing:
            self._paused = True
            self._tcp.pause_reading()

    def resume(self):
        """Goes on with what had been read. Not to be called from `message`."""
        if not self._paused or self._closing:
            return
        self._paused = False
        self._hear_rest()
        self._tell_incomplete()
        if not self._paused and self._tcp is not None:
            self._tcp.resume_reading()

    def finish(self, int code, str reason=""):
        """Begins the closing handshake after all that was queued; nothing more is heard from the client."""
        if self._tcp is None or self._closing:
            return
        self._end()
        if self.handle:
            self._engine.finish(self.handle, code, reason)
            self._tcp.resume_reading()
        else:
            self._tcp.abort()

    def cut(self):
        """Ends the connection at once."""
        if self._tcp is not None:
            self._end()
            if self._fd < 0:
                socket = self._tcp.get_extra_info("socket")
                if socket is not None:
                    _forget_unsent(socket.fileno())
            self._tcp.abort()

    # -- what the transport tells --

    def get_buffer(self, Py_ssize_t size_hint):
        """The room for what is read next (asyncio.BufferedProtocol)."""
        return self._reader._room

    def buffer_updated(self, Py_ssize_t size):
        """So many bytes were read into it."""
        cdef const char *data = PyByteArray_AS_STRING(self._reader._buffer)
        cdef Py_ssize_t used
        if self._closing:
            self._counted += size
            if self._counted > _DROPPED_MAX and self._tcp is not None:
                self._tcp.abort()
        elif self._rest is None:
            used = self._hear(data, size)
            if used < size and not self._closing:
                self._rest = PyByteArray_FromStringAndSize(data + used, size - used)
        else:
            used = len(self._rest)
            PyByteArray_Resize(self._rest, used + size)
            memcpy(PyByteArray_AS_STRING(self._rest) + used, data, size)
            self._hear_rest()
        self._tell_incomplete()

    def pause_writing(self):
        """The transport has enough to send (asyncio.BaseProtocol); only over TLS is it given anything."""
        self._full = True

    def resume_writing(self):
        """It has room again."""
        self._full = False
        if self._driver is not None:
            self._driver.writable()

    def eof_received(self):
        """The client has closed its side: the transport is to close too."""
        return False

    def connection_lost(self, exc):
        """The socket is about to be closed."""
        self._end()
        self._driver.leaving()
        if self.handle:
            self._engine.unregister(self.handle)
        if self._fd >= 0:  # over TLS it may be somebody else's by now
            _forget_unsent(self._fd)
        driver, gone = self._driver, self._gone
        self._tcp = self._driver = self._gone = None
        try:
            driver.disconnected()
        finally:
            gone()

    cdef _end(self):
        """Hears nothing from now on."""
        if not self._closing:
            self._closing = True
            self._counted = 0
        self._rest = None
        self._fragments = None
        self._ping = None
        self._tell_incomplete()

    cdef _tell_incomplete(self):
        """Counts what waits for its end to come. What is there and waits for its turn is bounded by itself."""
        cdef Py_ssize_t size = 0
        if self._rest is not None and not self._paused:
            size = len(self._rest)
        if self._fragments is not None:
            size += self._counted
        if size == self._incomplete:
            return
        if self._incomplete == 0:
            self._reader._incomplete.enter(self)
        self._incomplete = size
        if size:
            self._reader._incomplete.holds(self, size)
        else:
            self._reader._incomplete.leave(self)

    # -- frames --

    cdef _hear_rest(self):
        cdef bytearray rest = self._rest
        cdef Py_ssize_t used
        if rest is None:
            return
        used = self._hear(PyByteArray_AS_STRING(rest), len(rest))
        if used and not self._closing:
            self._rest = rest[used:] if used < len(rest) else None

    cdef Py_ssize_t _hear(self, const char *data, Py_ssize_t size) except -1:
        """Takes the whole frames at the beginning, unless it is paused or the closing begins; how many bytes those are.

        Nothing is read from any connection meanwhile: `data` stays as it is.
        """
        cdef Py_ssize_t used = 0, length
        while not self._paused and not self._closing:
            length = _frame_bytes(<const uint8_t *> data + used, size - used)
            if length == 0 or length > size - used or not self._driver.may_speak(brief=length <= _BRIEF_BYTES):
                break
            try:
                self._frame(self._reader.parse(data + used, length))
            except _Refused as refused:
                self.finish(refused.code, refused.reason)
            except Exception:
                log.exception("a message could not be dealt with")
                self.finish(1011)
            used += length
        if used and self.handle and not self._closing:
            self._engine.heard(self.handle)
            if self._ping is not None:
                self._engine.send(self.handle, self._ping, 10)
        self._ping = None
        return used

    cdef _frame(self, bytes payload):
        cdef int kind = self._reader.kind
        if self._reader.reserved:
            self.finish(1002, "reserved bits are set")
        elif kind == WSMsgType.TEXT or kind == WSMsgType.BINARY or kind == WSMsgType.CONTINUATION:
            self._data(payload, kind, self._reader.fin)
        elif kind == WSMsgType.PING:
            self._ping = payload
        elif kind == WSMsgType.CLOSE:
            self._peer_closes(payload)

    cdef _data(self, bytes payload, int kind, bint fin):
        if kind == WSMsgType.CONTINUATION:
            if self._fragments is None:
                self.finish(1002, "a continuation of nothing")
                return
        elif self._fragments is not None:
            self.finish(1002, "a new message inside a fragmented one")
            return
        elif fin:
            self._deliver(payload, kind == WSMsgType.TEXT)
            return
        else:
            self._fragments = []
            self._counted = 0
            self._text = kind == WSMsgType.TEXT
        self._fragments.append(payload)
        self._counted += PyBytes_GET_SIZE(payload)
        if self._counted > _message_bytes:
            self.finish(1009, "the message is too big")
        elif len(self._fragments) > _fragments_max:
            self.finish(1008, "the message has too many fragments")
        elif fin:
            payload = b"".join(self._fragments)
            self._fragments = None
            self._deliver(payload, self._text)

    cdef _deliver(self, bytes payload, bint is_text):
        if is_text:
            try:
                PyUnicode_DecodeUTF8(PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), NULL)
            except UnicodeDecodeError:
                self.finish(1007, "the text is not UTF-8")
                return
        self._driver.message(payload, is_text)

    cdef _peer_closes(self, bytes payload):
        """Answers CLOSE with the same code, or 1002 for one that must not be sent (RFC 6455 §7.4)."""
        cdef int code = int.from_bytes(payload[:2], "big") if payload else 1000
        if 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999:
            self.finish(code)
        else:
            self.finish(1002, "the close code is not valid")


if not picows.__version__.startswith("2.3."):
    raise ImportError(f"fanout is made for picows 2.3, not {picows.__version__}")
