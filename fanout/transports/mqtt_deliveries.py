"""What is delivered to one MQTT client: attachments, from the session's word to the engine's.

The session says where an attachment begins, and whether it may; it may have to ask the log first. Who waits for that is
told; what nobody waits for, found under wildcards or going on after the ring has passed it, begins at once. While the
log cannot be asked nobody waits any more: it begins when the log has answered, and other channels go on.

What is subscribed again goes on: untouched if it is asked for as before, else from where it stands when it changes.

Belongs to the event loop.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, Final, Protocol

from msgspec.structs import replace

from fanout._core import KIND_MESSAGES, KIND_WHOLE_APPENDS, Mqtt
from fanout.errors import ErrorInfo
from fanout.session.effects import Attach
from fanout.session.ports import Outcome
from fanout.transports.mqtt_ports import Place, Subscription
from fanout.transports.mqtt_subscriptions import Subscriptions
from fanout.transports.mqtt_topics import Topics
from fanout.wire import Action, ClientFrame, Flag

__all__ = ["DELIVERIES_MAX", "Deliveries", "Saying", "continues", "goes_on"]

DELIVERIES_MAX: Final = 20_000
"""Channels of one client, those under its wildcards among them, at some 0.6 KiB each: past it the client is sent away.
One filter with wildcards has half of them at most."""

_KINDS: Final = KIND_MESSAGES | KIND_WHOLE_APPENDS  # updates are whole messages here
_BROKEN: Final = (80020, 90003, 90005)


def continues(effect: Attach) -> bool:
    """Whether an attachment goes on exactly from the position that it was to go on from."""
    return bool(effect.plan.outcome == Outcome.RESUMED)


def goes_on(effect: Attach) -> bool:
    """Whether nothing was left out that was owed: a channel with snapshots owes the newest of each key alone."""
    wrong = effect.frame.get("error")
    return wrong is None or wrong["code"] not in _BROKEN


class Saying(Protocol):
    """Who hands the session frames; the driver."""

    def say(self, frame: ClientFrame) -> None:
        """Hands the session a frame."""


class Deliveries:
    """The deliveries of one connection; `subscriptions` is what they are under."""

    __slots__ = ("_early", "_ended", "_engine", "_session", "handle", "kept", "subscriptions")

    def __init__(self, engine: Any, topics: Topics, session: Saying) -> None:
        """`session` is handed frames."""
        self._engine = engine
        self._session = session
        self._ended: Sequence[Place] = ()
        self._early: list[Attach] = []
        self.subscriptions = Subscriptions(topics)
        self.handle = 0
        """The engine's number of the connection."""
        self.kept = False
        """Whether the client's session outlives the connection."""

    async def find(
        self, subscription: Subscription, topic: str, place: Place | None = None
    ) -> Attach | ErrorInfo | None:
        """Where a channel begins under a subscription, or why it cannot be had; `begin` has it delivered. None if the
        log cannot be asked now: it begins by itself.
        """
        found = self.subscriptions.wanted(subscription, topic).waiting = _future()
        if place is None:
            self.ask(subscription, topic, None)
        else:
            self.ask(subscription, topic, place.position, place.sent)
        return await found

    def ask(self, subscription: Subscription, topic: str, position: str | None, sent: str = "") -> None:
        """Has the session attach a channel under a subscription: from that position on, and what lies before `sent` may
        have been given already. Without one a channel that waits for the log goes on waiting for its own.
        """
        delivery = self.subscriptions.wanted(subscription, topic)
        if position is not None:
            delivery.position, delivery.sent = position, sent
        self._session.say(
            ClientFrame(
                Action.ATTACH,
                channel=delivery.spelling,
                channel_serial=position,
                flags=Flag.SUBSCRIBE,
                params={"echo": "false"} if subscription.no_local else None,
            )
        )

    def placed(self, effect: Attach) -> bool:
        """The session has a place: tells who waits for it, else begins, as soon as the connection is the engine's.
        False if what was owed cannot be given.
        """
        delivery = self.subscriptions.find(effect.spelling)
        if delivery is None:
            return True
        waiting, delivery.waiting = delivery.waiting, None
        if waiting is not None:
            if not waiting.done():
                waiting.set_result(effect)
            return True
        if not self.handle:
            self._early.append(effect)
            return True
        if delivery.subscription.qos and not goes_on(effect):
            return False
        self.begin(effect)
        return True

    def early(self) -> Sequence[Attach]:
        """What is to be placed again, now that the connection is the engine's."""
        early, self._early = self._early, []
        return early

    def waits(self, spelling: str) -> None:
        """The log cannot be asked where a channel begins: nobody waits for that any more."""
        delivery = self.subscriptions.find(spelling)
        if delivery is None or delivery.waiting is None:
            return
        waiting, delivery.waiting = delivery.waiting, None
        if not waiting.done():
            waiting.set_result(None)

    def refused(self, spelling: str, wrong: ErrorInfo) -> bool:
        """The session refuses an attachment: tells who waits for it; whether anybody does."""
        delivery = self.subscriptions.gone(spelling)
        if delivery is None or delivery.waiting is None:
            return False
        if not delivery.waiting.done():
            delivery.waiting.set_result(wrong)
        return True

    def begin(self, effect: Attach, reply: bytes = b"") -> None:
        """Delivers from the place on, behind `reply`."""
        delivery = self.subscriptions.find(effect.spelling)
        if delivery is None or not self.handle:
            return
        sent, delivery.position, delivery.sent = delivery.sent, "", ""
        if delivery.number is not None and (stands := self._place(delivery.number)) is not None:
            sent = stands.sent or stands.position  # it was given more while the place was looked for
        subscription = delivery.subscription
        self.subscriptions.attached(delivery, effect.attachment)
        self._engine.attach(
            self.handle,
            effect.attachment,
            effect.plan,
            delivery.topic,
            _KINDS,
            effect.echo,
            reply,
            filter=effect.filter,
            mqtt=Mqtt(
                qos=subscription.qos,
                subscription_id=subscription.identifier,
                retain_as_published=subscription.retain_as_published,
                kept=self.kept,
                dup_until=sent or None,
            ),
        )

    def renew(self, subscription: Subscription) -> None:
        """What is delivered under a filter without wildcards is given as `subscription` says from now on (MQTT 5.0
        §3.8.4: nothing may be lost by that). Only what is given otherwise than before is attached again: with QoS 1
        from where it is acknowledged, and with DUP up to where it was given; to and from QoS 0 from where the engine
        has come.
        """
        topic = subscription.filter
        delivery = self.subscriptions.find(self.subscriptions.spelling(topic, topic))
        if delivery is not None and _is_given_alike(delivery.subscription, subscription):
            return
        place = self.place(topic, topic)
        if place is None:
            self.ask(subscription, topic, None)
        else:
            place = place.given_with(subscription.qos)
            self.ask(subscription, topic, place.position, place.sent)

    def is_begun(self, topic: str) -> bool:
        """Whether a filter without wildcards that was added is delivered, be it that it has to go on from the log."""
        delivery = self.subscriptions.find(self.subscriptions.spelling(topic, topic))
        return delivery is not None and delivery.number is not None

    def go_on(self, number: int) -> bool:
        """The ring has passed an attachment: has it go on from where it was stopped, unless it is about to be left.
        False if that is not known.
        """
        delivery = self.subscriptions.find(number)
        if delivery is not None and delivery.subscription.filter not in self.subscriptions:
            return True
        place = self._place(number)
        if delivery is None or place is None:
            return False
        self.ask(delivery.subscription, delivery.topic, place.position, place.sent)
        return True

    def detach(self, number: int) -> None:
        """Delivers the attachment of that number no more."""
        self._engine.detach(self.handle, number, None)

    def leave(self, spelling: str) -> None:
        """Has the session detach."""
        self.subscriptions.gone(spelling)
        self._session.say(ClientFrame(Action.DETACH, channel=spelling))

    def place(self, topic_filter: str, topic: str) -> Place | None:
        """Where the delivery of a topic under a filter that was added stands, or is to begin."""
        delivery = self.subscriptions.find(self.subscriptions.spelling(topic_filter, topic))
        if delivery is None:
            return None
        if delivery.number is None:
            return delivery.to_begin() if delivery.position else None
        return self._place(delivery.number)

    def _place(self, number: int) -> Place | None:
        return next(iter(self.subscriptions.places(self._engine.standing(self.handle, number))), None)

    def places(self) -> Sequence[Place]:
        """Where all deliveries stand, or are to begin; after `end`, where they stood."""
        if not self.handle:
            return self._ended
        return self.subscriptions.places(self._engine.standing(self.handle)) + self.subscriptions.to_begin()

    def end(self) -> None:
        """The connection is about to be the engine's no more."""
        self._ended = self.places() if self.kept else ()
        self.handle = 0


def _is_given_alike(one: Subscription, other: Subscription) -> bool:
    return replace(one, retain_handling=other.retain_handling) == other


def _future() -> "asyncio.Future[Attach | ErrorInfo | None]":
    return asyncio.get_running_loop().create_future()
