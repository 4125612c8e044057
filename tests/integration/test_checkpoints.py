"""Positions over many partitions, any of which may feed a channel: short, and exact on every node."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from fanout import Config, Server
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.sources import eventually
from tests.support.wsclient import RESUMED, RawClient

pytestmark = pytest.mark.kafka

KEY = "app.key:secret"
PARTITIONS = 64


class Client(RawClient):
    """One that remembers its last position on the channel."""

    position = ""

    def _frame(self, payload: bytes) -> None:
        self.position = json.loads(payload).get("channelSerial", self.position)
        super()._frame(payload)

    @property
    def count(self) -> int:
        """How many messages it was given."""
        return len(self.received.get("c", ()))

    async def was_given(self, count: int) -> None:
        """Waits until it was given so many."""
        await self.until(lambda: self.count >= count)


class Site:
    """A topic of many partitions whose records name their channels in a field, and nodes that read it."""

    def __init__(self, kafka: Kafka, topic: str, data: Path, stack: AsyncExitStack) -> None:
        self._kafka = kafka
        self._topic = topic
        self._data = data
        self._stack = stack
        self._producer = Producer({**kafka.client, "linger.ms": 0})
        self._random = random.Random(7)
        self.written: dict[int, list[str]] = defaultdict(list)

    async def node(self, **options: Any) -> Server:
        rule = f"{self._topic}=#{{value.room}}"
        config = Config(
            port=0, key=(KEY,), data=self._data, kafka=self._kafka.bootstrap, secret="0123456789abcdef", route=(rule,),
            **options,
        )  # fmt: skip
        server = await self._stack.enter_async_context(Server(config))
        await server.ready()
        return server

    async def write(self, *partitions: int, room: str = "c") -> None:
        """One record into each of these partitions, between others of another room."""
        for partition in partitions:
            text = f"{partition}-{len(self.written.get(partition, ()))}"
            if room == "c":
                self.written[partition].append(text)
            for name, body in ((room, text), ("other", "x")):
                self._producer.produce(self._topic, json.dumps({"room": name, "text": body}).encode(), None, partition)
        assert await asyncio.to_thread(self._producer.flush, 20) == 0

    async def write_at_random(self, count: int) -> None:
        await self.write(*(self._random.randrange(PARTITIONS) for _ in range(count)))

    @property
    def count(self) -> int:
        return sum(map(len, self.written.values()))


@pytest.fixture
async def site(kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(kafka, kafka_topic(partitions=PARTITIONS), tmp_path, stack)


async def is_short(node: Server, channel: str = "c") -> None:
    await eventually(lambda: len(node.position(channel)) <= 60)


async def forgotten(node: Server) -> None:
    """Waits until memory holds nothing of what was written."""
    await eventually(lambda: node.stats()["messages"] == node.stats()["messages_expired"])


def by_partition(*clients: Client) -> dict[int, list[str]]:
    """What one client was given over its connections, partition by partition."""
    found: dict[int, list[str]] = defaultdict(list)
    for client in clients:
        for message in client.received.get("c", ()):
            text = json.loads(message.text)["text"]
            found[int(text.partition("-")[0])].append(text)
    return found


async def came_back(node: Server, position: str) -> Client:
    client = Client(node.port, KEY)
    await client.connect()
    await client.attach("c", channelSerial=position)
    return client


async def test_a_position_over_64_partitions_is_short(site: Site) -> None:
    node = await site.node()
    assert len(node.position("c")) > 200, "nothing was read yet, and no checkpoint either"
    client = await came_back(node, node.position("c"))
    await site.write(*range(PARTITIONS))
    await client.was_given(PARTITIONS)
    await is_short(node)
    await site.write(3, 40)
    await client.was_given(PARTITIONS + 2)
    assert len(client.position) <= 70, (
        "two partitions have fed it since, and it has one of the topic that clients publish to"
    )
    await client.close()


async def test_a_partition_that_feeds_a_channel_for_the_first_time_while_its_client_is_away(site: Site) -> None:
    first = await site.node()
    await site.write(*range(PARTITIONS), room="other")
    await is_short(first)
    client = await came_back(first, first.position("c"))
    await site.write(3, 3, 17)
    await client.was_given(3)
    await client.close()
    clients = [client]
    for history in ("2m", "1s"):  # from memory, and from the log
        await site.write(40, 3, 41)
        second = await site.node(history=history)
        if history == "1s":
            await forgotten(second)
        client = await came_back(second, clients[-1].position)
        assert client.attached("c")[-1]["flags"] & RESUMED
        await client.was_given(3)
        await site.write(60)
        await client.was_given(4)
        await client.close()
        clients.append(client)
    assert by_partition(*clients) == site.written


async def test_a_client_that_goes_from_node_to_node_is_given_each_record_once(site: Site) -> None:
    nodes = [await site.node(), await site.node()]
    await site.write(*range(PARTITIONS), room="other")
    for node in nodes:
        await is_short(node)
    clients: list[Client] = []
    position = nodes[0].position("c")
    for turn in range(10):
        client = await came_back(nodes[turn % 2], position)
        clients.append(client)
        assert client.attached("c")[-1]["flags"] & RESUMED
        await site.write_at_random(12)
        await client.was_given(1)
        await client.close()
        position = client.position
        await site.write_at_random(12)
        await asyncio.sleep(0.2)
    last = await came_back(nodes[0], position)
    clients.append(last)
    await last.until(lambda: sum(client.count for client in clients) >= site.count)
    await asyncio.sleep(0.2)
    assert by_partition(*clients) == site.written
    await last.close()
