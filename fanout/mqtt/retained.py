"""Retained messages: of each channel the last one that was published to be retained (MQTT 5.0 §3.3.1.3).

- A retained message is a fact of the log, so it outlives the log of messages; its serial says which of two is the
  newer one, whatever order they were told in. One without a payload takes back what is older, and is kept itself for
  `LATE_MS` unless room is scarce. Who told an older one last tells the newer one again, for the log keeps the last.
- What is told `LATE_MS` behind another counts whatever its serial: their topic may have been made anew, or grown.
- Every node holds them all, at most `RETAINED_MAX` of `RETAINED_BYTES`: past that the publish is refused.
- A message whose expiry interval has passed is not given any more, and taken back by whichever node notices first.

Belongs to the event loop.
"""

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
from msgspec.structs import replace

from fanout._core import DEDUP_WINDOW_MS
from fanout.auth.capabilities import allows
from fanout.auth.realms import bare, realm_of
from fanout.control import Control, Fact
from fanout.errors import ErrorInfo, SourceError, error
from fanout.mqtt.filters import pattern_of
from fanout.mqtt.ports import Topics
from fanout.mqtt.records import RETAINED, message_of, shown_message
from fanout.transports.mqtt_ports import Subscription
from fanout.transports.mqtt_topics import has_wildcard
from fanout.types import Identity, OutMessage

__all__ = ["RETAINED_BYTES", "RETAINED_MAX", "Retained"]

RETAINED_MAX: Final = 100_000
"""Channels with a retained message, on all nodes together: 30 MiB beside what the messages say."""

RETAINED_BYTES: Final = 64 << 20
"""What the messages take as JSON: 670 bytes for each of the most that there are."""

SLICE: Final = 1_000  # looked at in one turn of the loop: 0.5 ms
LATE_MS: Final = 2 * DEDUP_WINDOW_MS
"""How much later than a newer one a message may be told: a repeat has the serial of what it repeats."""

_SWEEP_S: Final = 60.0


class _Kept(NamedTuple):
    serial: str
    at_ms: int
    expires_ms: float
    text: bytes

    def is_newer(self, serial: str, at_ms: int) -> bool:
        """Whether it counts though that is told later."""
        return self.serial > serial and at_ms < self.at_ms + LATE_MS


