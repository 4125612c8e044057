"""Clients of every kind side by side: published SDKs and raw ones, each asked in the same words.

Half of each kind speak JSON, half MessagePack.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Protocol

from fanout.audit.views import Received
from tests.support.agents import Agent, AgentError, Kind, agents
from tests.support.node import KEY
from tests.support.wsclient import RESUMED, RawClient

__all__ = ["Member", "crowd"]

WIRES = ("json", "msgpack")
COUNT_S = 50  # of one question for a count: an agent's answer may take 60 s


class Client(Protocol):
    """What a member asks of its client."""

    async def await_connected(self) -> None: ...
    async def attach(self, channel: str) -> object: ...
    async def publish(self, channel: str, texts: Sequence[str]) -> list[str | None]: ...
    async def await_count(self, channel: str, count: int) -> None: ...
    async def seen(self, channel: str) -> list[Received]: ...
    async def continuity(self, channel: str) -> list[bool]: ...


@dataclass(slots=True)
class Member:
    """One client, what it is attached to, and what it published: each payload with its serial, None if unknown."""

    name: str
    client: Client
    channels: list[str] = field(default_factory=list)
    published: list[tuple[str, str | None]] = field(default_factory=list)

    async def attach(self, channel: str) -> None:
        await self.client.attach(channel)
        self.channels.append(channel)

    async def publish(self, channel: str, texts: Sequence[str]) -> None:
        serials = await self.client.publish(channel, texts)
        self.published += zip(texts, serials, strict=True)


class SdkClient:
    """A client of an SDK."""

    def __init__(self, agent: Agent, kind: Kind) -> None:
        self._agent = agent
        self._raises_when_cut = kind == "python"

    async def await_connected(self) -> None:
        await self._agent.await_state("connected", COUNT_S)

    async def attach(self, channel: str) -> None:
        await self._agent.attach(channel)

    async def publish(self, channel: str, texts: Sequence[str]) -> list[str | None]:
        if not self._raises_when_cut:
            return [*await self._agent.publish(channel, *texts, pipelined=True, name="note")]
        serials: list[str | None] = []
        for text in texts:
            try:
                serials += await self._agent.publish(channel, text, name="note")
            except AgentError as error:
                if error.code is not None:
                    raise
                serials.append(None)  # its transport broke: the SDK says so, and sends it again all the same
        return serials

    async def await_count(self, channel: str, count: int) -> None:
        await self._agent.await_count(channel, count, COUNT_S)

    async def seen(self, channel: str) -> list[Received]:
        return [Received(message["id"], message["data"]) for message in await self._agent.received(channel)]

    async def continuity(self, channel: str) -> list[bool]:
        return await self._agent.continuity(channel)


class LeanClient:
    """A raw client."""

    def __init__(self, client: RawClient) -> None:
        self._client = client

    async def await_connected(self) -> None:
        await self._client.until(lambda: self._client.is_connected, COUNT_S)

    async def attach(self, channel: str) -> None:
        await self._client.attach(channel)

    async def publish(self, channel: str, texts: Sequence[str]) -> list[str | None]:
        publishes = [self._client.publish(channel, {"data": text, "name": "note"}) for text in texts]
        return [serial for (serial,) in await asyncio.gather(*publishes)]

    async def await_count(self, channel: str, count: int) -> None:
        await self._client.until(lambda: len(self._client.received.get(channel, ())) >= count, COUNT_S)

    async def seen(self, channel: str) -> list[Received]:
        return self._client.received.get(channel, [])

    async def continuity(self, channel: str) -> list[bool]:
        return [bool(frame["flags"] & RESUMED) for frame in self._client.attached(channel)]


@asynccontextmanager
async def crowd(port: int, *, raw: int, **sdks: int) -> AsyncIterator[list[Member]]:
    """Connected clients for the length of the block: so many `raw` ones, and `node`, `browser`, `python` ones."""
    members: list[Member] = []
    async with AsyncExitStack() as stack:
        for number in range(raw):
            client = RawClient(port, KEY, WIRES[number % 2])
            await client.connect()
            stack.push_async_callback(client.close)
            members.append(Member(f"raw{number}", LeanClient(client)))
        kind: Kind
        for kind in ("node", "browser", "python"):
            if not sdks.get(kind):
                continue
            host = await stack.enter_async_context(agents(kind))
            for number in range(sdks[kind]):
                agent = await host.connect(f"http://127.0.0.1:{port}", KEY, WIRES[number % 2])
                members.append(Member(f"{kind}{number}", SdkClient(agent, kind)))
        yield members
