"""What an MQTT connection and the sessions of MQTT clients know of each other (MQTT 5.0 §4.1, MQTT 3.1.1 §3.1.2.4).

A connection's driver speaks MQTT and delivers; what outlives a connection is behind `Sessions`: subscriptions, where
each of them stands, packet identifiers that are not released, the will, retained messages. A session is kept as
positions, so nothing here holds messages for a client.

- `take` before CONNACK; `subscribe` and `unsubscribe` before their acknowledgements; `leave` once, when the connection
  is over, however that came about.
- Topics and filters are as the client spells them, channels as the log knows them.
- A wildcard's channels are found by `Sessions`, which asks its `Client` to deliver each.

Everything belongs to the event loop. What is awaited may be cancelled when the client goes: then `take` has done
nothing, and of what was taken `leave` is called all the same.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from fanout.errors import ErrorInfo
from fanout.types import Identity, OutMessage

__all__ = ["Client", "Held", "Name", "Place", "Sessions", "Subscription", "Will"]


class Name(NamedTuple):
    """Whose session it is. Two connections of one name are one client: the later takes the session over."""

    owner: str
    """The application; of a token that is for one client id, with that, so that nobody takes another one's session."""
    client_id: str
    """As CONNECT says, or as it was assigned."""


class Subscription(msgspec.Struct, frozen=True, omit_defaults=True):
    """One filter and its options (MQTT 5.0 §3.8.3.1). `qos` is what was granted, `identifier` 0 for none."""

    filter: str
    qos: int
    no_local: bool = False
    retain_as_published: bool = False
    retain_handling: int = 0
    identifier: int = 0


class Place(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where a subscription stands in one channel: behind the last message that the client has acknowledged, or that it
    was given with QoS 0. `topic` is the channel as this client spells it; under a filter without wildcards, that.
    """

    filter: str
    topic: str
    position: str
    sent: str = ""
    """Behind the last that was sent with QoS 1, where that is more than was acknowledged: up to there messages have DUP
    set when they come again."""

    def given_with(self, qos: int) -> "Place":
        """Where it goes on if that is its QoS from now on: with 0 nothing is given again."""
        return self if qos or not self.sent else msgspec.structs.replace(self, position=self.sent, sent="")


class Will(msgspec.Struct, frozen=True):
    """What is published if the client is lost (MQTT 5.0 §3.1.2.5), checked already. `delay_s` is in seconds."""

    channel: str
    message: OutMessage
    delay_s: int = 0
    retain: bool = False


class Client(Protocol):
    """The connection, as the sessions see it; the driver of an MQTT connection answers this."""

    @property
    def identity(self) -> Identity:
        """Who it is, and what it may do."""
        ...

    @property
    def acknowledged(self) -> int:
        """How many messages it has acknowledged."""
        ...

    def attach(self, subscription: Subscription, topic: str, position: str, sent: str = "") -> None:
        """Delivers another channel under a subscription with wildcards, from that position on; `sent` as in `Place`."""

    def place(self, filter: str, topic: str) -> Place | None:  # noqa: A002  the specification's word
        """Where that stands now; None if it is not delivered, or nobody looks where it stands."""

    def places(self) -> Sequence[Place]:
        """Where all that is delivered stands now; in `leave`, where it stood at the end. Some µs each."""

    def end(self, reason: ErrorInfo) -> None:
        """Sends the client away: another connection has taken its session (80016), or it cannot be kept."""


class Held(Protocol):
    """A session while a connection has it."""

    @property
    def present(self) -> bool:
        """Whether it is of an earlier connection: CONNACK says so."""
        ...

    @property
    def expiry_s(self) -> int:
        """How many seconds it outlives the connection, as granted: less than asked for where that is too long."""
        ...

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """Those of earlier connections: the driver attaches them again."""
        ...

    @property
    def places(self) -> Sequence[Place]:
        """Where those stood."""
        ...

    async def begin_anew(self) -> None:
        """What an earlier connection left cannot be gone on with: its subscriptions and places count no more."""

    async def subscribe(self, subscriptions: Sequence[Subscription], places: Sequence[Place] = ()) -> None:
        """Keeps the subscriptions, in the place of those of the same filters; `places` are where new ones begin.

        Raises ClientError if the session cannot be kept.
        """

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """Forgets the subscriptions of these filters. Raises ClientError."""

    def follow(self, subscription: Subscription) -> None:
        """Begins to find channels for a subscription with wildcards: those that there are, and those to come. It goes
        on from `places`, if there are any of it; `unsubscribe` and `leave` end it.
        """

    def received(self, packet_id: int) -> str:
        """The id under which a message with QoS 2 is published: the same as long as `packet_id` is not released."""

    def release(self, packet_id: int, done: Callable[[bool], None]) -> None:
        """PUBREL has come. `done` is called once, perhaps before this returns, when PUBCOMP may be said; with whether
        the identifier was in use.
        """

    def leave(self, *, expiry_s: int | None, lost: bool) -> None:
        """The connection is over. `expiry_s` is what DISCONNECT says instead, `lost` whether the will is published.

        Nothing is called for the connection after this. Idempotent.
        """


class Sessions(Protocol):
    """The sessions of a node's MQTT clients, whichever node they come to."""

    @property
    def wildcards(self) -> bool:
        """Whether filters may hold wildcards."""
        ...

    async def take(self, name: Name, client: Client, *, clean: bool, expiry_s: int, will: Will | None) -> Held:
        """Gives a client its session, from whoever has it. `clean`: nothing of an earlier one counts.

        Raises ClientError where it cannot be had.
        """

    def retain(self, channel: str, message: OutMessage, serial: str, done: Callable[[ErrorInfo | None], None]) -> None:
        """Keeps a message that the log has given `serial` as the channel's retained one, unless there is a later one;
        an empty one takes that back. `done` is called once, perhaps before this returns.
        """

    async def retained(self, client: Client, subscription: Subscription) -> Sequence[tuple[str, OutMessage]]:
        """The retained messages under a subscription, with their topics: of channels that the client may subscribe
        to.
        """
