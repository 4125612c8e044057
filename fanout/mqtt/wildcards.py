"""The channels of subscriptions with wildcards: those that there are, and those that begin later.

A subscription with wildcards is delivered as one of each channel that it stands for. Which channels begin is told by
the engine (`born`); before each time that it is asked, the place up to where this node has read is noted. What it names
then begins behind the place noted the time before, so a channel is attached from there on, and nothing of it is missed.
That place is also kept with a session: whoever goes on with it attaches channels that began meanwhile from there on.
Memory tells of them as far as it reaches back, and the log of those before (`fanout.mqtt.begun`).

Channels that the client may not subscribe to, and those whose names are no topics, are passed over. Belongs to the
event loop.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from fanout.auth.capabilities import allows
from fanout.auth.realms import bare, realm_of
from fanout.errors import error
from fanout.mqtt.filters import FilterTree, pattern_of, prefix_of
from fanout.mqtt.ports import Memory, Places, Stretch, Topics
from fanout.transports.mqtt_ports import Client, Subscription
from fanout.transports.mqtt_topics import has_wildcard

__all__ = ["CHANNELS_MAX", "EVERYTHING", "KEPT_MAX", "Found", "Wildcards"]

CHANNELS_MAX: Final = 10_000
"""Channels of one subscription with wildcards, each an attachment of 0.5 KiB: past it the client is sent away."""

KEPT_MAX: Final = 1_000
"""Of all subscriptions with wildcards of a session that is kept: where each channel stands is looked at about once a
second, at 10 µs each, and written."""

ASK_S: Final = 1.0
"""So often the place is noted anew: a channel that begins is looked for in what was read since."""

PAGE: Final = 10_000  # names asked for at once, on a thread: 10 ms where a node has 100,000 channels
SLICE: Final = 50  # attached in one turn of the loop: some 2 ms


class Found(NamedTuple):
    """Where a session goes on under its wildcards: what was written from `place` on memory holds, but for the stretches
    that were `read`, which have these `channels`.
    """

    place: str
    read: Sequence[Stretch] = ()
    channels: Collection[str] = ()


EVERYTHING: Final = ""
"""In the place of a channel's name, for the place of all of them: no channel has it."""

log = logging.getLogger(__name__)


class _Followed:
    """A subscription with wildcards, and the channels that are attached under it, by their topics."""

    __slots__ = ("attached", "client", "end", "kept", "over", "realm", "subscription")

    def __init__(self, client: Client, subscription: Subscription, end: Places | None, *, kept: bool) -> None:
        self.client = client
        self.end = end  # up to where what it is given may have been given before
        self.kept = kept
        self.subscription = subscription
        self.realm = realm_of(client.identity.key_name)
        self.attached: set[str] = set()
        self.over = False


