"""Bytes to requests (RFC 9112): what is accepted, what is refused and with which status. No I/O, no clock.

llhttp parses; this module adds what a server on the open net must check itself:

- a head of at most 16 KiB and 100 fields (431), a body of at most 2 MiB (413);
- `Host` exactly once in HTTP/1.1 (400); never both `Content-Length` and `Transfer-Encoding` (400), and no coding but
  `chunked` (501);
- at most 16 requests wait to be answered: what follows is kept unparsed until the caller has taken some.

A refusal is answered in the protocol's form, 40009 or 40000 with the status above. It is the last thing that a reader
yields: after it, nothing on the connection can be trusted. The same is true of an upgrade, after which the bytes are
another protocol's.
"""

import re
from collections import deque
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl

import httptools

from fanout.errors import error
from fanout.transports.http import Request, Response
from fanout.transports.replies import error_reply

__all__ = ["LIMITS", "Limits", "Refusal", "RequestReader", "Upgrade"]


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of what one connection may send."""

    head_bytes: int = 16 << 10
    head_fields: int = 100
    body_bytes: int = 2 << 20
    query_fields: int = 100
    pipelined: int = 16  # requests waiting to be answered before parsing stops
    slice_bytes: int = 4 << 10  # parsed at once: at most 151 more requests


LIMITS: Final = Limits()

_HOST = re.compile(r"[A-Za-z0-9._~%!$&'()*+,;=:\[\]-]*")


@dataclass(frozen=True, slots=True)
class Refusal:
    """The connection is answered with `response` and closed."""

    response: Response


@dataclass(frozen=True, slots=True)
class Upgrade:
    """The client asks to speak WebSocket on `/`; `rest` is what it already sent of that."""

    request: Request
    rest: bytes


class _Refused(Exception):
    """The way out of llhttp's callbacks."""

    def __init__(self, status: int) -> None:
        self.status = status


