"""A session while a connection has it.

- A session that outlives its connection is in the log: written when its subscriptions change, which the client is told
  only then; when the connection is over; and about once a second in between, while it moves (`fanout.mqtt.service`).
- One that does not is nowhere but here.
- Where a subscription stands is asked of the connection; until that knows, it stands where it was to begin.

Belongs to the event loop.
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol

from fanout.auth.realms import realm_of
from fanout.errors import ClientError, SourceError, error
from fanout.mqtt.ports import Memory, Places, Topics
from fanout.mqtt.records import State
from fanout.mqtt.releases import Releases
from fanout.mqtt.wildcards import EVERYTHING, Found, Wildcards
from fanout.session.names import parse_name
from fanout.transports.mqtt_ports import Client, Name, Place, Subscription, Will
from fanout.transports.mqtt_publishes import RECEIVE_MAXIMUM
from fanout.transports.mqtt_topics import has_wildcard, stands_for_none

__all__ = ["EXPIRY_MAX_S", "SUBSCRIPTIONS_MAX", "Held", "Keeper"]

SUBSCRIPTIONS_MAX: Final = 200
"""Of one client: as many as a connection of any kind has channels."""

EXPIRY_MAX_S: Final = 7 * 86_400
"""The longest that a session outlives its connection: a log that is kept for a week has nothing older for it."""

CHANNEL_BYTES: Final = 1_024

_NONE: Final[Mapping[Any, Any]] = MappingProxyType({})  # for all who have none


class Keeper(Protocol):
    """Who writes sessions down, and what they share; `fanout.mqtt.service.Sessions` answers this."""

    memory: Memory
    topics: Topics
    releases: Releases
    followed: Wildcards

    def check_room(self, name: Name, /) -> None:
        """Raises ClientError 42910 if no more may be kept of sessions of that name's application."""

    def write(self, held: "Held", /) -> "asyncio.Future[SourceError | None]":
        """Writes the session as it is now. Raises ClientError 90010 if it is too large, 42910 if there is no room for
        it as it has grown.
        """
        ...

    def left(self, held: "Held", /, *, expiry_s: int, lost: bool) -> None:
        """Its connection is over."""
        ...


