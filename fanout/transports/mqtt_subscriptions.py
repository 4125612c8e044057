"""What one MQTT client is subscribed to, and what is delivered under it.

Each filter that a channel's topic matches is an attachment of its own, so that each delivers with its own QoS and
identifier (MQTT 5.0 §3.3.4: a copy for each). The session tells attachments apart by their spelling, so a channel is
spelled with a qualifier that means nothing but that: `[?filter=1]name`. One that the client gives a qualifier keeps it.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

from fanout.transports.mqtt_ports import Place, Subscription
from fanout.transports.mqtt_topics import Topics

__all__ = ["FILTERS_MAX", "Delivery", "Subscriptions"]

FILTERS_MAX: Final = 200
"""Filters of one connection; as many as it may have channels."""


class Delivery(NamedTuple):
    """One channel under one subscription."""

    subscription: Subscription
    topic: str


class Subscriptions:
    """The subscriptions of one connection. Belongs to the event loop."""

    __slots__ = ("_attached", "_deliveries", "_filters", "_next", "_numbers", "_spellings", "_topics")

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._filters: dict[str, Subscription] = {}
        self._numbers: dict[str, int] = {}  # of filters
        self._next = 1
        self._deliveries: dict[str, Delivery] = {}  # by spelling
        self._spellings: dict[int, str] = {}  # by the session's number of the attachment
        self._attached: dict[str, int] = {}  # the other way round

    def __len__(self) -> int:
        """Filters."""
        return len(self._filters)

    def __contains__(self, topic_filter: str) -> bool:
        return topic_filter in self._filters

    def add(self, subscription: Subscription) -> None:
        """Subscribed; in the place of what was subscribed with that filter."""
        if subscription.filter not in self._filters:
            self._numbers[subscription.filter] = self._next
            self._next += 1
        self._filters[subscription.filter] = subscription

    def remove(self, topic_filter: str) -> list[str] | None:
        """Subscribed no more; the spellings of what is delivered under it. None if it was not subscribed."""
        if self._filters.pop(topic_filter, None) is None:
            return None
        del self._numbers[topic_filter]
        return [
            spelling for spelling, delivery in self._deliveries.items() if delivery.subscription.filter == topic_filter
        ]

    def spelling(self, topic_filter: str, topic: str) -> str:
        """How the session is told of a channel under a filter that was added. KeyError for another."""
        channel = self._topics.channel(topic)
        return channel if channel.startswith("[") else f"[?filter={self._numbers[topic_filter]}]{channel}"

    def wanted(self, spelling: str, delivery: Delivery) -> None:
        """The channel is about to be attached."""
        self._deliveries[spelling] = delivery

    def find(self, spelling: str) -> Delivery | None:
        """What is, or is about to be, delivered by that spelling."""
        return self._deliveries.get(spelling)

    def attached(self, number: int, spelling: str) -> None:
        """The session's number of what is delivered."""
        before = self._attached.get(spelling)
        if before is not None:
            self._spellings.pop(before, None)
        self._spellings[number] = spelling
        self._attached[spelling] = number

    def spelled(self, number: int) -> str | None:
        """The spelling of the attachment of that number."""
        return self._spellings.get(number)

    def number(self, spelling: str) -> int | None:
        """The number of the attachment of that spelling."""
        return self._attached.get(spelling)

    def gone(self, spelling: str) -> None:
        """Delivered no more."""
        self._deliveries.pop(spelling, None)
        number = self._attached.pop(spelling, None)
        if number is not None:
            del self._spellings[number]

    def places(self, standing: Sequence[tuple[int, str, str | None]]) -> list[Place]:
        """Where each delivery stands: what the engine says of the attachments by their numbers."""
        places = []
        for number, acknowledged, sent in standing:
            delivery = self._deliveries.get(self._spellings.get(number, ""))
            if delivery is not None:
                places.append(Place(delivery.subscription.filter, delivery.topic, acknowledged, sent or ""))
        return places
