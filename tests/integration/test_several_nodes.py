"""Three nodes over one Kafka, and clients that are on any of them: each is given the log, wherever it was published."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest

from fanout import Config, Server
from fanout.presence.leases import LEASE_S, SPREAD_S
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.node import KEY, NodeProcess, node_process
from tests.support.presence_client import ENTER, LEAVE, PresenceClient
from tests.support.wsclient import RESUMED, RawClient

pytestmark = pytest.mark.kafka

AUTH = httpx.BasicAuth(*KEY.split(":"))
CHANNELS = 6
SECRET = "one secret for all nodes"
GONE_S = LEASE_S + SPREAD_S + 20  # the lease, and a machine that is busy


class Roamer:
    """A client that follows all channels, publishes to one, and is on another node after each cut."""

    def __init__(self, number: int, nodes: list[NodeProcess], channels: list[str]) -> None:
        self.name = f"client {number}"
        self.channels = channels
        self.own = channels[number % len(channels)]
        self.published: list[str] = []
        self.client = RawClient(nodes[0].port, KEY, ("json", "msgpack")[number % 2])
        turn = number % len(nodes)
        self.client.urls = [node.url for node in (*nodes[turn:], *nodes[:turn])]

    async def begin(self) -> None:
        await self.client.connect()
        for channel in self.channels:
            await self.client.attach(channel)

    async def publish(self, done: asyncio.Event) -> None:
        while not done.is_set():
            text = f"{self.name}, {len(self.published)}"
            await self.client.publish(self.own, {"data": text})
            self.published.append(text)
            await asyncio.sleep(0.02)

    def seen(self, channel: str) -> list[str]:
        return [message.text for message in self.client.received.get(channel, ())]

    async def has_seen(self, channel: str, count: int) -> None:
        await self.client.until(lambda: len(self.seen(channel)) >= count)

    async def is_back(self, connections: int) -> None:
        """Returns once it is connected for the so-manieth time."""
        await self.client.until(lambda: self.client.connections >= connections and self.client.is_connected)


@pytest.fixture
async def nodes(kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path) -> AsyncIterator[list[NodeProcess]]:
    options = ("--kafka", kafka.bootstrap, "--publish-topic", kafka_topic(4), "--secret", SECRET)
    async with AsyncExitStack() as stack:
        started = []
        for name in "abc":
            (tmp_path / name).mkdir()
            started.append(await stack.enter_async_context(node_process(tmp_path / name, *options)))
        yield started


@pytest.mark.timeout(180)
async def test_nobody_leaves_while_each_node_is_restarted_in_turn(
    nodes: list[NodeProcess], kafka: Kafka, tmp_path: Path
) -> None:
    room = uuid.uuid4().hex
    config = Config(port=0, data=tmp_path / "d", key=(KEY,), kafka=kafka.bootstrap, secret=SECRET)
    async with Server(config) as steady:
        watcher = PresenceClient(steady.port, KEY)
        await watcher.connect()
        await watcher.attach(room)
        members = []
        for number in range(12):
            member = PresenceClient(nodes[0].port, KEY)
            member.urls = [node.url for node in (*nodes[number % 3 :], *nodes[: number % 3])]
            await member.connect()
            await member.stay(room, f"{number:02}")
            await watcher.told(number + 1)  # there is no order between members but this
            members.append(member)
        for node in nodes:
            assert await node.stop() == 0
            await node.start()
        assert all(member.connections > 1 and member.refusals == 0 for member in members)
        await members[0].close()
        await watcher.told(13, GONE_S)  # a lease later
        await asyncio.sleep(SPREAD_S + 2)  # by then those of the nodes that were are over as well, for everybody
        assert watcher.events == [(ENTER, f"{number:02}") for number in range(12)] + [(LEAVE, "00")]
        assert watcher.names() == [f"{number:02}" for number in range(1, 12)]
        for client in (*members[1:], watcher):
            await client.close()


async def history(node: NodeProcess, channel: str) -> list[str]:
    """All of a channel, as this node tells it."""
    url, texts = f"{node.url}/channels/{channel}/messages?limit=1000&direction=forwards", list[str]()
    async with httpx.AsyncClient(auth=AUTH) as http:
        while True:
            answer = await http.get(url)
            texts += [message["data"] for message in answer.json()]
            following = answer.links.get("next")
            if following is None:
                return texts
            url = str(answer.url.join(following["url"]))


@pytest.mark.timeout(180)
async def test_clients_that_roam_see_the_log_while_each_node_is_restarted_in_turn(nodes: list[NodeProcess]) -> None:
    channels = [f"{uuid.uuid4().hex}:{number}" for number in range(CHANNELS)]
    roamers = [Roamer(number, nodes, channels) for number in range(2 * CHANNELS)]
    await asyncio.gather(*(roamer.begin() for roamer in roamers))
    done = asyncio.Event()
    publishing = [asyncio.create_task(roamer.publish(done)) for roamer in roamers]
    for hop in range(len(nodes)):  # everybody has been everywhere
        await asyncio.sleep(0.5)
        for roamer in roamers:
            roamer.client.cut()
        await asyncio.gather(*(roamer.is_back(hop + 2) for roamer in roamers))
    for node in nodes:
        assert await node.stop() == 0
        await node.start()
    await asyncio.sleep(1)
    done.set()
    await asyncio.gather(*publishing)
    for channel in channels:
        expected = await history(nodes[0], channel)
        assert expected == await history(nodes[2], channel)
        for publisher in roamers:
            if publisher.own == channel:
                assert [text for text in expected if text in set(publisher.published)] == publisher.published
        assert len(expected) == sum(len(roamer.published) for roamer in roamers if roamer.own == channel)
        for roamer in roamers:
            await roamer.has_seen(channel, len(expected))
            assert roamer.seen(channel) == expected, roamer.name
            first, *others = roamer.client.attached(channel)
            assert not first["flags"] & RESUMED
            assert len(others) >= len(nodes)
            assert all(attached["flags"] & RESUMED for attached in others)
    for roamer in roamers:
        await roamer.client.close()