class Held:
    """See the module's text, and `fanout.transports.mqtt_ports.Held`."""

    __slots__ = (
        "_acknowledged", "_end", "_finding", "_in_use", "_keeper", "_place", "_places", "_released", "_strangers",
        "_subscriptions", "clean", "client", "expiry_s", "generation", "is_begun", "is_claimed", "life", "name", "over",
        "placed", "present", "saved_at", "uid", "will",
    )  # fmt: skip

    def __init__(
        self, keeper: Keeper, name: Name, client: Client, *, expiry_s: int, clean: bool, will: Will | None
    ) -> None:
        self.name = name
        self.client = client
        self.expiry_s = expiry_s
        self.clean = clean
        self.will = will
        self.life = secrets.token_urlsafe(9)
        """What tells the connection from others."""
        self.generation = 0
        """Of its claim."""
        self.present = False
        self.is_claimed = False
        """Whether its claim has been read back."""
        self.is_begun = False
        """Whether it is the connection's: until then it is only claimed."""
        self.over = False
        self.saved_at = 0.0
        """When its places were looked at last, by the loop's clock."""
        self.placed = 0
        """Places that it has had room for."""
        self.uid = self.life
        self._keeper = keeper
        self._subscriptions: Mapping[str, Subscription] = _NONE  # of one that is not kept, those with wildcards
        self._places: Mapping[tuple[str, str], Place] = _NONE
        self._place: Found | None = None  # from where on channels under wildcards are yet to be found
        self._end: Places | None = None  # up to where what they have may have been given
        self._finding = 0
        self._acknowledged = 0  # messages, when it was written last
        self._in_use: dict[int, str] | None = None  # packet identifiers, and the ids made for them, once there are any
        self._strangers = 0  # identifiers that may be in use without this node knowing
        self._released: dict[int, int] | None = None  # how often each was, where the session is nowhere but here

    @property
    def is_kept(self) -> bool:
        """Whether it outlives its connection."""
        return self.expiry_s > 0

    @property
    def subscriptions(self) -> Sequence[Subscription]:
        """See the port."""
        return list(self._subscriptions.values())

    @property
    def places(self) -> Sequence[Place]:
        """See the port."""
        return list(self._places.values())

    def go_on(self, state: State, place: Found | None, end: Places | None) -> None:
        """It is of an earlier connection; its wildcards' channels are found from `place` on, and up to `end` its client
        may have been given everything.
        """
        self.present = True
        self.placed = len(state.places)
        self._strangers = RECEIVE_MAXIMUM
        self.uid = state.uid
        self._subscriptions = {one.filter: one for one in state.subscriptions}
        self._places = {(one.filter, one.topic): one for one in state.places}
        self._place = place
        self._end = end

    def state(self, ended_ms: int | None = None, expiry_s: int | None = None) -> State:
        """What is to be written of it. A channel under a wildcard that stands where the search for channels has come is
        left out: it would be found there.
        """
        stands = {
            (one.filter, one.topic): one.given_with(subscription.qos)  # which may have changed just now
            for one in self.client.places()
            if (subscription := self._subscriptions.get(one.filter)) is not None
        }
        self._places = {**self._places, **stands}
        place = self._found_up_to()
        least = self._least(place)
        return State(
            generation=self.generation,
            uid=self.uid,
            expiry_s=self.expiry_s if expiry_s is None else expiry_s,
            ended_ms=ended_ms,
            subscriptions=tuple(self._subscriptions.values()),
            places=tuple(one for one in self._places.values() if not self._is_found(one, least)),
            place=place,
        )

    def moved(self) -> State | None:
        """What is to be written of it; None if nothing was acknowledged since. What was given with QoS 0 needs no
        writing: should its node die, a client is not given it again (`fanout.mqtt.resumed`).
        """
        if self.client.acknowledged == self._acknowledged:
            return None
        self._acknowledged = self.client.acknowledged
        return self.state()

    # -- for the connection --

    async def begin_anew(self) -> None:
        """See the port. Raises ClientError 50003 if the log does not take it."""
        self.present = False
        self._strangers = 0
        self._place = None
        self._subscriptions = self._places = _NONE
        await self._write()

    async def subscribe(self, subscriptions: Sequence[Subscription], places: Sequence[Place] = ()) -> None:
        """See the port. Raises ClientError 40010 for a filter that stands for no topic; 90010 for too many
        subscriptions, or too large a session; 42910 if there is no room for more of all sessions; 50003 if the log does
        not take them.
        """
        if any(stands_for_none(one.filter) for one in subscriptions):
            raise ClientError(error(40010, "a qualifier and wildcards do not go together"))
        filters = self._subscriptions.keys() | {one.filter for one in subscriptions}
        if len(filters) > SUBSCRIPTIONS_MAX:
            raise ClientError(error(90010, f"{SUBSCRIPTIONS_MAX} is the limit"))
        if not self.is_kept:
            wild = {one.filter: one for one in subscriptions if has_wildcard(one.filter)}
            self._subscriptions = {**self._subscriptions, **wild}
            return
        if len(filters) > len(self._subscriptions):
            self._keeper.check_room(self.name)
        known, stood = self._subscriptions, self._places
        self._places = {**{(place.filter, place.topic): place for place in places}, **stood}
        self._subscriptions = {**known, **{one.filter: one for one in subscriptions}}
        try:
            await self._write()
        except ClientError:
            self._subscriptions, self._places = known, stood
            raise

    async def unsubscribe(self, filters: Sequence[str]) -> None:
        """See the port. Raises ClientError 50003 if the log does not take it."""
        ended = self._subscriptions.keys() & set(filters)
        for topic_filter in ended:
            self._keeper.followed.leave(self.client, topic_filter)
        self._subscriptions = {key: one for key, one in self._subscriptions.items() if key not in ended}
        self._places = {key: one for key, one in self._places.items() if one.filter not in ended}
        await self._write()

    def follow(self, subscription: Subscription) -> None:
        """See the port."""
        known = [one.topic for one in self._places.values() if one.filter == subscription.filter]
        self._finding += 1
        place, end = self._place, self._end
        if end is not None and not subscription.qos:
            place = end = None
        self._keeper.followed.follow(
            self.client, subscription, known, place, end, kept=self.is_kept, done=self._has_found
        )

    def received(self, packet_id: int) -> str:
        """See the port."""
        if self._in_use is None:
            self._in_use = {}
        known = self._in_use.get(packet_id)
        if known is None:
            if self.is_kept:
                known = self._keeper.releases.message_id(self.name, self.uid, packet_id)
            else:
                known = f"{self.uid}:{packet_id}:{(self._released or {}).get(packet_id, 0)}"
            self._in_use[packet_id] = known
        return known

    def release(self, packet_id: int, done: Callable[[bool], None]) -> None:
        """See the port. A session that was had elsewhere before may know of identifiers that this node does not: of as
        many as may be in use at a time. Of others that are not in use nothing is written.
        """
        was_in_use = self.uses(packet_id)
        if not was_in_use and self._strangers:
            self._strangers -= 1
            was_in_use = True
        if not self.is_kept and self._forget(packet_id):
            if self._released is None:
                self._released = {}
            self._released[packet_id] = self._released.get(packet_id, 0) + 1
        if not self.is_kept or not was_in_use:
            done(was_in_use)
            return

        def released(problem: SourceError | None) -> None:
            if self.over:
                return
            if problem is not None:  # the client says it again when it is back
                self.client.end(error(50003, "connect again"))
                return
            self._forget(packet_id)
            done(was_in_use)

        self._keeper.releases.release(self.name, packet_id, released)

    def uses(self, packet_id: int) -> bool:
        """Whether a message of that identifier is not released."""
        return self._in_use is not None and packet_id in self._in_use

    def _forget(self, packet_id: int) -> bool:
        """Whether it was in use."""
        return self._in_use is not None and self._in_use.pop(packet_id, None) is not None

    def leave(self, *, expiry_s: int | None, lost: bool) -> None:
        """See the port."""
        if not self.over:
            left_s = self.expiry_s if expiry_s is None or not self.is_kept else min(expiry_s, EXPIRY_MAX_S)
            self._keeper.left(self, expiry_s=left_s, lost=lost)

    async def _write(self) -> None:
        if self.is_kept and await self._keeper.write(self) is not None:
            raise ClientError(error(50003, "the session was not written"))

    def _least(self, place: str) -> Mapping[tuple[str, int], int]:
        """By topic and partition, the offsets of the place from where on channels are found again; none if none are."""
        if not place:
            return {}
        try:
            places = self._keeper.memory.places(EVERYTHING, place)
        except ValueError:
            return {}
        return {(topic, partition): offset for topic, partition, offset in places}

    def _is_found(self, place: Place, least: Mapping[tuple[str, int], int]) -> bool:
        """Whether a channel under a wildcard stands where it would be found again. One that stands behind that may have
        been given what lies between.
        """
        if not least or place.sent or not has_wildcard(place.filter):
            return False
        channel = self.channel(place.topic)
        assert channel is not None  # it was attached
        try:
            stands = self._keeper.memory.places(channel, place.position)
        except ValueError:
            return False
        return all(offset == least.get((topic, partition)) for topic, partition, offset in stands)

    def channel(self, topic: str) -> str | None:
        """The channel of a topic, as the log knows it; None for a topic that is none."""
        realm = realm_of(self.client.identity.key_name)
        try:
            return parse_name(self._keeper.topics.channel(topic), CHANNEL_BYTES, realm, filtered=True).channel
        except ClientError:
            return None

    def _found_up_to(self) -> str:
        if not any(map(has_wildcard, self._subscriptions)):
            return ""
        return self._keeper.followed.place if self._place is None else self._place.place

    def _has_found(self) -> None:
        self._finding -= 1
        if self._finding == 0:
            self._place = None
