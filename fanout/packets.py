"""MQTT control packets of clients as values (MQTT 5.0 §3, MQTT 3.1.1 §3); the native codec makes and reads them.

What is said here was checked: identifiers are not 0, topics and filters are such, text has no NUL. MQTT 3.1.1 leaves
what it does not know at its default. A leaf: any thread.
"""

from typing import Final

import msgspec

__all__ = [
    "PUBACK", "PUBCOMP", "PUBREC", "PUBREL", "Ack", "Auth", "Connack", "Connect", "Disconnect", "Entry", "Fault",
    "Packet", "Ping", "Properties", "Publish", "Suback", "Subscribe", "Unsuback", "Unsubscribe", "WillPacket",
]  # fmt: skip

PUBACK: Final = 4
PUBREC: Final = 5
PUBREL: Final = 6
PUBCOMP: Final = 7


class Properties(msgspec.Struct, frozen=True, gc=False):
    """What a message says beside its payload. `expiry` is in seconds; `utf8` says that the payload is UTF-8."""

    utf8: bool = False
    expiry: int | None = None
    content_type: str | None = None
    response_topic: str | None = None
    correlation: bytes | None = None
    user: tuple[tuple[str, str], ...] = ()


class WillPacket(msgspec.Struct, frozen=True, gc=False):
    """The will within CONNECT. `delay` is in seconds."""

    topic: str
    payload: bytes
    qos: int
    retain: bool
    delay: int
    properties: Properties


class Connect(msgspec.Struct, frozen=True, gc=False):
    """CONNECT. `version` is 4 for MQTT 3.1.1, 5 for MQTT 5.0; times are in seconds; `packet_maximum` 0 is any."""

    version: int
    client_id: str
    clean: bool
    keep_alive: int
    username: str | None
    password: bytes | None
    will: WillPacket | None
    session_expiry: int | None
    receive_maximum: int
    packet_maximum: int
    authenticates: bool
    """Whether it asks for an authentication of its own kind."""
    wants_reasons: bool


class Publish(msgspec.Struct, frozen=True, gc=False):
    """PUBLISH. `packet_id` is 0 with QoS 0, `alias` 0 for none; with one the topic may be empty. `identifier` is the
    subscription's, 0 for none: servers say it.
    """

    topic: str
    payload: bytes
    qos: int
    dup: bool
    retain: bool
    packet_id: int
    alias: int
    properties: Properties
    identifier: int = 0


class Ack(msgspec.Struct, frozen=True, gc=False):
    """PUBACK, PUBREC, PUBREL or PUBCOMP, as `kind` says."""

    kind: int
    packet_id: int
    reason: int = 0


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One filter of SUBSCRIBE."""

    filter: str
    qos: int
    no_local: bool
    retain_as_published: bool
    retain_handling: int


class Subscribe(msgspec.Struct, frozen=True, gc=False):
    """SUBSCRIBE. `identifier` is 0 for none."""

    packet_id: int
    entries: tuple[Entry, ...]
    identifier: int


class Unsubscribe(msgspec.Struct, frozen=True, gc=False):
    """UNSUBSCRIBE."""

    packet_id: int
    filters: tuple[str, ...]


class Ping(msgspec.Struct, frozen=True, gc=False):
    """PINGREQ, and PINGRESP."""


class Disconnect(msgspec.Struct, frozen=True, gc=False):
    """DISCONNECT, of either side."""

    reason: int = 0
    session_expiry: int | None = None


class Auth(msgspec.Struct, frozen=True, gc=False):
    """AUTH."""


class Fault(msgspec.Struct, frozen=True, gc=False):
    """What came was no packet, or not one that may come: the last thing that is heard. `reason` is MQTT 5.0's."""

    reason: int
    text: str


class Connack(msgspec.Struct, frozen=True, gc=False):
    """CONNACK. What is None is not said."""

    present: bool
    reason: int
    session_expiry: int | None = None
    receive_maximum: int | None = None
    packet_maximum: int | None = None
    client_id: str | None = None
    alias_maximum: int | None = None
    keep_alive: int | None = None
    no_wildcards: bool = False
    no_shared: bool = False


class Suback(msgspec.Struct, frozen=True, gc=False):
    """SUBACK: a reason for each filter."""

    packet_id: int
    reasons: tuple[int, ...]


class Unsuback(msgspec.Struct, frozen=True, gc=False):
    """UNSUBACK: a reason for each filter."""

    packet_id: int
    reasons: tuple[int, ...]


Packet = Connect | Publish | Ack | Subscribe | Unsubscribe | Ping | Disconnect | Auth | Fault
"""What a client may be heard to say."""
