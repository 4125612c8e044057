"""What tests of MQTT sessions need: nodes over one log of facts, what they have read, and clients."""

import asyncio
from collections.abc import Callable, Collection, Sequence
from typing import Any

import orjson

from fanout.auth.realms import bare
from fanout.control import Control
from fanout.errors import ErrorInfo, SourceError, SourceTimeout, SourceTooLarge
from fanout.mqtt.held import Held
from fanout.mqtt.service import Sessions
from fanout.sources.base import Appended, Done, NewRecord, Slice
from fanout.transports.mqtt_ports import Name, Place, Subscription, Will
from fanout.transports.mqtt_topics import Topics
from fanout.types import Identity, OutMessage

ALICE = Name("app", "alice")
MESSAGES = "fanout.messages"
EVERYBODY = Identity("app.key", None, {"*": frozenset("*")})


class FactLog:
    """The log of facts: what is appended is durable at once, and read by every node in its order."""

    def __init__(self) -> None:
        self.facts: list[tuple[bytes | None, bytes | None]] = []
        self.nodes: list[Node] = []
        self.failure: SourceError | None = None
        self.largest = 1 << 20
        self.holds_back = False  # nothing is read back, nor is anybody told
        self.slow: bytes | None = None  # keys that begin so are not written yet

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        if self.failure is not None:
            done(self.failure)
            return
        if any(len(record.value or b"") > self.largest for record in records):
            done(SourceTooLarge("too large"))
            return
        if self.slow is not None and all((record.key or b"").startswith(self.slow) for record in records):
            return
        self.facts += [(record.key, record.value) for record in records]
        done([Appended(record.topic, 0, len(self.facts) - 1, 1) for record in records])
        for node in self.nodes:
            node.catch_up()

    def newest(self) -> dict[str, bytes]:
        """What compaction leaves."""
        facts = {(key or b"").decode(): value for key, value in self.facts}
        return {key: value for key, value in facts.items() if value is not None}


class Memory:
    """What a node has read of a log of one partition, and of its channels. A position is `channel@offset`."""

    def __init__(self) -> None:
        self.end = 0
        self.floor = 0
        self.kept_from = 0
        self.log: list[str] = []  # the channel of each record, for reading back
        self.channels: list[str] = []
        self.unused: list[str] = []  # that hold nothing any more
        self.new: list[str] | None = []
        self.watching = False
        self.is_away = False

    def say(self, channel: str) -> None:
        """A message is read."""
        self.end += 1
        if channel not in self.channels:
            self.channels.append(channel)
            if self.watching and self.new is not None:
                self.new.append(channel)

    def places(self, channel: str, position: str | None) -> list[tuple[str, int, int]]:
        if position is None:
            return [(MESSAGES, 0, self.end)]
        name, _, offset = position.rpartition("@")
        if name != channel:
            raise ValueError("no position of this channel")
        return [(MESSAGES, 0, int(offset))]

    def position_at(self, channel: str, places: Sequence[tuple[str, int, int]]) -> str:
        ((_, _, offset),) = places
        return f"{channel}@{offset}"

    def names(self, realm: str, prefix: str, after: str, limit: int, *, known: bool = False) -> list[str]:
        there = self.channels + (self.unused if known else [])
        names = sorted(name.removeprefix(realm) for name in there if name == realm + bare(name))
        return [realm + name for name in names if name.startswith(prefix) and name > after][:limit]

    def held(
        self,
        channel: str,
        places: Sequence[tuple[str, int, int]],
        start_ms: int,
        end_ms: int,
        forwards: bool,
        limits: tuple[int, int],
    ) -> tuple[list[object], list[int], list[int], bool]:
        return [], [], [self.floor], False

    def watch_births(self, watch: bool) -> None:
        self.watching = watch

    def born(self) -> list[str] | None:
        new, self.new = self.new, []
        return new

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        if self.is_away:
            raise SourceTimeout("away")
        return {0: (self.kept_from, self.end + 3)}  # the log has more than was read

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        following = min(stop, start + 2)
        return Slice([channel for channel in self.log[start:following] if channel], following)

    def partition(self, topic: str, topic_id: bytes, partition: int, start: int, /) -> None: ...

    def records(self, batch: list[str], /) -> None:
        for channel in batch:
            self.say(channel)

    def close(self) -> None: ...


