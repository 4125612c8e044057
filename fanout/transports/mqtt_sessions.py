"""Sessions that end with their connection (MQTT 5.0 §3.1.2.11.2: expiry 0), on one node.

Every session is new, is told to end at once, and is taken over by the next connection of its name. Filters without
wildcards; no message is retained. A will is published when its client is lost, without a delay. As many as there are
connections. Belongs to the event loop.
"""

from collections.abc import Callable, Sequence
from itertools import count
from typing import Protocol

from fanout.errors import ErrorInfo, error
from fanout.transports.mqtt_ports import Client, Held, Name, Place, Subscription, Will
from fanout.types import OutMessage

__all__ = ["PassingSessions"]


class _Publisher(Protocol):
    def publish(
        self, channel: str, messages: Sequence[OutMessage], done: Callable[[list[str] | ErrorInfo], None]
    ) -> None:
        """See `fanout.publish.Publisher`."""


class PassingSessions:
    """See `fanout.transports.mqtt_ports.Sessions`."""

    wildcards = False

    def __init__(self, publisher: _Publisher) -> None:
        self.publisher = publisher
        self.held: dict[Name, _Passing] = {}
        self._numbers = count()

    async def take(self, name: Name, client: Client, *, clean: bool, expiry_s: int, will: Will | None) -> Held:
        """See `Sessions`."""
        before = self.held.get(name)
        held = self.held[name] = _Passing(self, name, client, will, next(self._numbers))
        if before is not None:
            before.client.end(error(80016))
        return held

    def retain(self, channel: str, message: OutMessage, serial: str, done: Callable[[ErrorInfo | None], None]) -> None:
        """See `Sessions`: nothing is kept."""
        done(None)

    async def retained(self, client: Client, subscription: Subscription) -> Sequence[tuple[str, OutMessage]]:
        """See `Sessions`: there are none."""
        return ()


class _Passing:
    """See `fanout.transports.mqtt_ports.Held`."""

    present = False
    expiry_s = 0
    subscriptions: Sequence[Subscription] = ()
    places: Sequence[Place] = ()

    def __init__(self, sessions: PassingSessions, name: Name, client: Client, will: Will | None, number: int) -> None:
        self.client = client
        self._sessions = sessions
        self._name = name
        self._will = will
        self._id = f"mqtt:{name.owner}:{number}"
        self._received: dict[int, str] = {}  # bounded by the connection's receive maximum
        self._publishes = count()

    async def begin_anew(self) -> None:
        """See `Held`: it is new."""

    async def subscribe(self, subscriptions: Sequence[Subscription]) -> None:
        """See `Held`: it is as long as the connection is."""

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """See `Held`."""

    def follow(self, subscription: Subscription) -> None:
        """See `Held`: there are no wildcards."""

    def received(self, packet_id: int) -> str:
        """See `Held`."""
        if packet_id not in self._received:
            self._received[packet_id] = f"{self._id}:{packet_id}:{next(self._publishes)}"
        return self._received[packet_id]

    def release(self, packet_id: int, done: Callable[[bool], None]) -> None:
        """See `Held`."""
        done(self._received.pop(packet_id, None) is not None)

    def leave(self, *, expiry_s: int | None, lost: bool) -> None:
        """See `Held`."""
        if self._sessions.held.get(self._name) is self:
            del self._sessions.held[self._name]
        will, self._will = self._will, None
        if lost and will is not None:
            self._sessions.publisher.publish(will.channel, [will.message], _unheard)


def _unheard(_result: list[str] | ErrorInfo) -> None:
    """Nobody is there to be told what became of a will."""
