# cython: language_level=3, freethreading_compatible=True
"""The WebSocket side of a connection (RFC 6455): picows reads, the engine writes. All use of picows' internals is here.

- One writer: once a connection is registered with the engine, picows' own writes (it closes by itself on a broken
  frame) go to the engine's queue too. Nothing of ours reaches the socket by another way.
- The engine forgets the descriptor in `on_ws_disconnected`, which runs before the transport closes it.
- Only the newest PING of what arrived together is answered. RSV bits, fragments, UTF-8 and close codes are checked
  here.
- Once the closing has begun, what still arrives is dropped unread; the engine cuts the connection if the peer does not
  close too.

Belongs to the event loop. A delivery to a client makes no call here.
"""

import asyncio
import logging
import socket
import struct

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8

from picows.picows cimport MemoryBuffer, WSCloseCode, WSFrame, WSListener, WSMsgType, WSTransport

import picows
from picows.picows import WSProtocol

__all__ = ["FRAGMENTS_MAX", "MESSAGE_BYTES", "Listener", "hand_over"]

log = logging.getLogger(__name__)

MESSAGE_BYTES = 524_288  # one message, whole or in fragments: the maxFrameSize that clients are told
FRAGMENTS_MAX = 1_024  # of one message

cdef Py_ssize_t _message_bytes = MESSAGE_BYTES
cdef Py_ssize_t _fragments_max = FRAGMENTS_MAX
cdef Py_ssize_t _DROPPED_MAX = 1 << 20  # bytes that a client may send into a closing connection
cdef int _READ_BUFFER = 2_048


class _Quiet:
    """picows' logger: a client's mistakes are answered to the client, not logged; failures of ours are."""

    name = __name__

    def isEnabledFor(self, level):  # noqa: N802
        return False

    def debug(self, *args):
        pass

    info = warning = error = log = debug

    def exception(self, text, *args):
        log.exception(text, *args)


cdef object _quiet = _Quiet()


class _Drop(asyncio.Protocol):
    """Reads what a closing connection still sends, keeps nothing of it, and tells picows of the end."""

    def __init__(self, transport, protocol):
        self._transport = transport
        self._protocol = protocol
        self._left = _DROPPED_MAX

    def data_received(self, data):
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()

    def eof_received(self):
        return False

    def connection_lost(self, exc):
        self._protocol.connection_lost(exc)


def _one():
    """A write buffer that is never empty: picows then never writes to the descriptor itself."""
    return 1


cdef class Listener(WSListener):
    """One connection, between picows, the engine and its driver.

    The driver answers `connected()`, `message(payload, is_text)` and `disconnected()`.
    """

    cdef object _engine
    cdef object _driver
    cdef object _gone
    cdef object _tcp  # the transport that owns the descriptor
    cdef bytes _ping  # the newest PING that is not answered
    cdef list _fragments
    cdef Py_ssize_t _fragment_bytes
    cdef bint _text
    cdef bint _closing
    cdef readonly unsigned long long handle  # the engine's number of this connection, 0 while it has none

    def __init__(self, engine, driver, gone):
        """`gone` is called once, when the connection's descriptor is about to be closed."""
        self._engine = engine
        self._driver = driver
        self._gone = gone

    # -- for the driver --

    def register(self, int wire, str connection_id, bint heartbeat_frames):
        """Gives the outgoing side to the engine and returns its handle."""
        self.handle = self._engine.register(
            self._tcp.get_extra_info("socket").fileno(), wire, connection_id, heartbeat_frames
        )
        return self.handle

    def pause(self):
        """Stops reading, until `resume`."""
        if self._tcp is not None and not self._closing:
            self._tcp.pause_reading()

    def resume(self):
        if self._tcp is not None and not self._closing:
            self._tcp.resume_reading()

    def finish(self, int code, str reason=""):
        """Begins the closing handshake after all that was queued; nothing more is read from the client."""
        if self._tcp is None or self._closing:
            return
        if self.handle == 0:
            self._tcp.abort()
            return
        self._closing = True
        self._fragments = None
        self._engine.finish(self.handle, code, reason)
        tcp = self._tcp
        tcp.pause_reading()
        tcp.set_protocol(_Drop(tcp, tcp.get_protocol()))
        tcp.resume_reading()

    def cut(self):
        """Ends the connection at once."""
        if self._tcp is not None:
            self._tcp.abort()

    # -- what picows calls in the place of its transport --

    def __call__(self, data):
        """picows writes: by now it is only ever a CLOSE frame of its own, for a broken frame or a failure here."""
        cdef bytes frame = bytes(data)
        if len(frame) < 4 or frame[0] != 0x88:
            raise RuntimeError("picows wrote something other than a CLOSE frame")
        self.finish(int.from_bytes(frame[2:4], "big"), frame[4:].decode("utf-8", "replace"))

    def close(self):
        """picows closes a moment after its CLOSE; but the engine is writing that, and then ends the connection."""

    def abort(self):
        self.cut()

    # -- what picows tells --

    cpdef on_ws_connected(self, WSTransport transport):
        tcp = transport.underlying_transport
        self._tcp = tcp
        transport.request = None  # nobody asks for them again, and they are half of a connection's memory
        transport.response = None
        _reroute(transport, self)
        if tcp.get_write_buffer_size():
            tcp.abort()  # the response did not fit into an empty socket: never let two write at once
            return
        try:
            self._driver.connected()
        except Exception:
            log.exception("a connection could not be opened")
            self.finish(1011)

    cpdef on_ws_disconnected(self, WSTransport transport):
        self._closing = True
        if self.handle:
            self._engine.unregister(self.handle)
        _forget_unsent(self._tcp)
        driver, gone = self._driver, self._gone
        self._tcp = self._driver = self._gone = self._fragments = None
        try:
            driver.disconnected()
        finally:
            gone()

    cpdef pause_writing(self):
        pass

    cpdef resume_writing(self):
        pass

    cpdef on_ws_frame(self, WSTransport transport, WSFrame frame):
        cdef int kind
        if self._closing:
            return
        if self.handle:
            self._engine.heard(self.handle)
        kind = frame.msg_type
        if frame.rsv1 or frame.rsv2 or frame.rsv3:
            self.finish(1002, "reserved bits are set")
        elif kind == WSMsgType.TEXT or kind == WSMsgType.BINARY or kind == WSMsgType.CONTINUATION:
            self._data(frame, kind)
        elif kind == WSMsgType.PING:
            self._ping = PyBytes_FromStringAndSize(frame.payload_ptr, frame.payload_size)
        elif kind == WSMsgType.CLOSE:
            self._peer_closes(frame)
        if frame.last_in_buffer and self._ping is not None:
            if self.handle and not self._closing:
                self._engine.send(self.handle, self._ping, 10)
            self._ping = None

    cdef _data(self, WSFrame frame, int kind):
        cdef bytes payload = PyBytes_FromStringAndSize(frame.payload_ptr, frame.payload_size)
        if kind == WSMsgType.CONTINUATION:
            if self._fragments is None:
                self.finish(1002, "a continuation of nothing")
                return
        elif self._fragments is not None:
            self.finish(1002, "a new message inside a fragmented one")
            return
        elif frame.fin:
            self._deliver(payload, kind == WSMsgType.TEXT)
            return
        else:
            self._fragments = []
            self._fragment_bytes = 0
            self._text = kind == WSMsgType.TEXT
        self._fragments.append(payload)
        self._fragment_bytes += frame.payload_size
        if self._fragment_bytes > _message_bytes:
            self.finish(1009, "the message is too big")
        elif len(self._fragments) > _fragments_max:
            self.finish(1008, "the message has too many fragments")
        elif frame.fin:
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

    cdef _peer_closes(self, WSFrame frame):
        """Answers CLOSE with the same code, or 1002 for one that must not be sent (RFC 6455 §7.4)."""
        cdef int code = frame.get_close_code() if frame.payload_size else 1000
        if 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999:
            self.finish(code)
        else:
            self.finish(1002, "the close code is not valid")


