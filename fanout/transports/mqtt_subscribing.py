"""SUBSCRIBE, UNSUBSCRIBE, and subscriptions of an earlier connection: what is asked, kept, and then delivered.

In this order: the session says where a channel begins, the client's session is kept with the subscription, the client
is told, retained messages are given, and from the place on what was published. QoS 2 is granted as 1.

While the log cannot be asked where one channel goes on, the client is told without it: it has its session, or its
subscription, and that channel's messages when the log has answered. Should the log not have them, a client that was
owed them is sent away then.

Belongs to the event loop.
"""

import asyncio
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from fanout.errors import ClientError, ErrorInfo, error
from fanout.packets import Connect, Entry, Publish, Subscribe, Unsubscribe
from fanout.session.effects import Attach
from fanout.transports import mqtt_reasons as reasons
from fanout.transports.mqtt_deliveries import Deliveries, continues
from fanout.transports.mqtt_messages import publish_of
from fanout.transports.mqtt_ports import Client, Held, Place, Sessions, Subscription
from fanout.transports.mqtt_retained import RETAINED_BYTES, Giving
from fanout.transports.mqtt_subscriptions import FILTER_BYTES, FILTERS_MAX
from fanout.transports.mqtt_topics import has_wildcard

__all__ = ["TOKEN_EVENTS", "Subscribing"]

TOKEN_EVENTS: Final = "[mqtt]tokenevents"
"""Who subscribes to this is told some time before its token expires (Ably protocol, "MQTT")."""

log = logging.getLogger(__name__)

_SHARED: Final = "$share/"
_QOS_MAX: Final = 1
_AT_ONCE: Final = 100  # places looked for in memory in one turn of the loop, some 3 ms, or asked of the log together
_LEFT_AT_ONCE: Final = 50  # in one turn of the loop: 3 ms
_RETAINED_IF_NEW, _NO_RETAINED = 1, 2  # MQTT 5.0 §3.8.3.1


class _Granted(NamedTuple):
    """One subscription that is granted: where its channel begins, None with wildcards, for one that goes on and for one
    that waits for the log; and in whose place it is.
    """

    subscription: Subscription
    effect: Attach | None
    before: Subscription | None


