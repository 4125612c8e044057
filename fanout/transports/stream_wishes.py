"""What the request of a stream asks for: channels, where to go on in each of them, and in which shape.

Rules:

- A channel that is named twice is followed once.
- `Last-Event-ID` counts before `lastEvent`: a browser that comes back sends both, and the field is the newer one.
- A position for each channel, or none at all: anything else is of another stream, and to guess would skip messages.
- What is one word of two is refused when it is neither.

Pure.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fanout.errors import ClientError, error
from fanout.transports.http import Request

__all__ = ["CHANNELS_MAX", "Wishes"]

CHANNELS_MAX: Final = 32
"""Of one stream: each event carries as many positions."""

_EVENTS, _LINES, _BARE, _SEVERAL = 2, 3, 4, 8  # as the engine numbers what it writes, and adds to that
_FOR_EACH: Final = ("rewind", "rewindLimit", "delta", "occupancy")


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a stream is asked to be."""

    places: Mapping[str, str]
    """The channels, as they are spelled and in their order, and the position to go on from in each; empty for none."""
    params: Mapping[str, str]
    """What counts for every channel, by its name."""
    lines: bool
    """A JSON object a line, else server-sent events."""
    bare: bool
    """The payloads alone."""
    heartbeats: bool
    """Idle time is filled with events that a page sees."""

    @classmethod
    def read(cls, request: Request, *, lines: bool) -> "Wishes":
        """Raises ClientError: 40003 for a value that makes no sense, 40010 if there is no channel."""
        query = request.query
        separator = query.get("separator") or ","
        named = query.get("channels") or query.get("channel") or ""
        spellings = list(dict.fromkeys(name for name in named.split(separator) if name))
        if not spellings:
            raise ClientError(error(40010, "channels names none"))
        if len(spellings) > CHANNELS_MAX:
            raise ClientError(error(40003, f"channels: {CHANNELS_MAX} is the limit"))
        last = request.header("last-event-id") or query.get("lastEvent") or ""
        positions = last.split(",") if last else [""] * len(spellings)
        if len(positions) != len(spellings):
            raise ClientError(error(40003, "lastEvent is of a stream of other channels"))
        return cls(
            places=dict(zip(spellings, positions, strict=True)),
            params={name: query[name] for name in _FOR_EACH if name in query},
            lines=lines,
            bare=not _truth(query, "enveloped", default=True),
            heartbeats=_truth(query, "heartbeats", default=False),
        )

    @property
    def wire(self) -> int:
        """As the engine numbers it."""
        return (
            (_LINES if self.lines else _EVENTS)
            + (_BARE if self.bare else 0)
            + (_SEVERAL if len(self.places) > 1 else 0)
        )

    @property
    def content_type(self) -> str:
        """Of the response."""
        return "application/x-ndjson" if self.lines else "text/event-stream"


def _truth(query: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = query.get(name, str(default).lower())
    if text not in ("true", "false"):
        raise ClientError(error(40003, f"{name} is true or false"))
    return text == "true"
