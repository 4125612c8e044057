"""What a handler sees of HTTP: a request, and the response it answers with (RFC 9110).

Handlers are `async def handler(request) -> Response`. They never see a socket; whether a connection is kept, when bytes
leave and how long a client may take is the front's business (`fanout.transports.front`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Final

__all__ = ["CONTINUE", "Handler", "Request", "Response", "Streamed", "plain"]

CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"

_STATUS_LINES: Final = {int(s): f"HTTP/1.1 {s.value} {s.phrase}\r\n" for s in HTTPStatus}
_BODILESS: Final = frozenset({204, 304})


@dataclass(frozen=True, slots=True)
class Request:
    """One request, complete.

    `path` is percent-encoded as it came, so that `%2F` inside a segment can be told from a separator. `query` is
    decoded; of a repeated parameter the last counts. Names in `headers` are lower-case; values of a repeated field are
    joined by a comma and a space. `keep_alive` says whether the client lets the connection be used again. `variables`
    are the parts of the path that the route left open, decoded.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = b""
    version: str = "1.1"
    keep_alive: bool = True
    variables: Mapping[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str:
        """The field's value, by its lower-case name; empty when absent."""
        return self.headers.get(name, "")

    def tokens(self, name: str) -> frozenset[str]:
        """The comma-separated members of a field, lower-case."""
        return frozenset(token.strip().lower() for token in self.header(name).split(","))


@dataclass(frozen=True, slots=True)
class Response:
    """An answer. Length and connection fields are added when it is written; `headers` must not name them."""

    status: int = 200
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()

    def with_headers(self, *more: tuple[str, str]) -> "Response":
        """The same answer with more fields."""
        return replace(self, headers=self.headers + more)

    def encode(self, *, keep_alive: bool, version: str = "1.1", head_only: bool = False) -> bytes:
        """The bytes on the wire. `head_only` answers HEAD: the length of the body that GET would have, without it."""
        lines = [_STATUS_LINES[self.status]]
        lines += [f"{name}: {_one_line(value)}\r\n" for name, value in self.headers]
        if self.status not in _BODILESS:
            lines.append(f"content-type: {self.content_type}\r\ncontent-length: {len(self.body)}\r\n")
        if not keep_alive:
            lines.append("connection: close\r\n")
        elif version == "1.0":
            lines.append("connection: keep-alive\r\n")
        head = "".join([*lines, "\r\n"]).encode("latin-1", "replace")
        return head if head_only or self.status in _BODILESS else head + self.body


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed(Response):
    """An answer whose body somebody else writes, in chunks (RFC 9112 §7.1), and whose end is the connection's.

    `begin` is called once, when the head has been written: with the transport, its descriptor (-1 where nobody but the
    transport may write, because it encrypts), and what to call once the connection is gone. The transport may be
    closing by then.
    """

    begin: Callable[[asyncio.Transport, int, Callable[[], None]], None]

    def encode(self, *, keep_alive: bool = False, version: str = "1.1", head_only: bool = False) -> bytes:
        """The head alone, whatever is asked for."""
        lines = [_STATUS_LINES[self.status]]
        lines += [f"{name}: {_one_line(value)}\r\n" for name, value in self.headers]
        lines.append(f"content-type: {self.content_type}\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n")
        return "".join(lines).encode("latin-1", "replace")


Handler = Callable[[Request], Awaitable[Response]]


def plain(status: int, *headers: tuple[str, str]) -> Response:
    """The constant answer of a status: its phrase as text. Says nothing of what the client sent."""
    return Response(status, HTTPStatus(status).phrase.encode() + b"\n", headers=headers)


def _one_line(value: str) -> str:
    """A field's value without the characters that would end the field."""
    return value.translate({10: " ", 13: " ", 0: " "})
