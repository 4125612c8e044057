"""What one MQTT client publishes: topic aliases, and which acknowledgement a publish of the session's is owed.

An identifier with QoS 1 is the client's again with PUBACK, one with QoS 2 with PUBCOMP. `RECEIVE_MAXIMUM` of them may
be in use, as CONNACK says; who publishes with QoS 1 alone is not heard before it can come to that.
"""

from typing import Final, NamedTuple

from fanout.packets import Publish

__all__ = ["ALIASES_MAX", "ALIAS_BYTES", "RECEIVE_MAXIMUM", "Incoming", "Owed"]

ALIASES_MAX: Final = 64
"""Topics that a client may have numbers for: 64 KiB of `ALIAS_BYTES` each."""

ALIAS_BYTES: Final = 1_024
"""Of a topic that a number is kept for; as many as a channel's name may have."""

RECEIVE_MAXIMUM: Final = 1_000
"""Identifiers in use: as many publishes as a driver takes before it stops to hear."""


class Owed(NamedTuple):
    """What a publish was: its identifier and QoS, and whether it is to be retained."""

    packet_id: int
    qos: int
    retain: bool


class Incoming:
    """The publishes of one connection. Belongs to the event loop."""

    __slots__ = ("_aliases", "_next", "_owed", "_used")

    def __init__(self) -> None:
        self._aliases: dict[int, str] = {}
        self._next = 0
        self._owed: dict[int, Owed] = {}
        self._used: set[int] = set()

    def topic(self, publish: Publish) -> str | None:
        """The topic that is meant; None for an alias that stands for none, or was not offered. A topic that is too long
        is told, so that its publish is refused like any of that name, and its alias stands for none.
        """
        if publish.alias == 0:
            return publish.topic
        if publish.alias > ALIASES_MAX:
            return None
        if len(publish.topic.encode()) > ALIAS_BYTES:
            self._aliases.pop(publish.alias, None)
            return publish.topic
        if publish.topic:
            self._aliases[publish.alias] = publish.topic
        return self._aliases.get(publish.alias)

    def begin(self, publish: Publish) -> int | None:
        """The number under which the session is given the publish; None where too many identifiers are in use."""
        if publish.qos:
            if publish.packet_id not in self._used and len(self._used) >= RECEIVE_MAXIMUM:
                return None
            self._used.add(publish.packet_id)
        number = self._next
        self._next += 1
        self._owed[number] = Owed(publish.packet_id, publish.qos, publish.retain)
        return number

    def retains(self, number: int) -> bool:
        """Whether the publish of that number is to be retained."""
        return self._owed[number].retain

    def answered(self, number: int) -> Owed | None:
        """What the publish of that number is owed, now that the log has it or it was refused; once."""
        return self._owed.pop(number, None)

    def release(self, packet_id: int) -> None:
        """The identifier is the client's again."""
        self._used.discard(packet_id)