class Wildcards:
    """The subscriptions with wildcards of a node's connections."""

    def __init__(self, memory: Memory, topics: Topics) -> None:
        self._memory = memory
        self._topics = topics
        self._tree: FilterTree[_Followed] = FilterTree()
        self._followed: dict[tuple[Client, str], _Followed] = {}
        self._kept: dict[Client, int] = {}  # channels under the wildcards of each whose session is kept
        self._place = ""
        self._wanted = asyncio.Event()  # births, or a first subscription
        self._listing: set[asyncio.Task[None]] = set()  # one for each subscription that has just begun

    @property
    def place(self) -> str:
        """Every channel that began before is attached where it is followed, but for subscriptions that just begin."""
        return self._place if self._followed else self._now()

    def forgotten(self, place: str) -> list[Stretch] | None:
        """What was written from there on to channels that memory has forgotten; None for a place of another log."""
        try:
            places = self._memory.places(EVERYTHING, place)
        except ValueError:
            return None
        # Of a channel that is not there, memory holds what no forgotten one had.
        floors = self._memory.held(EVERYTHING, places, 0, 0, False, (1, 1))[2]
        return [
            (topic, partition, offset, floor)
            for floor, (topic, partition, offset) in zip(floors, places, strict=True)
            if offset < floor
        ]

    def follow(
        self,
        client: Client,
        subscription: Subscription,
        known: Iterable[str] = (),
        place: Found | None = None,
        end: Places | None = None,
        *,
        kept: bool,
        done: Callable[[], None],
    ) -> None:
        """Attaches the channels under a subscription, from now on, and those to come.

        Of a session that goes on, the topics that are `known` are attached already, and the others are from `place` on;
        up to `end` its client may have been given everything.

        `done` is called when all that there are now are attached, or that has failed. `kept`: the session outlives its
        connection.
        """
        if not self._followed:
            self._memory.watch_births(True)
            self._memory.born()  # all that there is is listed below
            self._place = self._now()
            self._wanted.set()
        before = self._followed.pop((client, subscription.filter), None)
        followed = _Followed(client, subscription, end, kept=kept)
        standing = () if before is None else tuple(before.attached)
        followed.attached.update(known, standing)
        self._followed[client, subscription.filter] = followed
        self._tree.add(subscription.filter, followed)
        if before is not None:
            self._drop(before)
        if kept:
            self._kept[client] = self._kept.get(client, 0) - len(standing) + len(followed.attached)
        task = asyncio.get_running_loop().create_task(self._begin(followed, place, standing))
        self._listing.add(task)
        task.add_done_callback(self._listing.discard)
        task.add_done_callback(lambda _: done())

    def leave(self, client: Client, topic_filter: str) -> None:
        """The subscription has ended: no more channels are found for it. Unknown is ignored."""
        followed = self._followed.pop((client, topic_filter), None)
        if followed is None:
            return
        self._drop(followed)
        if followed.kept:
            self._kept[client] -= len(followed.attached)
        if not self._followed:
            self._memory.watch_births(False)

    def leave_all(self, client: Client, filters: Iterable[str]) -> None:
        """The client is gone."""
        for topic_filter in filters:
            if (followed := self._followed.pop((client, topic_filter), None)) is not None:
                self._drop(followed)
        self._kept.pop(client, None)
        if not self._followed:
            self._memory.watch_births(False)

    def births(self) -> None:
        """The engine knows of channels that began."""
        self._wanted.set()

    async def run(self) -> None:
        """Attaches channels that begin, until cancelled."""
        while True:
            try:
                async with asyncio.timeout(ASK_S if self._followed else None):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            self._wanted.clear()
            if not self._followed:
                continue
            try:
                await self._ask()
            except Exception:  # whatever it was, later channels must be found
                log.exception("channels that began could not be attached")

    async def _ask(self) -> None:
        place = self._now()
        names, began = self._memory.born(), self._places(self._place)
        if names is None:  # more than the engine keeps: all are looked at again
            for followed in list(self._followed.values()):
                await self._list(followed, began, known=True)
            names = []
        for index, channel in enumerate(names):
            if index % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            name = bare(channel)
            for followed in list(self._tree.match(self._topics.topic(name))):
                if channel == followed.realm + name:
                    self._find(followed, channel, began)
        self._place = place

    async def _begin(self, followed: _Followed, place: Found | None, standing: Sequence[str]) -> None:
        """Attaches what there is for a subscription that begins, from `place` on or from now on; what is delivered with
        that filter already, perhaps with other options, goes on where it stands.
        """
        wanted = followed.subscription
        for index, topic in enumerate(standing):
            if index % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if followed.over:
                return
            if (stands := followed.client.place(wanted.filter, topic)) is not None:
                stands = stands.given_with(wanted.qos)
                followed.client.attach(wanted, topic, stands.position, stands.sent)
            else:
                self._unattach(followed, topic)  # nobody knows: from now on
        if place is None:
            await self._list(followed, self._places(None), known=False)
            return
        began, pattern = self._places(place.place), pattern_of(followed.subscription.filter)
        for index, channel in enumerate(place.channels):
            if index % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            if pattern.fullmatch(self._topics.topic(bare(channel))):
                self._find(followed, channel, began)
        await self._list(followed, began, known=True)
        now = self.forgotten(place.place)
        read = {(topic, partition): high for topic, partition, _, high in place.read}
        if now is None or any(floor > read.get((topic, partition), low) for topic, partition, low, floor in now):
            # Memory has forgotten meanwhile what nobody has looked through: the client comes back.
            followed.client.end(error(80003, "channels could not be found in time"))

    async def _list(self, followed: _Followed, began: Places, *, known: bool) -> None:
        """Attaches the channels that there are, from a place on; if it lies back, those too that hold nothing any more:
        what they had since is in the log.
        """
        wanted = followed.subscription.filter
        pattern, prefix, realm = pattern_of(wanted), self._topics.channel(prefix_of(wanted)), followed.realm
        after = ""
        while not followed.over:
            page = await asyncio.to_thread(partial(self._memory.names, realm, prefix, after, PAGE, known=known))
            for index, channel in enumerate(page):
                if index % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
                after = channel[len(realm) :]
                if pattern.fullmatch(self._topics.topic(after)):
                    self._find(followed, channel, began)
            if len(page) < PAGE:
                return

    def _find(self, followed: _Followed, channel: str, began: Places) -> None:
        """Attaches a channel from a place on, unless it is attached or must not be."""
        topic = self._topics.topic(bare(channel))
        if topic in followed.attached or has_wildcard(topic):
            return
        if allows(followed.client.identity.capability, channel, "subscribe"):
            sent = "" if followed.end is None else self._memory.position_at(channel, followed.end)
            self._attach(followed, topic, self._memory.position_at(channel, began), sent)

    def _attach(self, followed: _Followed, topic: str, position: str, sent: str) -> None:
        if followed.over:
            return
        client = followed.client
        if followed.kept:
            if self._kept[client] >= KEPT_MAX:
                client.end(error(90010, f"{KEPT_MAX} is the limit of a session that is kept"))
                return
            self._kept[client] += 1
        elif len(followed.attached) >= CHANNELS_MAX:
            client.end(error(90010, f"{CHANNELS_MAX} is the limit of one subscription"))
            return
        followed.attached.add(topic)
        followed.client.attach(followed.subscription, topic, position, sent)

    def _unattach(self, followed: _Followed, topic: str) -> None:
        followed.attached.discard(topic)
        if followed.kept:
            self._kept[followed.client] -= 1

    def _drop(self, followed: _Followed) -> None:
        followed.over = True
        self._tree.discard(followed.subscription.filter, followed)

    def _now(self) -> str:
        """The place up to where this node has read."""
        return self._memory.position_at(EVERYTHING, self._places(None))

    def _places(self, place: str | None) -> Places:
        try:
            return self._memory.places(EVERYTHING, place)
        except ValueError:  # a topic was made anew meanwhile: all of it is lost, which is told where it is attached
            return self._memory.places(EVERYTHING, None)
