"""What nodes keep of MQTT clients, as facts of the log's topic `fanout.mqtt` (`fanout.control` says what a fact is).

=============================  =========================================================================================
``claim:<name>``               which connection has a client's name now, and its will
``state:<name>``               a session: its subscriptions, and where each stood when it was last written
``release:<name> <id>``        when a packet identifier of QoS 2 was last released
``retained:<channel>``         the channel's retained message
=============================  =========================================================================================

A name is a JSON array of owner and client id. A claim or state of an older generation than another one of its name
does not count: its node wrote it before it knew. So whoever ends a session writes a state that is over, and takes that
back only then: what is merely taken back names no generation.
"""

import base64
import sys
from typing import Any, Final

import msgspec
import orjson

from fanout.transports.mqtt_ports import Name, Place, Subscription, Will
from fanout.types import OutMessage

__all__ = [
    "CLAIM", "RELEASE", "RETAINED", "STATE", "Claim", "State", "message_of", "name_of", "name_text", "over",
    "shown_message", "shown_will", "will_of",
]  # fmt: skip

CLAIM: Final = "claim"
STATE: Final = "state"
RELEASE: Final = "release"
RETAINED: Final = "retained"

_FIELDS: Final = ("id", "name", "encoding", "client_id", "connection_id", "extras")


class Claim(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who has a name: a connection of `node`, told from the node's others by `life`."""

    generation: int
    node: str
    life: str
    clean: bool = False
    """Whether nothing of an earlier session of that name counts."""
    will: dict[str, Any] | None = None
    """As `shown_will` makes it; None: nothing is published when the connection is lost, or that was done."""
    lost_ms: int | None = None
    """When the connection was lost, if the will is still to be published."""


class State(msgspec.Struct, frozen=True, omit_defaults=True):
    """A session. `uid` tells it from others of the same name, before and after it."""

    generation: int
    uid: str
    expiry_s: int
    ended_ms: int | None = None
    """When its connection was over; None while there is one."""
    is_exact: bool = True
    """Whether the connection's own node has said that it is over; else its client may have been given more."""
    subscriptions: tuple[Subscription, ...] = ()
    places: tuple[Place, ...] = ()
    place: str = ""
    """Under its wildcards, channels that are not among `places` have been given all before this."""

    def size(self) -> int:
        """Bytes that it takes as JSON; 0.2 µs for each place."""
        return len(msgspec.json.encode(self))

    def expires_ms(self) -> float:
        """When it is over, unless it is taken before; infinite while it has a connection."""
        return float("inf") if self.ended_ms is None else self.ended_ms + self.expiry_s * 1_000


def over(generation: int) -> dict[str, Any]:
    """The state of a session that is over, whatever the time is."""
    return {"generation": generation, "uid": "", "expiry_s": 0, "ended_ms": 0}


def name_text(name: Name) -> str:
    """A client's name in a fact's."""
    return orjson.dumps((name.owner, name.client_id)).decode()


def name_of(text: str) -> Name:
    """The other way round. Raises ValueError for what is none."""
    parts = orjson.loads(text)
    if not (isinstance(parts, list) and len(parts) == 2 and all(isinstance(part, str) for part in parts)):
        raise ValueError(f"{text!r} names no client")
    owner, client_id = parts
    return Name(sys.intern(owner), client_id)


def shown_message(message: OutMessage) -> dict[str, Any]:
    """A message as JSON has it."""
    shown = {field: value for field in _FIELDS if (value := getattr(message, field)) is not None}
    if isinstance(message.data, bytes):
        shown["bytes"] = base64.b64encode(message.data).decode()
    elif message.data is not None:
        shown["text"] = message.data
    return shown


def message_of(shown: dict[str, Any]) -> OutMessage:
    """The other way round. Raises ValueError or TypeError for what is none."""
    data: str | bytes | None = shown.get("text")
    if "bytes" in shown:
        data = base64.b64decode(shown["bytes"], validate=True)
    return OutMessage(data=data, **{field: shown[field] for field in _FIELDS if field in shown})


def shown_will(will: Will) -> dict[str, Any]:
    """A will as JSON has it."""
    return {
        "channel": will.channel,
        "message": shown_message(will.message),
        "delay_s": will.delay_s,
        "retain": will.retain,
    }


def will_of(shown: dict[str, Any]) -> Will:
    """The other way round. Raises KeyError, ValueError or TypeError for what is none."""
    return Will(shown["channel"], message_of(shown["message"]), shown["delay_s"], shown["retain"])