cdef _forget_unsent(tcp):
    """Makes the kernel drop what the peer has not taken, instead of keeping it for a peer that never will.

    After an orderly end nothing is left to drop; any other end is a reset, so that the peer learns of it as well.
    """
    tcp.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


cdef int _reroute(WSTransport transport, object writer) except -1:
    """Makes `writer` take what picows writes, and its attempts to close."""
    transport._is_aiofn_transport = False
    transport._write_buffer = MemoryBuffer(0)  # 1 KiB otherwise, kept for a CLOSE that most never write
    transport._tr_get_write_buffer_size = _one
    transport._tr_write = writer
    transport.underlying_transport = writer


def hand_over(transport, str key, Listener listener, bytes rest):
    """Lets picows speak WebSocket on a transport whose client asked for it with Sec-WebSocket-Key `key`.

    `rest` is what arrived after the request. The request that picows sees is our own wording of the client's: it holds
    what the handshake is about and nothing else. The write buffer of `transport` must be empty.
    """
    protocol = WSProtocol(
        None,  # host and port: of a client
        None,  # path: of a client
        False,  # a server
        lambda request: listener,
        _quiet,
        True,  # an exception of the listener closes the connection
        None,  # no time limit: the request is complete
        False, 10, 10, 1,  # no pings: the engine's
        False,  # no pongs: ours
        _message_bytes,
        None,  # extra headers: of a client
        _READ_BUFFER,
    )
    transport.pause_reading()
    transport.set_protocol(protocol)
    protocol.connection_made(transport)
    transport.resume_reading()
    _feed(protocol, (
        f"GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: {key}\r\n\r\n"
    ).encode())
    while rest and transport.get_protocol() is protocol and not transport.is_closing():
        _feed(protocol, rest[:_READ_BUFFER // 2])
        rest = rest[_READ_BUFFER // 2:]


def _feed(protocol, bytes data):
    """Hands bytes to picows as its transport would."""
    while data:
        room = protocol.get_buffer(-1)
        part = data[:len(room)]
        room[:len(part)] = part
        protocol.buffer_updated(len(part))
        data = data[len(part):]


class _Probe:
    """As much of a transport, a socket and a loop as picows' own transport needs to be made."""

    def get_extra_info(self, name):
        return self if name == "socket" else None

    def fileno(self):
        return -1

    def get_write_buffer_size(self):
        return 0

    def write(self, data):
        raise ImportError("picows writes past the engine: this version of picows is not the one fanout is made for")

    close = abort = create_future = fileno


def _check_picows():
    """Raises ImportError unless picows' writes and closes can be taken over in the way that `Listener` relies on."""
    taken = []

    class Writer:
        def __call__(self, data):
            taken.append(bytes(data))

        def close(self):
            taken.append(b"close")

    if not picows.__version__.startswith("2.3."):
        raise ImportError(f"fanout is made for picows 2.3, not {picows.__version__}")
    probe = _Probe()
    cdef WSTransport transport = WSTransport(False, probe, _quiet, probe)
    _reroute(transport, Writer())
    transport.send_close(WSCloseCode.PROTOCOL_ERROR, b"x")
    transport.disconnect()
    if taken != [b"\x88\x03\x03\xeax", b"close"]:
        raise ImportError("picows' writes cannot be taken over: this version is not the one fanout is made for")


_check_picows()