class Subscribing:
    """The subscribing of one connection, from the time on at which it has its session."""

    __slots__ = (
        "_client", "_connection_id", "_deliveries", "_engine", "_giving", "_held", "_packet_maximum", "_resumed",
        "_sessions", "_version", "token_events",
    )  # fmt: skip

    def __init__(
        self,
        engine: Any,
        client: Client,
        sessions: Sessions,
        held: Held,
        deliveries: Deliveries,
        connect: Connect,
        connection_id: str,
    ) -> None:
        """`connect` is what the client said of itself, `connection_id` where its own messages come from."""
        self._engine = engine
        self._client = client
        self._sessions = sessions
        self._held = held
        self._deliveries = deliveries
        self._version = connect.version
        self._packet_maximum = connect.packet_maximum or sys.maxsize
        self._connection_id = connection_id
        self._resumed: Sequence[Attach] = ()
        self._giving: Giving | None = None  # from the first retained message on
        self.token_events = False
        """Whether the client wants to be told of its token's end."""

    async def resume(self) -> bool:
        """Finds the places of an earlier connection again. False if one of them cannot be gone on from: then none is,
        and the client's session begins anew. Raises ClientError if that cannot be told now: the session stays.
        """
        subscriptions = {subscription.filter: subscription for subscription in self._held.subscriptions}
        for subscription in subscriptions.values():
            self._deliveries.subscriptions.add(subscription)
        places, resumed = self._held.places, list[Attach]()
        for at in range(0, len(places), _AT_ONCE):
            finding = (
                self._deliveries.find(subscriptions[place.filter], place.topic, place)
                for place in places[at : at + _AT_ONCE]
            )
            for found in await asyncio.gather(*finding):
                if isinstance(found, ErrorInfo) and found.status in (429, 500):
                    raise ClientError(found)
                if found is None:
                    continue
                if isinstance(found, ErrorInfo) or not continues(found):
                    why = found.message if isinstance(found, ErrorInfo) else found.plan.outcome
                    log.info("a session begins anew, for where it stood cannot be gone on from: %s", why)
                    await self._begin_anew()
                    return False
                resumed.append(found)
        self._resumed = resumed
        return True

    def go_on(self) -> None:
        """Delivers from there on, and follows wildcards. The client has been told that its session is there."""
        for effect in self._resumed:
            self._deliveries.begin(effect)
        self._resumed = ()
        for subscription in self._held.subscriptions:
            if has_wildcard(subscription.filter):
                self._held.follow(subscription)

    async def subscribe(self, packet: Subscribe) -> tuple[tuple[int, ...], Callable[[], None]]:
        """Answers SUBSCRIBE: a reason for each filter, and what is to be called when the client was told."""
        # The same filter may stand there thousands of times; of what is asked for with it the last counts.
        entries = packet.entries[:FILTERS_MAX]
        answers = {
            entry.filter: await self._granted(entry, packet.identifier)
            for entry in {entry.filter: entry for entry in entries}.values()
        }
        told = [_told(entry, answers[entry.filter]) for entry in entries]
        told += [reasons.QUOTA] * (len(packet.entries) - len(entries))
        granted = [one for one in answers.values() if isinstance(one, _Granted)]
        try:
            retained = await self._all_retained(granted)
            if granted:
                await self._held.subscribe([one.subscription for one in granted], [*_begun(granted)])
        except ClientError as refused:
            for one in granted:
                self._forget(one)
            refusal = reasons.suback(refused.info)
            return tuple(refusal if reason <= _QOS_MAX else reason for reason in told), _nothing

        def begin() -> None:
            for one, publishes in retained:
                packets = self._given(one.subscription.filter, publishes)
                if one.effect is not None:
                    self._deliveries.begin(one.effect, packets)
                    continue
                if packets:
                    self._engine.send(self._deliveries.handle, packets)
                if has_wildcard(one.subscription.filter):
                    self._held.follow(one.subscription)
                else:
                    self._deliveries.renew(one.subscription)

        return tuple(told), begin

    def acknowledged(self) -> None:
        """The client takes another message before it acknowledges one."""
        if self._giving is not None:
            self._giving.go_on(self._deliveries.handle)

    async def unsubscribe(self, packet: Unsubscribe) -> tuple[int, ...]:
        """Answers UNSUBSCRIBE: a reason for each filter. Channels are left some at a time."""
        try:
            await self._held.unsubscribe(packet.filters)
        except ClientError as refused:  # whether it is still subscribed the log will tell when the client is back
            self._client.end(refused.info)
            return (reasons.UNSPECIFIED,) * len(packet.filters)
        if self._giving is not None:
            self._giving.leave(self._deliveries.handle, packet.filters)
        told, left = [], 0
        for topic_filter in packet.filters:
            if topic_filter == TOKEN_EVENTS and self.token_events:
                self.token_events = False
                told.append(0)
                continue
            spellings = self._deliveries.subscriptions.remove(topic_filter)
            for spelling in spellings or ():
                self._deliveries.leave(spelling)
                left += 1
                if left % _LEFT_AT_ONCE == 0:
                    await asyncio.sleep(0)
            told.append(reasons.NO_SUBSCRIPTION if spellings is None else 0)
        return tuple(told)

    async def _granted(self, entry: Entry, identifier: int) -> _Granted | int:
        subscriptions = self._deliveries.subscriptions
        if entry.filter == TOKEN_EVENTS:
            self.token_events = True
            return 0
        if entry.filter.startswith(_SHARED):
            return reasons.NO_SHARED
        if len(entry.filter.encode()) > FILTER_BYTES:
            return reasons.FILTER
        wild = has_wildcard(entry.filter)
        if wild and not self._sessions.wildcards:
            return reasons.NO_WILDCARDS
        if entry.filter not in subscriptions and len(subscriptions) >= FILTERS_MAX:
            return reasons.QUOTA
        subscription = Subscription(
            entry.filter,
            min(entry.qos, _QOS_MAX),
            entry.no_local,
            entry.retain_as_published,
            entry.retain_handling,
            identifier,
        )
        before = subscriptions.get(entry.filter)
        subscriptions.add(subscription)
        if wild or self._deliveries.is_begun(entry.filter):
            return _Granted(subscription, None, before)
        found = await self._deliveries.find(subscription, entry.filter)
        if isinstance(found, ErrorInfo):
            subscriptions.remove(entry.filter)
            return reasons.suback(found)
        return _Granted(subscription, found, before)

    async def _all_retained(self, granted: Iterable[_Granted]) -> list[tuple[_Granted, list[Publish]]]:
        """The retained messages that go before all others. Raises ClientError 40009 if they need more room than there
        is.
        """
        retained: list[tuple[_Granted, list[Publish]]] = []
        giving = self._giving or Giving(self._engine, self._version)
        room = RETAINED_BYTES - giving.bytes
        for one in granted:
            fitting: list[Publish] = []
            for publish in await self._retained(one):
                size = giving.size(publish)
                if size > self._packet_maximum:  # as if it were given (MQTT 5.0 §3.1.2.11.4)
                    continue
                room -= size
                if room < 0:
                    raise ClientError(error(40009, f"retained messages of more than {RETAINED_BYTES} bytes"))
                fitting.append(publish)
            if fitting:
                self._giving = giving
            retained.append((one, fitting))
        return retained

    async def _retained(self, one: _Granted) -> list[Publish]:
        subscription = one.subscription
        handling = subscription.retain_handling
        if handling == _NO_RETAINED or (handling == _RETAINED_IF_NEW and one.before is not None):
            return []
        return [
            publish_of(topic, message, qos=subscription.qos, identifier=subscription.identifier)
            for topic, message in await self._sessions.retained(self._client, subscription)
            if not (subscription.no_local and message.connection_id == self._connection_id)
        ]

    def _given(self, topic_filter: str, publishes: Sequence[Publish]) -> bytes:
        """The retained messages that the client takes now."""
        if self._giving is None or not self._deliveries.handle:
            return b""
        return self._giving.give(self._deliveries.handle, topic_filter, publishes)

    async def _begin_anew(self) -> None:
        for topic_filter in [subscription.filter for subscription in self._held.subscriptions]:
            for spelling in self._deliveries.subscriptions.remove(topic_filter) or ():
                self._deliveries.leave(spelling)
        await self._held.begin_anew()

    def _forget(self, one: _Granted) -> None:
        """It is not granted after all: what it was to take the place of goes on."""
        if one.before is not None:
            self._deliveries.subscriptions.restore(one.before)
            return
        for spelling in self._deliveries.subscriptions.remove(one.subscription.filter) or ():
            self._deliveries.leave(spelling)


def _told(entry: Entry, answer: _Granted | int) -> int:
    """What SUBACK says of a filter."""
    return min(entry.qos, _QOS_MAX) if isinstance(answer, _Granted) else answer


def _begun(granted: Iterable[_Granted]) -> Iterator[Place]:
    """Where the channels of subscriptions without wildcards begin that do not go on."""
    for subscription, effect, _ in granted:
        if effect is not None:
            yield Place(subscription.filter, subscription.filter, effect.plan.serial)


def _nothing() -> None:
    """What is to be done when nothing was granted."""