class Node:
    """One node: its sessions, what it has read, and what it published."""

    def __init__(self, log: FactLog, name: str, gone: set[str]) -> None:
        self.now_ms = 1_000_000
        self.memory = Memory()
        self.published: list[tuple[str, OutMessage]] = []
        self.refusal: ErrorInfo | None = None
        self.is_deaf = False
        self.unread: set[str] = set()
        self._log = log
        self._read = 0
        self._name = name
        self.gone = gone
        self.control = Control(log, "fanout.mqtt")  # type: ignore[arg-type]
        self.sessions = Sessions(
            self.control,
            memory=self.memory,
            source=self.memory,
            publish=self.publish,
            topics=Topics(),
            lives=self,
            scratch=Memory,
            node=name,
            clock=lambda: self.now_ms,
            wait=self.reads,
        )
        log.nodes.append(self)
        self.catch_up()

    async def reads(self, channel: str) -> bool:
        return channel not in self.unread

    def is_gone(self, node: str) -> bool:
        return node in self.gone

    def publish(
        self, channel: str, messages: Sequence[OutMessage], done: Callable[[list[str] | ErrorInfo], None]
    ) -> None:
        if self.refusal is not None:
            done(self.refusal)
            return
        self.published += [(channel, message) for message in messages]
        done([f"{len(self.published):010}-0" for _ in messages])

    def catch_up(self) -> None:
        """Reads on, unless it is deaf."""
        if not self.is_deaf and not self._log.holds_back:
            facts, self._read = self._log.facts[self._read :], len(self._log.facts)
            self.control.taken(facts)

    async def take(
        self,
        client: "Client",
        name: Name = ALICE,
        *,
        clean: bool = False,
        expiry_s: int = 3_600,
        will: Will | None = None,
    ) -> Held:
        client.held = await self.sessions.take(name, client, clean=clean, expiry_s=expiry_s, will=will)
        return client.held


class Client:
    """A connection: remembers what it was told, and stands where the test says."""

    def __init__(self, identity: Identity = EVERYBODY) -> None:
        self.identity = identity
        self.attached: dict[tuple[str, str], str] = {}
        self.sent: dict[str, str] = {}
        self.acknowledged = 0
        self.stands: list[Place] = []
        self.ended: ErrorInfo | None = None
        self.held: Held | None = None

    def attach(self, subscription: Subscription, topic: str, position: str, sent: str = "") -> None:
        stands = self.place(subscription.filter, topic)
        assert (subscription.filter, topic) not in self.attached or (stands and stands.position == position)
        self.attached[subscription.filter, topic] = position
        self.sent[topic] = sent

    def place(self, filter: str, topic: str) -> Place | None:  # noqa: A002
        return next((one for one in self.stands if (one.filter, one.topic) == (filter, topic)), None)

    def places(self) -> list[Place]:
        return self.stands

    def stand(self, *places: Place) -> None:
        """It has acknowledged what lies before these."""
        self.stands = list(places)
        self.acknowledged += 1

    def end(self, reason: ErrorInfo) -> None:
        self.ended = reason


async def settle() -> None:
    """Lets what is under way come to rest; threads that names are asked on too."""
    for _ in range(20):
        await asyncio.sleep(0.001)


def state_of(log: FactLog, name: str = "alice") -> Any:
    """The session's state as the log has it."""
    text = log.newest().get(f'state:["app","{name}"]')
    return None if text is None else orjson.loads(text)
