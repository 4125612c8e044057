"""What a stream of the server says, taken apart: the HTTP response, and the events in its body.

Rules:

- An event counts once it is whole; what a cut leaves of one is as if it had never come (HTML standard, "Interpreting an
  event stream"). So the id that a client comes back with is that of the last whole event.
- An id without data is an event as well: a place to come back to.

Pure.
"""

from typing import Any, NamedTuple

import httptools
import orjson

__all__ = ["Event", "Events", "Lines", "Reply"]


class Event(NamedTuple):
    """One event: the id, None if it has none; what it is; and its data, None if it has none."""

    id: str | None
    kind: str
    data: Any


class Reply:
    """One HTTP response, as far as it has come. Chunks are unwrapped."""

    def __init__(self) -> None:
        self.status = 0
        """0 until the head is whole."""
        self.is_whole = False
        """Whether the end of the body has come."""
        self._parser = httptools.HttpResponseParser(self)
        self._body: list[bytes] = []

    def feed(self, piece: bytes) -> bytes:
        """What of the body the piece has. Raises ConnectionError for what is no HTTP."""
        try:
            self._parser.feed_data(piece)
        except httptools.HttpParserError as problem:
            raise ConnectionResetError(f"no HTTP: {problem}") from problem
        body, self._body = b"".join(self._body), []
        return body

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self.status = self._parser.get_status_code()

    def on_body(self, piece: bytes) -> None:
        """Called by the parser."""
        self._body.append(piece)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self.is_whole = True


class Events:
    """The body of a response as server-sent events, enveloped ones: each `data` is JSON."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[Event]:
        """The events that are whole by now."""
        *blocks, self._rest = (self._rest + piece).split(b"\n\n")
        return [event for block in blocks if (event := _event(block)) is not None]


class Lines:
    """The body of a response as a JSON object a line."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, piece: bytes) -> list[Event]:
        """The events that are whole by now."""
        *lines, self._rest = (self._rest + piece).split(b"\n")
        said = (orjson.loads(line) for line in lines if line)
        return [Event(line.get("id"), line.get("event", "message"), line.get("data")) for line in said]


def _event(block: bytes) -> Event | None:
    """None for a block of comments."""
    event_id, kind, data = None, "message", list[str]()
    for line in block.decode().split("\n"):
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:
            case "id":
                event_id = value
            case "event":
                kind = value
            case "data":
                data.append(value)
    if event_id is None and not data:
        return None
    return Event(event_id, kind, orjson.loads("\n".join(data)) if data else None)