class Retained:
    """The retained messages of a log."""

    def __init__(self, control: Control, topics: Topics, clock: Callable[[], int]) -> None:
        """`clock` reads the time in ms."""
        self._control = control
        self._topics = topics
        self._clock = clock
        self._kept: dict[str, _Kept] = {}  # by channel, as the log knows it
        self.bytes = 0
        """What they take."""
        self._told: dict[str, str] = {}  # by channel, the serial that this node told last and has not read back
        control.listen(RETAINED, self._heard)

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, channel: str, message: OutMessage, serial: str, done: Callable[[ErrorInfo | None], None]) -> None:
        """Makes a message of the log, which has that serial there, the channel's retained one.

        `done` is called once, perhaps before this returns, when that holds on every node to come; or with 42910 if
        there is no room for more, or 50003 if the log did not take it.
        """
        known, now = self._kept.get(channel), self._clock()
        if known is not None and (known.serial == serial or known.is_newer(serial, now)):
            done(None)
            return
        shown = shown_message(message) if message.data else {"id": message.id}
        fact = {"serial": serial, "at_ms": now, "message": shown}
        size = self.bytes + len(orjson.dumps(fact)) - (len(known.text) if known else 0)
        if not message.data and (len(self._kept) > RETAINED_MAX // 2 or size > RETAINED_BYTES):
            # What is taken back leaves nothing, so that it needs no room that messages could have.
            self._control.tell(RETAINED, channel, None, lambda problem: done(_refusal(problem)))
        elif (known is None and len(self._kept) >= RETAINED_MAX) or size > RETAINED_BYTES:
            done(error(42910, "no more messages can be retained"))
        else:
            self._tell(channel, fact, done)

    async def under(self, identity: Identity, subscription: Subscription) -> list[tuple[str, OutMessage]]:
        """The retained messages of the channels that a subscription stands for and the client may subscribe to, with
        their topics. What is left of an expiry interval stands in its place.
        """
        realm, wanted = realm_of(identity.key_name), subscription.filter
        if not has_wildcard(wanted):
            channel = realm + self._topics.channel(wanted)
            return self._found(identity, wanted, channel)
        pattern = pattern_of(wanted)
        found: list[tuple[str, OutMessage]] = []
        for index, channel in enumerate(list(self._kept)):
            if index % SLICE == SLICE - 1:
                await asyncio.sleep(0)
            name = bare(channel)
            if channel != realm + name:
                continue
            topic = self._topics.topic(name)
            if pattern.fullmatch(topic):
                found += self._found(identity, topic, channel)
        return found

    async def sweep(self) -> None:
        """Takes back what has expired, once a minute; until cancelled."""
        while True:
            await asyncio.sleep(_SWEEP_S * random.uniform(0.5, 1.5))  # so that nodes do not all do it
            now = self._clock()
            for index, (channel, kept) in enumerate(list(self._kept.items())):
                if index % SLICE == SLICE - 1:
                    await asyncio.sleep(0)
                is_over = max(kept.expires_ms, kept.at_ms + LATE_MS) <= now
                if is_over and self._kept.get(channel) is kept:
                    self._control.tell(RETAINED, channel, None)

    def _found(self, identity: Identity, topic: str, channel: str) -> list[tuple[str, OutMessage]]:
        kept, now = self._kept.get(channel), self._clock()
        if kept is None or kept.expires_ms <= now or not allows(identity.capability, channel, "subscribe"):
            return []
        message = message_of(orjson.loads(kept.text)["message"])
        return [(topic, _aged(message, kept.expires_ms - now))]

    def _tell(self, channel: str, fact: dict[str, Any], done: Callable[[ErrorInfo | None], None]) -> None:
        serial = self._told[channel] = fact["serial"]

        def told(problem: SourceError | None) -> None:
            if problem is None:
                self._take(channel, fact)  # who published it finds it here at once
            elif self._told.get(channel) == serial:
                del self._told[channel]
            done(_refusal(problem))

        self._control.tell(RETAINED, channel, fact, told)

    def _heard(self, channel: str, fact: Fact) -> None:
        known = self._kept.get(channel)
        if fact is not None and self._told.get(channel) == fact["serial"]:
            del self._told[channel]
            if known is not None and known.is_newer(fact["serial"], fact["at_ms"]):
                self._tell(channel, orjson.loads(known.text), lambda _: None)
        self._take(channel, fact)

    def _take(self, channel: str, fact: Fact) -> None:
        before = self._kept.get(channel)
        kept = None if fact is None else _kept(fact)
        if before is not None:
            if kept is not None and before.is_newer(kept.serial, kept.at_ms):
                return
            self.bytes -= len(before.text)
            del self._kept[channel]
        if kept is not None:
            self._kept[channel] = kept
            self.bytes += len(kept.text)


def _kept(fact: dict[str, Any]) -> _Kept:
    """What a fact says. Raises KeyError, ValueError or TypeError for what is none of a retained message."""
    message = message_of(fact["message"])
    at_ms, expiry = int(fact["at_ms"]), _expiry(message)
    expires_ms = float("inf") if expiry is None else at_ms + expiry * 1_000
    if not message.data:  # nobody is given it, whatever the clocks say
        expires_ms = 0
    return _Kept(str(fact["serial"]), at_ms, expires_ms, orjson.dumps(fact))


def _refusal(problem: SourceError | None) -> ErrorInfo | None:
    return None if problem is None else error(50003, "the message was not retained; send it again")


def _expiry(message: OutMessage) -> int | None:
    """After how many seconds the message expires (MQTT 5.0 §3.3.2.3.3)."""
    said = (message.extras or {}).get("mqtt")
    expiry = said.get("expiry") if isinstance(said, Mapping) else None
    return expiry if isinstance(expiry, int) else None


def _aged(message: OutMessage, left_ms: float) -> OutMessage:
    """The message with what is left of its expiry interval, if it has one."""
    if _expiry(message) is None or message.extras is None:
        return message
    said = {**message.extras["mqtt"], "expiry": -int(-left_ms // 1_000)}
    return replace(message, extras={**message.extras, "mqtt": said})
