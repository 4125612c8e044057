"""Coming back after longer than memory reaches: from the log, exactly, on any node; or a gap that is told."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from fanout import Config, Server
from tests.support.sources import eventually
from tests.support.wsclient import RESUMED, RawClient

KEY = "app.key:secret"


class Log:
    """One log; every server over it is another node of it."""

    def __init__(self, options: dict[str, Any], stack: AsyncExitStack) -> None:
        self._options = options
        self._stack = stack

    async def node(self, **options: Any) -> Server:
        given = {"history": "1s", "mutable": ("notes",)} | self._options | options
        config = Config(port=0, key=(KEY,), secret="0123456789abcdef", **given)
        server = await self._stack.enter_async_context(Server(config))
        await server.ready()
        return server


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    options: dict[str, Any] = {"data": tmp_path}
    if request.param == "kafka":
        options |= {
            "kafka": request.getfixturevalue("kafka").bootstrap,
            "publish_topic": f"resume-{uuid.uuid4().hex[:12]}",
        }
    async with AsyncExitStack() as stack:
        yield Log(options, stack)


async def fill(node: Server, count: int, start: int = 0, channel: str = "c") -> list[str]:
    """Publishes so many, with others between."""
    numbers = range(start, start + count)
    for first in range(start, start + count, 50):
        batch = [number for number in numbers if first <= number < first + 50]
        await asyncio.gather(*(node.publish("other", "x") for _ in batch))
        for number in batch:
            await node.publish(channel, str(number))
    return [str(number) for number in numbers]


async def forgotten(node: Server) -> None:
    """Waits until memory holds nothing of what was published."""
    await eventually(lambda: node.stats()["messages"] == node.stats()["messages_expired"])


async def came_back(node: Server, position: str, channel: str = "c", wire: str = "json") -> RawClient:
    """A client that continues behind a position."""
    client = await RawClient(node.port, KEY, wire).connect()
    await client.attach(channel, channelSerial=position)
    return client


def texts(client: RawClient, channel: str = "c") -> list[str]:
    return [message.text for message in client.received.get(channel, ())]


def told(client: RawClient, channel: str = "c") -> tuple[bool, int | None]:
    """Whether the last ATTACHED said RESUMED, and its error."""
    frame = client.attached(channel)[-1]
    return bool(frame["flags"] & RESUMED), frame.get("error", {}).get("code")


async def test_who_was_away_longer_than_memory_reaches_misses_nothing(log: Log) -> None:
    node = await log.node()
    position = node.position("c")
    expected = await fill(node, 300)
    await forgotten(node)
    client = await came_back(node, position)
    assert told(client) == (True, None)
    expected += await fill(node, 20, 300)
    await client.until(lambda: len(texts(client)) >= len(expected))
    expected += await fill(node, 5, 320)
    await client.until(lambda: len(texts(client)) >= len(expected))
    assert texts(client) == expected
    await client.close()
    assert node.stats()["replays_handed_over"] == 1