class RequestReader:
    """Takes what one connection sends; `ready` holds what came out, oldest first. Belongs to one thread."""

    __slots__ = (
        "_body", "_body_bytes", "_complete", "_field_bytes", "_fields", "_headers", "_parser", "_raw_bytes", "_request",
        "_unparsed", "_url", "ready", "started", "stopped", "wants_continue",
    )  # fmt: skip

    def __init__(self) -> None:
        self.ready: deque[Request | Refusal | Upgrade] = deque()
        self.started = False  # a request has begun that is not complete
        self.stopped = False  # nothing more will be parsed
        self.wants_continue = False  # the client waits for 100 before it sends the body
        self._unparsed = b""
        self._new_parser()

    def _new_parser(self) -> None:
        self._parser: httptools.HttpRequestParser | None = httptools.HttpRequestParser(self)
        self._begin()

    def _begin(self) -> None:
        self._url = b""
        self._headers: dict[str, str] = {}
        self._fields = 0
        self._field_bytes = 0
        self._raw_bytes = 0  # of a head that is not complete, including a field that is not
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._request: Request | None = None
        self._complete: Request | None = None

    @property
    def full(self) -> bool:
        """Enough requests wait; `feed(b"")` goes on after some were taken."""
        return len(self.ready) >= LIMITS.pipelined

    @property
    def in_body(self) -> bool:
        """The head of the request that has begun is complete."""
        return self._request is not None

    def close(self) -> None:
        """Lets go of the parser, which refers back to this object. Nothing may be fed afterwards."""
        self.stopped = True
        self._parser = None

    def feed(self, data: bytes) -> None:
        """Parses `data` and what was kept before it, as far as `ready` has room."""
        data = self._unparsed + data if self._unparsed else data
        start, size = 0, len(data)
        while start < size and not self.stopped and not self.full:
            end = min(start + LIMITS.slice_bytes, size)
            used = self._feed_slice(data[start:end])
            if self.stopped and self.ready and isinstance(self.ready[-1], Upgrade):
                self.ready[-1] = Upgrade(self.ready[-1].request, data[start + used :])
            start += used
        self._unparsed = b"" if self.stopped else data[start:]

    def _feed_slice(self, data: bytes) -> int:
        """Parses one slice and returns how much of it was used."""
        assert self._parser is not None
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            used = int(upgrade.args[0])
            if self._complete is not None and _is_websocket(self._complete):
                self.ready[-1] = Upgrade(self._complete, b"")
                self.close()
            elif not self.stopped:
                self._new_parser()  # another protocol was offered: declined by answering as usual
            return used
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if not isinstance(cause, _Refused):
                raise
            self._refuse(cause.status)
        except httptools.HttpParserError:
            self._refuse(400)
        else:
            if self.started and not self.in_body:
                self._raw_bytes += len(data)
                if self._raw_bytes > LIMITS.head_bytes + LIMITS.slice_bytes:
                    self._refuse(431)
        return len(data)

    def _refuse(self, status: int) -> None:
        reason = replace(error(40009 if status == HTTPStatus.REQUEST_ENTITY_TOO_LARGE else 40000), status=status)
        asked = Request("", "", {}, self._headers)  # as far as it came: it says who asks, and in which encoding
        self.ready.append(Refusal(error_reply(asked, reason)))
        self.started = False
        self.close()

    # -- llhttp's callbacks --

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._begin()
        self.started = True

    def on_url(self, url: bytes) -> None:
        """A part of the request target."""
        self._url += url
        self._grow(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One whole field, of the head or of a chunked body's trailer."""
        self._fields += 1
        if self._fields > LIMITS.head_fields:
            raise _Refused(431)
        self._grow(len(name) + len(value) + 4)
        if self.in_body:
            return  # a trailer: counted, and of no use to any handler
        key, text = name.decode("latin-1").lower(), value.decode("latin-1").strip(" \t")
        if key in self._headers:
            if key in ("host", "content-length", "transfer-encoding"):
                raise _Refused(400)
            text = f"{self._headers[key]}, {text}"
        self._headers[key] = text

    def _grow(self, size: int) -> None:
        self._field_bytes += size
        if self._field_bytes > LIMITS.head_bytes:
            raise _Refused(431)

    def on_headers_complete(self) -> None:
        """The head is complete: everything that can be refused without the body is."""
        assert self._parser is not None
        headers, version = self._headers, self._parser.get_http_version()
        if version not in ("1.0", "1.1"):
            raise _Refused(505)
        host = headers.get("host")
        if (host is None and version == "1.1") or (host is not None and not _HOST.fullmatch(host)):
            raise _Refused(400)
        coding = headers.get("transfer-encoding")
        if coding is not None and (version == "1.0" or "content-length" in headers):
            raise _Refused(400)
        if coding is not None and coding.lower() != "chunked":
            raise _Refused(501)
        length = int(headers.get("content-length") or 0)  # llhttp let digits through and nothing else
        if length > LIMITS.body_bytes:
            raise _Refused(413)
        expect = headers.get("expect")
        if expect is not None and expect.lower() != "100-continue":
            raise _Refused(417)
        has_body = length > 0 or coding is not None
        if has_body and self._parser.should_upgrade():
            raise _Refused(400)  # the bytes that follow would be neither surely a body nor surely another protocol
        path, query = _target(self._url)
        self._request = Request(
            method=self._parser.get_method().decode(),
            path=path,
            query=query,
            headers=headers,
            version=version,
            keep_alive=self._parser.should_keep_alive(),
        )
        self.wants_continue = expect is not None and version == "1.1" and has_body

    def on_body(self, part: bytes) -> None:
        """A part of the body, chunks unwrapped."""
        self.wants_continue = False
        self._body_bytes += len(part)
        if self._body_bytes > LIMITS.body_bytes:
            raise _Refused(413)
        self._body.append(part)

    def on_message_complete(self) -> None:
        """The request is whole."""
        request = self._request
        assert request is not None
        if self._body:
            request = replace(request, body=b"".join(self._body))
        self.ready.append(request)
        self._begin()
        self._complete = request
        self.started = False
        self.wants_continue = False


def _target(url: bytes) -> tuple[str, dict[str, str]]:
    """The percent-encoded path and the decoded query of a request target (RFC 9112 §3.2), absolute form included."""
    if url == b"*":
        return "*", {}
    try:
        parsed = httptools.parse_url(url)
        pairs = parse_qsl(
            (parsed.query or b"").decode("ascii"), keep_blank_values=True, max_num_fields=LIMITS.query_fields
        )
        return (parsed.path or b"/").decode("ascii"), dict(pairs)
    except (httptools.HttpParserInvalidURLError, ValueError):
        raise _Refused(400) from None


_WEBSOCKETS: Final = ("/", "/mqtt")  # MQTT clients commonly ask for the second


def _is_websocket(request: Request) -> bool:
    return (
        request.method == "GET"
        and request.path in _WEBSOCKETS
        and "websocket" in request.tokens("upgrade")
        and "upgrade" in request.tokens("connection")
        and not request.body
    )
