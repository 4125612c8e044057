"""The query of the connection's URL (Ably protocol, "Transports and the socket URL"). What is unknown is ignored."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import msgspec

from fanout.errors import ClientError, error
from fanout.wire import JSON, MSGPACK

__all__ = ["REMAIN_MS", "VERSIONS", "ConnectParams", "requested_wire"]

VERSIONS: Final = range(2, 7)
"""Protocol versions that differ for a server. A later one counts as the last: the protocol grows compatibly."""

IDLE_LONGEST_MS: Final = 1_800_000
"""The longest `heartbeatInterval` that the protocol lets a client choose."""

REMAIN_MS: Final = 15_000
"""How long presence members of a lost connection stay, unless the client says: the protocol's number."""

REMAIN_LONGEST_MS: Final = 120_000
"""The longest that a client can say: after it the connection could not be continued anyway."""

SHARED_MAX: Final = 256
"""Ways of being spoken to that are kept to be shared, each a few hundred bytes. Few are in use at once."""

_NUMBER: Final = re.compile(r"[0-9]{1,9}")
"""Nine digits are enough for versions to come, and short enough for int() to be safe."""


def requested_wire(query: Mapping[str, str]) -> int:
    """The wire a client reads, also where the rest of its query is refused: MSGPACK if it asks for that, else JSON."""
    return MSGPACK if query.get("format") == "msgpack" else JSON


class ConnectParams(msgspec.Struct, frozen=True):
    """How a client wants to be spoken to. Clients that want the same share one object."""

    version: int
    wire: int
    echo: bool = True
    heartbeats: bool = True
    """Whether idle time must be filled with frames. Only a client that says `false` can see WebSocket pings."""
    heartbeat_interval_ms: int | None = None
    remain_present_ms: int = REMAIN_MS
    """How long the connection's presence members stay when its transport is lost."""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> "ConnectParams":
        """Raises ClientError: 40017 for a version that is missing or not spoken, 40003 for another bad value."""
        get = query.get
        return _parsed(
            get("v"),
            get("format", "json"),
            get("echo") != "false",
            get("heartbeats") != "false",
            get("heartbeatInterval"),
            get("remainPresentFor"),
        )


@lru_cache(SHARED_MAX)
def _parsed(
    version: str | None, wire: str, echo: bool, heartbeats: bool, interval: str | None, remain: str | None
) -> ConnectParams:
    return ConnectParams(
        _version(version),
        _wire(wire),
        echo,
        heartbeats,
        _milliseconds("heartbeatInterval", interval, IDLE_LONGEST_MS),
        REMAIN_MS if (given := _milliseconds("remainPresentFor", remain, REMAIN_LONGEST_MS)) is None else given,
    )


def _version(text: str | None) -> int:
    if text is None:
        raise ClientError(error(40017, f"v is missing; v={VERSIONS[-1]} is spoken here"))
    if not _NUMBER.fullmatch(text) or int(text) < VERSIONS[0]:
        raise ClientError(error(40017, f"v is an integer from {VERSIONS[0]} on"))
    return min(int(text), VERSIONS[-1])


def _wire(name: str) -> int:
    if name not in ("json", "msgpack"):
        raise ClientError(error(40003, "format is json or msgpack"))
    return requested_wire({"format": name})


def _milliseconds(name: str, text: str | None, longest: int) -> int | None:
    if text is None:
        return None
    if not _NUMBER.fullmatch(text):
        raise ClientError(error(40003, f"{name} is a number of ms"))
    return min(int(text), longest)
