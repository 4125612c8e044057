"""The vocabulary: values that every layer speaks of, frozen and without behaviour.

A leaf: nothing of ours is imported here. Times are milliseconds since 1970, UTC.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple

import msgspec

__all__ = [
    "END_OF_TIME",
    "Annotation",
    "Creation",
    "HistoryPage",
    "HistoryQuery",
    "Identity",
    "Message",
    "OutAnnotation",
    "OutChange",
    "OutMessage",
    "PresenceEvent",
    "PresenceMessage",
    "Record",
]

END_OF_TIME: Final = (1 << 53) - 1
"""The largest number that JSON readers keep: as the end of a range of times, none."""


@dataclass(frozen=True, slots=True)
class Message:
    """One publication as a subscriber receives it.

    `position` is where its channel stands *after* this message: give it back as `since` to continue from here, on any
    node and after any restart. It is opaque.
    """

    channel: str
    id: str
    serial: str
    timestamp: int
    data: str | bytes | None
    name: str | None = None
    encoding: str | None = None
    client_id: str | None = None
    connection_id: str | None = None
    extras: dict[str, Any] | None = None
    position: str = ""
    action: int = 0
    """What it is by now: 0 as it was published, 1 updated, 2 deleted; 4 is news of `annotations` alone, 5 a piece that
    was appended."""
    version: dict[str, Any] | None = None
    """Of one that was changed: `serial`, `timestamp` and, as far as they were given, `clientId`, `description`,
    `metadata` of the change."""
    annotations: dict[str, Any] | None = None
    """What its annotations come to, by type."""


@dataclass(frozen=True, slots=True)
class Annotation:
    """Something that was said about a message. `action` is 0, or 1 if it takes back what was said."""

    channel: str
    id: str
    serial: str
    timestamp: int
    action: int
    message_serial: str
    type: str
    name: str | None = None
    count: int | None = None
    data: str | bytes | None = None
    encoding: str | None = None
    client_id: str | None = None
    connection_id: str | None = None
    extras: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """What of a channel's past is asked for: at most `limit` messages of these times, both included.

    `cursor` is that of the page before; `until` a position that nothing lies behind, which goes with backwards.
    """

    start_ms: int
    end_ms: int
    forwards: bool
    limit: int
    cursor: str | None = None
    until: str | None = None


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """Messages in the order asked for, and the cursor of the next page; None: there is no more."""

    messages: list[Message]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class PresenceMessage:
    """A member of a channel's presence set, or one event of it.

    `action` is the protocol's number: 1 present, 2 enter, 3 leave, 4 update (Ably protocol, "Presence").
    """

    channel: str
    action: int
    id: str
    timestamp: int
    client_id: str
    connection_id: str
    data: str | bytes | None = None
    encoding: str | None = None
    extras: dict[str, Any] | None = None


class OutMessage(msgspec.Struct, frozen=True, gc=False):
    """One message on its way to the log.

    `data` is text or bytes; what `encoding` still names (for example `json`, or a cipher) is the receivers' business.
    `id` is stable over re-sending: a second record with the same id in a channel is recognised and skipped.
    """

    id: str
    data: str | bytes | None
    name: str | None = None
    encoding: str | None = None
    client_id: str | None = None
    connection_id: str | None = None
    extras: dict[str, Any] | None = None
    headers: tuple[tuple[str, bytes], ...] = ()
    """Of its record, beside those that say the above."""


class OutChange(msgspec.Struct, frozen=True, gc=False):
    """A change of a message on its way to the log. What is None stays as it is."""

    action: str
    """`update`, `delete` or `append`; the last adds `data` to what is there."""
    serial: str
    """Of the message."""
    id: str
    data: str | bytes | None = None
    name: str | None = None
    encoding: str | None = None
    connection_id: str | None = None
    extras: dict[str, Any] | None = None
    version: dict[str, Any] = {}
    """`clientId`, `description`, `metadata` of the change, as far as they are given."""
    owner: str | None = None
    """The message's publisher must be this client; None: it may be anybody."""


class OutAnnotation(msgspec.Struct, frozen=True, gc=False):
    """An annotation on its way to the log."""

    serial: str
    """Of the message."""
    type: str
    id: str
    deletes: bool = False
    name: str | None = None
    count: int | None = None
    data: str | bytes | None = None
    encoding: str | None = None
    client_id: str | None = None
    connection_id: str | None = None
    extras: dict[str, Any] | None = None


class PresenceEvent(msgspec.Struct, frozen=True, gc=False):
    """A step of one member of a channel's presence set, on its way to the log.

    `action` is `enter`, `update` or `leave`. `size` is that of the member, in bytes, by the protocol's
    rule for messages. `generation` is how often the member's connection had been continued when it was said.
    """

    action: str
    id: str
    client_id: str
    data: str | bytes | None = None
    encoding: str | None = None
    extras: dict[str, Any] | None = None
    size: int = 0
    generation: int = 0


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a credential speaks for, and what it may do.

    `client_id` is None for an anonymous client and `*` for one that may speak as anybody. `capability` maps a channel
    pattern to the operations allowed on what it matches; `fanout.auth.capabilities` reads it. A key is good for ever; a
    token was `issued` once and expires, in ms, and may be named by a `revocation_key`.
    """

    key_name: str
    client_id: str | None
    capability: "dict[str, frozenset[str]]"
    expires: int | None = None
    issued: int | None = None
    revocation_key: str | None = None

    @property
    def who(self) -> str:
        """By whom requests without a connection are counted: a client, or all that a key has without a client id."""
        return f"{self.key_name} {self.client_id or ''}"


class Record(NamedTuple):
    """One record as read. `timestamp` is in ms; `leader_epoch` is -1 where the log has none.

    confluent-kafka's `Message` may stand in its place: the engine reads it through the methods of the same names, which
    saves making one more object for each record.
    """

    topic: str
    partition: int
    offset: int
    leader_epoch: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]] | None


class Creation(NamedTuple):
    """How a topic is made where it is missing.

    `settings` are Kafka's. It gets so many `partitions`; None: as many as the topic `like` has, or, without that, as
    many as topics get that say nothing.
    """

    settings: Mapping[str, str] = MappingProxyType({})
    partitions: int | None = None
    like: str | None = None
