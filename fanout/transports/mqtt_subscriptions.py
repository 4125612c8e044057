"""What one MQTT client is subscribed to, and what is delivered under it.

Each filter that a channel's topic matches is an attachment of its own, so that each delivers with its own QoS and
identifier (MQTT 5.0 §3.3.4: a copy for each). The session tells attachments apart by their spelling, so a channel is
spelled with a qualifier that means nothing but that: `[?filter=1]name`. It stands behind what a client's own qualifier
says, so no two filters have one spelling.
"""

import asyncio
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import msgspec

from fanout.errors import ErrorInfo
from fanout.session.effects import Attach
from fanout.transports.mqtt_ports import Place, Subscription
from fanout.transports.mqtt_topics import Topics, has_wildcard

__all__ = ["FILTERS_MAX", "FILTER_BYTES", "Delivery", "Subscriptions"]

FILTERS_MAX: Final = 200
"""Filters of one connection; as many as it may have channels."""

FILTER_BYTES: Final = 1_024
"""Of one filter; as many as a channel's name may have."""


class Delivery(msgspec.Struct, gc=False):
    """One channel under one subscription."""

    subscription: Subscription
    topic: str
    spelling: str
    position: str = ""
    """Where it is to begin, until it is the engine's; empty: where the channel is then."""
    sent: str = ""
    """Up to where what comes may have been given before."""
    number: int | None = None
    """The session's, of the attachment; None until it is the engine's."""
    waiting: "asyncio.Future[Attach | ErrorInfo | None] | None" = None
    """Who is told where it begins, or why it cannot be had; None while the log cannot be asked."""

    def to_begin(self) -> Place:
        """Where it is to begin."""
        return Place(self.subscription.filter, self.topic, self.position, self.sent)


class _Subscribed(NamedTuple):
    subscription: Subscription
    number: int


class Subscriptions:
    """The subscriptions of one connection. Belongs to the event loop."""

    __slots__ = ("_deliveries", "_filters", "_next", "_topics")

    def __init__(self, topics: Topics) -> None:
        self._topics = topics
        self._filters: dict[str, _Subscribed] = {}
        self._next = 1
        self._deliveries: dict[str | int, Delivery] = {}  # by spelling, and by number

    def __len__(self) -> int:
        """Filters."""
        return len(self._filters)

    def __contains__(self, topic_filter: str) -> bool:
        return topic_filter in self._filters

    def get(self, topic_filter: str) -> Subscription | None:
        """What is subscribed with that filter."""
        known = self._filters.get(topic_filter)
        return None if known is None else known.subscription

    def add(self, subscription: Subscription) -> None:
        """Subscribed; in the place of what was subscribed with that filter."""
        known = self._filters.get(subscription.filter)
        number = self._next if known is None else known.number
        self._next = max(self._next, number + 1)
        self._filters[subscription.filter] = _Subscribed(subscription, number)

    def remove(self, topic_filter: str) -> list[str] | None:
        """Subscribed no more; the spellings of what is delivered under it. None if it was not subscribed."""
        if topic_filter not in self._filters:
            return None
        spellings = [delivery.spelling for delivery in self._under(topic_filter)]
        del self._filters[topic_filter]
        return spellings

    def restore(self, subscription: Subscription) -> None:
        """As it was before what took its place."""
        self.add(subscription)
        for delivery in self._under(subscription.filter):
            delivery.subscription = subscription

    def _under(self, topic_filter: str) -> Iterator[Delivery]:
        if not has_wildcard(topic_filter):
            delivery = self._deliveries.get(self.spelling(topic_filter, topic_filter))
            if delivery is not None:
                yield delivery
            return
        for key, delivery in self._deliveries.items():
            if delivery.subscription.filter == topic_filter and isinstance(key, str):
                yield delivery

    def spelling(self, topic_filter: str, topic: str) -> str:
        """How the session is told of a channel under a filter that was added. KeyError for another."""
        number = self._filters[topic_filter].number
        channel = self._topics.channel(topic)
        if not channel.startswith("["):
            return f"[?filter={number}]{channel}"
        qualifier, bracket, name = channel[1:].partition("]")
        if not qualifier or not bracket:  # it is refused
            return channel
        return f"[{qualifier}{'&' if '?' in qualifier else '?'}filter={number}]{name}"

    def wanted(self, subscription: Subscription, topic: str) -> Delivery:
        """The channel is about to be attached."""
        spelling = self.spelling(subscription.filter, topic)
        delivery = self._deliveries.get(spelling)
        if delivery is None:
            delivery = self._deliveries[spelling] = Delivery(subscription, topic, spelling)
        delivery.subscription = subscription
        return delivery

    def find(self, which: str | int) -> Delivery | None:
        """What is, or is about to be, delivered by that spelling; what is, under that number."""
        return self._deliveries.get(which)

    def attached(self, delivery: Delivery, number: int) -> None:
        """It is delivered under that number."""
        self._forget_number(delivery)
        delivery.number = number
        self._deliveries[number] = delivery

    def gone(self, spelling: str) -> Delivery | None:
        """Delivered no more."""
        delivery = self._deliveries.pop(spelling, None)
        if delivery is not None:
            self._forget_number(delivery)
        return delivery

    def places(self, standing: Sequence[tuple[int, str, str | None]]) -> list[Place]:
        """Where each delivery stands: what the engine says of the attachments by their numbers."""
        places = []
        for number, acknowledged, sent in standing:
            delivery = self._deliveries.get(number)
            if delivery is not None:
                places.append(Place(delivery.subscription.filter, delivery.topic, acknowledged, sent or ""))
        return places

    def to_begin(self) -> list[Place]:
        """Where the deliveries begin that are yet to, perhaps when the log was asked."""
        return [
            delivery.to_begin()
            for key, delivery in self._deliveries.items()
            if delivery.number is None and delivery.position and isinstance(key, str)
        ]

    def _forget_number(self, delivery: Delivery) -> None:
        if delivery.number is not None:
            del self._deliveries[delivery.number]
