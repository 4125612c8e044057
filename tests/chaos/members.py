"""Presence members of a chaos run, which come back and enter again as SDKs do, and watchers of who is said to leave."""

import asyncio
import itertools
import uuid
from collections.abc import Sequence
from typing import Any, Self

import httpx

from fanout.audit.client import Client
from fanout.wire import Action
from tests.support.node import KEY
from tests.support.presence_client import ENTER, LEAVE

__all__ = ["Members"]

WATCHERS = 2  # of each node, so that one is there while the other's node is stopped
QUERY = {"heartbeatInterval": "5000"}


class _Member(Client):
    """Enters on every connection that it gets, under one id for each connection id."""

    def __init__(self, urls: Sequence[str], channel: str, name: str) -> None:
        super().__init__(urls, KEY, query=QUERY)
        self._channel = channel
        self._name = name

    def _is_connected(self, frame: dict[str, Any]) -> None:
        super()._is_connected(frame)
        event = {"action": ENTER, "clientId": self._name, "id": f"{self.connection_id}:0:0"}
        serial, self._next_serial = self._next_serial, self._next_serial + 1
        self.send({"action": Action.PRESENCE, "channel": self._channel, "msgSerial": serial, "presence": [event]})


class _Watcher(Client):
    """Keeps who is said to have left."""

    def __init__(self, urls: Sequence[str]) -> None:
        super().__init__(urls, KEY, "msgpack", query=QUERY)
        self.left: list[str] = []

    def _other(self, frame: dict[str, Any]) -> None:
        if frame["action"] == Action.PRESENCE:
            self.left += [event["clientId"] for event in frame["presence"] if event["action"] == LEAVE]


class Members:
    """Members of one channel: enter it, and they are present."""

    def __init__(self, urls: Sequence[str], count: int) -> None:
        self._urls = urls
        self._channel = f"members:{uuid.uuid4().hex[:8]}"
        self._names = [f"m{number}" for number in range(count)]
        turned = [[*urls[first:], *urls[:first]] for first in range(len(urls))]
        rounds = itertools.cycle(turned)
        self._members = [_Member(next(rounds), self._channel, name) for name in self._names]
        self._watchers = [_Watcher(next(rounds)) for _ in range(WATCHERS * len(urls))]

    async def __aenter__(self) -> Self:
        for watcher in self._watchers:
            await watcher.connect()
            await watcher.attach(self._channel)
        for member in self._members:
            await member.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.gather(*(client.close() for client in self.clients))

    @property
    def clients(self) -> list[Client]:
        """All of them, to be tended."""
        return [*self._watchers, *self._members]

    @property
    def leaves(self) -> int:
        """How often somebody was told that a member has left. None ever does."""
        return sum(len(watcher.left) for watcher in self._watchers)

    async def missing(self, patience_s: float) -> list[str]:
        """Who is not present by what each node says, once that is nobody, or the patience is at its end."""
        deadline = asyncio.get_running_loop().time() + patience_s
        while True:
            present = [await self._present(url) for url in self._urls]
            missing = [name for name in self._names if any(name not in told for told in present)]
            if not missing or asyncio.get_running_loop().time() > deadline:
                return missing
            await asyncio.sleep(0.5)

    async def _present(self, url: str) -> set[str]:
        """Nobody, while the node does not answer, or cannot say."""
        name, _, secret = KEY.partition(":")
        try:
            async with httpx.AsyncClient(auth=(name, secret)) as client:
                answer = await client.get(f"{url}/channels/{self._channel}/presence", params={"limit": 1000})
        except httpx.TransportError:
            return set()
        return {member["clientId"] for member in answer.json()} if answer.is_success else set()
