"""A log and a presence set in the test's hands."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

import orjson

from fanout.errors import ErrorInfo, SourceBusy, SourceError
from fanout.presence.records import Key
from fanout.presence.service import Presence
from fanout.sources.base import Appended, Done, Health, Held, NewRecord
from fanout.types import PresenceEvent
from tests.support.sources import NeverStarted

NODE = "this"
CONNECTION = "abcdefghijklmnop"


class Log(NeverStarted):
    """A source that confirms when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[tuple[Sequence[NewRecord], Done]] = []
        self.busy = False
        self.well = True
        self.behind: dict[tuple[str, int], int] = {}
        self.held: dict[tuple[str, int], Held] = {}

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        if self.busy:
            raise SourceBusy("full")
        self.waiting.append((records, done))

    def confirm(self) -> list[NewRecord]:
        """All that waits is in the log; what it was."""
        waiting, self.waiting = self.waiting, []
        for records, done in waiting:
            done([Appended(record.topic, 0, 0, 1_000) for record in records])
        return [record for records, _ in waiting for record in records]

    def refuse(self, problem: SourceError) -> None:
        """None of what waits is in the log, or perhaps it is."""
        waiting, self.waiting = self.waiting, []
        for _, done in waiting:
            done(problem)

    def health(self) -> Health:
        return Health(self.well, "", self.held)

    def lag(self) -> dict[tuple[str, int], int]:
        return self.behind


class Set:
    """The presence set, as far as the node has read it."""

    def __init__(self) -> None:
        self.members: dict[Key, tuple[str, str, int]] = {}  # id, node, size
        self.generations: dict[Key, int] = {}  # of those whose connections were continued

    def read(self, records: Sequence[NewRecord]) -> None:
        """The node reads records back."""
        for record in records:
            key, (action, headers) = Key(*orjson.loads(record.key or b"")), said(record)
            generation = int(headers.get("fanout.generation", 0))
            if generation < self.generations.get(key, 0):
                continue
            self.generations[key] = generation
            if action == "leave":
                self.members.pop(key, None)
            else:
                self.members[key] = headers["fanout.id"], headers["fanout.node"], len(key.client_id + headers["data"])

    def member(self, channel: str, connection_id: str, client_id: str) -> tuple[str, str, int] | None:
        key = Key(channel, connection_id, client_id)
        found = self.members.get(key)
        return None if found is None else (*found[:2], self.generations.get(key, 0))

    def presence_size(self, channel: str) -> tuple[int, int]:
        sizes = [size for key, (_, _, size) in self.members.items() if key.channel == channel]
        return len(sizes), sum(sizes)

    def presence_nodes(self) -> dict[str, int]:
        nodes = [node for _, node, _ in self.members.values()]
        return {node: nodes.count(node) for node in nodes}

    def members_of(self, node: str, limit: int) -> list[tuple[str, str, str]]:
        return [(*key,) for key, (_, whose, _) in self.members.items() if whose == node][:limit]


class Bed:
    """Presence between the two, and a clock."""

    def __init__(self, members_max: int = 1_000) -> None:
        self.log = Log()
        self.set = Set()
        self.now_s = 1_000.0
        self.presence = Presence(
            self.set, self.log, NODE, log=self.log, members_max=members_max, clock=lambda: self.now_s
        )

    def say(self, *events: PresenceEvent, channel: str = "room", connection_id: str = CONNECTION) -> list[Any]:
        """Writes events; the list holds the answer once there is one."""
        answers: list[list[None] | ErrorInfo] = []
        self.presence.write(connection_id, channel, events, answers.append)
        return answers

    def settle(self) -> list[tuple[str, str, str]]:
        """The log confirms what waits and what follows, and the node reads it: action, client id and id of each."""
        happened: list[tuple[str, str, str]] = []
        while self.log.waiting:
            records = self.log.confirm()
            self.set.read(records)
            for record in records:
                action, headers = said(record)
                happened.append((action, orjson.loads(record.key or b"")[2], headers["fanout.id"]))
        return happened

    def enter(self, *clients: str, channel: str = "room", connection_id: str = CONNECTION) -> None:
        """These clients are present from now on."""
        self.say(*(event("enter", client) for client in clients), channel=channel, connection_id=connection_id)
        self.settle()

    def present(self, channel: str = "room") -> list[str]:
        return sorted(key.client_id for key in self.set.members if key.channel == channel)


def event(
    action: str, client: str, serial: int = 0, data: str | bytes | None = None, generation: int = 0
) -> PresenceEvent:
    size = len(client) + len(data or "")
    return PresenceEvent(action, f"{CONNECTION}:{serial}:0", client, data, size=size, generation=generation)


def said(record: NewRecord) -> tuple[str, dict[str, str]]:
    """What a record says: its action, and its headers and value as text."""
    headers = {name: (value or b"").decode() for name, value in record.headers}
    return headers.pop("fanout.action"), headers | {"data": (record.value or b"").decode()}


async def eventually(holds: Callable[[], object]) -> None:
    """Returns once it holds; whoever waits in vain is ended by the test's own limit."""
    while not holds():  # noqa: ASYNC110  what is waited for says nothing when it happens
        await asyncio.sleep(0.001)
