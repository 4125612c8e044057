"""Topics whose producers partition by murmur2, on real Kafka: positions of one entry, a topic that grows, and nodes
that read what somebody on them needs and no more.
"""

import asyncio
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewPartitions  # type: ignore[attr-defined]

import fanout.node
from fanout import Config, Server, interest
from fanout.errors import SourceError
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.sources import eventually
from tests.support.wsclient import RESUMED, RawClient

pytestmark = pytest.mark.kafka

KEY = "app.key:secret"
PARTITIONS = 64


class Site:
    """Nodes over one topic, and a producer to it that is not ours."""

    def __init__(self, kafka: Kafka, topic: str, directory: Path, stack: AsyncExitStack, read: str) -> None:
        self.topic = topic
        self._kafka = kafka
        self._directory = directory
        self._stack = stack
        self._rules = directory / "rules.toml"
        self._rules.write_text(
            f'[[route]]\ntopic = "{topic}"\nchannel = "#{{key}}"\npartitioner = "murmur2"\nread = "{read}"\n'
        )
        # librdkafka's own default is another one
        self._producer = Producer({**kafka.client, "partitioner": "murmur2", "topic.metadata.refresh.interval.ms": 500})

    async def node(self, history: str = "2m") -> Server:
        config = Config(
            port=0,
            history=history,
            data=self._directory / uuid.uuid4().hex,
            key=(KEY,),
            secret="0123456789abcdef",
            kafka=self._kafka.bootstrap,
            rules=self._rules,
            publish_topic=self.topic,
        )
        server = await self._stack.enter_async_context(Server(config))
        async with asyncio.timeout(30):
            await server.ready()
        return server

    async def client(self, node: Server, channel: str, position: str | None = None) -> RawClient:
        client = await RawClient(node.port, KEY).connect()
        self._stack.push_async_callback(client.close)
        await client.attach(channel, **({} if position is None else {"channelSerial": position}))
        return client

    async def write(self, channel: str, texts: Iterable[str], timestamp: int = 0) -> None:
        for text in texts:
            self._producer.produce(self.topic, key=channel, value=text, timestamp=timestamp)
        assert await asyncio.to_thread(self._producer.flush, 20) == 0

    async def keep_writing(self, channels: Iterable[str]) -> None:
        """Numbers in each of the channels, until cancelled."""
        try:
            for number in itertools.count():
                for channel in channels:
                    self._producer.produce(self.topic, key=channel, value=str(number))
                self._producer.poll(0)
                await asyncio.sleep(0.01)
        finally:
            self._producer.flush(20)

    async def grow(self, partitions: int) -> None:
        admin = AdminClient(self._kafka.client)
        grown = admin.create_partitions([NewPartitions(self.topic, partitions)])[self.topic]
        await asyncio.to_thread(grown.result, 15)


