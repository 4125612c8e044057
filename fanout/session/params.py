"""The query of the connection's URL (Ably protocol, "Transports and the socket URL"). What is unknown is ignored."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from fanout.errors import ClientError, error
from fanout.wire import JSON, MSGPACK

__all__ = ["ConnectParams", "requested_wire"]

VERSIONS: Final = range(2, 7)
"""Protocol versions that differ for a server. A later one counts as the last: the protocol grows compatibly."""

IDLE_LONGEST_MS: Final = 1_800_000
"""The longest `heartbeatInterval` that the protocol lets a client choose."""


def requested_wire(query: Mapping[str, str]) -> int:
    """The wire a client reads, also where the rest of its query is refused: MSGPACK if it asks for that, else JSON."""
    return MSGPACK if query.get("format") == "msgpack" else JSON


@dataclass(frozen=True, slots=True)
class ConnectParams:
    """What a client asks for when it connects."""

    version: int
    wire: int
    key: str | None = None
    access_token: str | None = None
    client_id: str | None = None
    resume: str | None = None
    """The connection key to continue with; `recover` means the same."""
    echo: bool = True
    heartbeats: bool = True
    """Whether idle time must be filled with frames. Only a client that says `false` can see WebSocket pings."""
    heartbeat_interval_ms: int | None = None

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> "ConnectParams":
        """Raises ClientError: 40017 for a version that is missing or not spoken, 40003 for another bad value."""
        return cls(
            version=_version(query.get("v")),
            wire=_wire(query),
            key=query.get("key"),
            access_token=query.get("access_token") or query.get("accessToken"),
            client_id=query.get("clientId"),
            resume=query.get("resume") or query.get("recover"),
            echo=query.get("echo") != "false",
            heartbeats=query.get("heartbeats") != "false",
            heartbeat_interval_ms=_interval(query.get("heartbeatInterval")),
        )


def _version(text: str | None) -> int:
    if text is None:
        raise ClientError(error(40017, f"v is missing; v={VERSIONS[-1]} is spoken here"))
    # Nine digits are enough for versions to come, and short enough for int() to be safe.
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < VERSIONS[0]:
        raise ClientError(error(40017, f"v is an integer from {VERSIONS[0]} on"))
    return min(int(text), VERSIONS[-1])


def _wire(query: Mapping[str, str]) -> int:
    if query.get("format", "json") not in ("json", "msgpack"):
        raise ClientError(error(40003, "format is json or msgpack"))
    return requested_wire(query)


def _interval(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text):
        raise ClientError(error(40003, "heartbeatInterval is a number of ms"))
    return min(int(text), IDLE_LONGEST_MS)