@pytest.fixture(params=["all", "needed"])
async def site(
    request: pytest.FixtureRequest, kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> AsyncIterator[Site]:
    async with AsyncExitStack() as stack:
        yield Site(kafka, kafka_topic(PARTITIONS), tmp_path, stack, request.param)


def texts(client: RawClient, channel: str) -> list[str]:
    return [message.text for message in client.received.get(channel, ())]


async def given(client: RawClient, channel: str, count: int) -> list[str]:
    """What came, once it is so many."""
    await client.until(lambda: len(texts(client, channel)) >= count, 30)
    return texts(client, channel)


def has_come(client: RawClient, channel: str, text: str) -> bool:
    return texts(client, channel)[-1:] == [text]


def lie(node: Server, channels: Iterable[str]) -> set[int]:
    """The partitions that the channels have, as far as the node knows."""
    return {number for channel in channels for _, number in node._node.messages.engine.partitions_of(channel)}


def numbers(start: int, stop: int) -> list[str]:
    return [str(number) for number in range(start, stop)]


@pytest.mark.timeout(120)
async def test_of_64_partitions_a_position_names_one_and_is_resumed_on_any_node(site: Site) -> None:
    here, there = await site.node(), await site.node()
    client = await site.client(here, "c")
    await site.write("c", numbers(0, 20))
    await site.write("others", numbers(0, 5))
    assert await given(client, "c", 20) == numbers(0, 20)
    position = here.position("c")
    assert len(position) <= 36, position
    await client.close()
    await site.write("c", numbers(20, 40))
    back = await site.client(there, "c", position)
    assert await given(back, "c", 20) == numbers(20, 40)
    assert back.attached("c")[-1]["flags"] & RESUMED
    await there.publish("c", "from there")
    assert (await given(back, "c", 21))[-1] == "from there"
    assert here.stats()["failed_misplaced"] == there.stats()["failed_misplaced"] == 0


@pytest.mark.timeout(120)
async def test_a_topic_that_grows_loses_and_repeats_nothing(site: Site) -> None:
    node = await site.node()
    channels = [f"c{number}" for number in range(12)]
    clients = {channel: await site.client(node, channel) for channel in channels}
    for channel in channels:
        await site.write(channel, numbers(0, 5))
    for channel, client in clients.items():
        assert await given(client, channel, 5) == numbers(0, 5)
    positions = {channel: node.position(channel) for channel in channels}
    await site.grow(2 * PARTITIONS)
    await asyncio.sleep(2)  # the producer hears of it
    for channel in channels:
        await site.write(channel, numbers(5, 10))
    for channel, client in clients.items():
        assert await given(client, channel, 10) == numbers(0, 10), channel
    for channel in channels:
        back = await site.client(node, channel, positions[channel])
        assert await given(back, channel, 5) == numbers(5, 10), channel
    assert node.stats()["failed_misplaced"] == 0


@pytest.mark.timeout(120)
async def test_what_came_into_an_added_partition_long_before_a_node_noticed_is_given(site: Site) -> None:
    node = await site.node()
    channels = [f"c{number}" for number in range(12)]
    clients = {channel: await site.client(node, channel) for channel in channels}
    await site.grow(2 * PARTITIONS)
    await asyncio.sleep(2)  # the producer hears of it
    an_hour_ago = time.time_ns() // 1_000_000 - 3_600_000
    for channel in channels:
        await site.write(channel, numbers(0, 5), an_hour_ago)
    for channel, client in clients.items():
        assert await given(client, channel, 5) == numbers(0, 5), channel
    assert any(number >= PARTITIONS for number in lie(node, channels))


@pytest.mark.timeout(180)
async def test_where_a_topic_grows_so_that_keys_move_all_is_given_or_a_loss_is_told_and_the_log_has_it(
    site: Site,
) -> None:
    node = await site.node()
    channels = [f"c{number}" for number in range(24)]
    clients = {channel: await site.client(node, channel) for channel in channels}
    for channel in channels:
        await site.write(channel, numbers(0, 5))
        assert await given(clients[channel], channel, 5) == numbers(0, 5)
    before = {channel: node.position(channel) for channel in channels}
    await site.grow(
        PARTITIONS + PARTITIONS // 2
    )  # the keys of most channels move, of many to a partition that there was
    await asyncio.sleep(2)  # the producer hears of it
    for channel in channels:
        await site.write(channel, numbers(5, 30))
    await eventually(lambda: any(number >= PARTITIONS for number in lie(node, channels)))
    for channel in channels:
        await site.write(channel, ["30"])
    for channel, client in clients.items():
        await client.until(partial(has_come, client, channel, "30"), 30)
        found = texts(client, channel)
        assert found == sorted(set(found), key=int), channel
        if found != numbers(0, 31):  # who is told of a loss comes back with the position from before, below
            assert len(client.attached(channel)) > 1, channel
            assert not client.attached(channel)[-1]["flags"] & RESUMED
    for channel in channels:
        back = await site.client(node, channel, before[channel])
        assert sorted(await given(back, channel, 26), key=int) == numbers(5, 31), channel
        assert back.attached(channel)[-1]["flags"] & RESUMED


@pytest.mark.parametrize("site", ["needed"], indirect=True)
@pytest.mark.timeout(120)
async def test_a_node_reads_the_partitions_that_somebody_on_it_needs(site: Site) -> None:
    nodes = [await site.node() for _ in range(2)]
    own = [f"own-{number}" for number in range(2)]
    clients = [await site.client(node, channel) for node, channel in zip(nodes, own, strict=True)]
    before = [node.stats()["records_in"] for node in nodes]  # what others have left in the log's own topics
    everything = 0
    for number in range(100):
        await site.write(f"load-{number}", numbers(0, 50))
        everything += 50
    for channel in own:
        await site.write(channel, numbers(0, 50))
    for client, channel in zip(clients, own, strict=True):
        assert await given(client, channel, 50) == numbers(0, 50)
    for node, at_first in zip(nodes, before, strict=True):
        assert node.stats()["records_in"] - at_first < everything / 4, "one or two partitions of 64"
    # What is published on one is received on the other.
    await nodes[0].publish(own[1], "from the other node")
    assert (await given(clients[1], own[1], 51))[-1] == "from the other node"
    reader = nodes[0].subscribe(own[1], since=nodes[1].position(own[1]))
    await nodes[1].publish(own[1], "and back")
    async with asyncio.timeout(20):
        assert (await anext(reader)).data == "and back"
    await eventually(lambda: nodes[0]._node.messages.interest.counts["catching_up"] == 0)


def is_read(node: Server, channel: str) -> bool:
    """Whether the node reads what a channel lies in."""
    messages = node._node.messages
    return not messages.source.lag().keys().isdisjoint(messages.engine.partitions_of(channel))


def is_let_go(node: Server, channel: str) -> bool:
    return not is_read(node, channel)


@pytest.mark.parametrize("site", ["needed"], indirect=True)
@pytest.mark.timeout(180)
async def test_what_is_let_go_and_needed_again_under_traffic_is_given_once_in_order(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interest, "LOOK_S", 0.1)
    monkeypatch.setattr(interest, "DEDUP_WINDOW_MS", 1_000)
    monkeypatch.setattr(fanout.node, "DEDUP_WINDOW_MS", 0)  # so that more than is read back comes while nobody reads
    nodes = [await site.node("1s") for _ in range(2)]
    channels = [f"c{number}" for number in range(4)]

    async def follow(number: int, channel: str) -> list[int]:
        """What a program is given that goes from node to node, and is away in between until the first has let go."""
        found: list[int] = []
        position = None
        for turn in range(5):
            node = nodes[(number + turn // 2) % 2]  # twice to the same
            async with node.subscribe(channel, since=position) as messages:
                for _ in range(20):
                    message = await anext(messages)
                    found.append(int(str(message.data)))
                    position = message.position
            await eventually(partial(is_let_go, node, channel), 60)
        return found

    writing = asyncio.ensure_future(site.keep_writing(channels))
    try:
        for found in await asyncio.gather(*itertools.starmap(follow, enumerate(channels))):
            assert found == list(range(found[0], found[0] + 100))
        client = await site.client(nodes[0], "c0")
        await client.until(lambda: len(texts(client, "c0")) >= 20, 30)
        assert is_read(nodes[0], "c0")
        stood = nodes[0].position("c0")
        await client.close()
        await eventually(lambda: nodes[0]._node.messages.interest.counts["read_on_demand"] == 0, 60)
        with pytest.raises(SourceError, match="not read here yet"):
            nodes[0].position("c1")
        await asyncio.sleep(2)  # what memory holds grows old
        back = await site.client(nodes[0], "c0", stood)
        await back.until(lambda: len(texts(back, "c0")) >= 20, 30)
    finally:
        writing.cancel()
    first = int(texts(back, "c0")[0])
    assert texts(back, "c0")[:20] == numbers(first, first + 20)
    assert back.attached("c0")[-1]["flags"] & RESUMED
    assert first <= int(texts(client, "c0")[-1]) + 1, "nothing between the two is missing"
    await nodes[1].publish("c1", "published where nobody reads it")
    assert all(node.stats()["continuity_lost"] == 0 for node in nodes)
