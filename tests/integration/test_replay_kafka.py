"""Replays out of a real Kafka: several partitions feed a channel, and their leader changes while they are read."""

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fanout import Config, Server
from tests.support.broker import Kafka, running
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.sources import eventually
from tests.support.wsclient import RESUMED, RawClient

pytestmark = pytest.mark.kafka

KEY = "app.key:secret"
PARTITIONS = 4
SECRET = "0123456789abcdef"

log = logging.getLogger(__name__)


class Numbered:
    """Numbered records of a topic, in every partition those of two rooms in turn."""

    def __init__(self, kafka: Kafka, topic: str) -> None:
        self._producer = Producer({**kafka.client, "linger.ms": 5, "acks": "all", "enable.idempotence": True})
        self._topic = topic
        self.counts = [0] * PARTITIONS

    def write(self, count: int, *, room: str = "a", padding: int = 0) -> None:
        """So many of the room in each partition, each with one of another room."""
        for number in range(count):
            for partition in range(PARTITIONS):
                said = {"room": room, "p": partition, "n": self.counts[partition] + number, "x": "x" * padding}
                self._producer.produce(self._topic, json.dumps(said).encode(), None, partition)
                self._producer.produce(self._topic, json.dumps(said | {"room": "else"}).encode(), None, partition)
            self._producer.poll(0)
        assert self._producer.flush(60) == 0
        self.counts = [before + count for before in self.counts]

    def is_with(self, seen: list[dict[str, Any]]) -> bool:
        return len(seen) >= sum(self.counts)


def options(kafka: Kafka, topic: str, data: Path) -> dict[str, Any]:
    route = (f"{topic}=#{{value.room}}",)
    return {"port": 0, "key": (KEY,), "secret": SECRET, "data": data, "kafka": kafka.bootstrap, "route": route}


def in_order(seen: list[dict[str, Any]], counts: list[int]) -> None:
    """Each partition's are all there, once and in order."""
    for partition, count in enumerate(counts):
        assert [said["n"] for said in seen if said["p"] == partition] == list(range(count))


async def forgotten(node: Server, records: int) -> None:
    """Waits until the node has read so many, and memory holds none."""

    def is_forgotten() -> bool:
        stats = node.stats()
        return stats["messages"] >= records and stats["messages"] == stats["messages_expired"]

    await eventually(is_forgotten, 60)


def follower(node: Server) -> tuple[RawClient, list[dict[str, Any]]]:
    seen: list[dict[str, Any]] = []

    def note(_: str, message: dict[str, Any]) -> None:
        seen.append(json.loads(message["data"]))

    return RawClient(node.port, KEY, on_message=note), seen


def place(node: Server, channel: str) -> list[tuple[str, int, int]]:
    """How far the node has read what may feed a channel. Positions say more than that: of which epoch the record below
    is, which who began behind it cannot know.
    """
    return node._node.messages.engine.places(channel, node.position(channel))


async def test_a_channel_of_a_field_that_every_partition_feeds(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic(PARTITIONS)
    given, written = options(kafka, topic, tmp_path), Numbered(kafka, topic)
    async with Server(Config(**given, history="1h")) as first:
        await first.ready()
        client, seen = follower(first)
        await client.connect()
        await client.attach("a")
        written.write(50)
        await client.until(lambda: written.is_with(seen))
        client.cut()
        await client.close()
        written.write(1_000, padding=1_000)
        async with Server(Config(**given, history="1s")) as second:
            await second.ready()
            await forgotten(second, 2 * sum(written.counts))
            client.move(second.port)
            begun = time.monotonic()
            await client.connect()
            await client.until(lambda: written.is_with(seen), 60)
            seconds = time.monotonic() - begun
            written.write(5)
            await client.until(lambda: written.is_with(seen))
            in_order(seen, written.counts)
            assert client.attached("a")[-1]["flags"] & RESUMED
            assert second.stats()["resumed_from_log"] >= 1, "once more for each time that it is slower than memory"
            log.info("of %d records half were read back for one client in %.2f s", 2 * sum(written.counts), seconds)
            await eventually(lambda: place(first, "a") == place(second, "a"), 60)
            async with second.subscribe("a", since=first.position("a")) as inside:
                written.write(1)
                told = [json.loads(str((await anext(inside)).data)) for _ in range(PARTITIONS)]
            assert sorted(said["p"] for said in told) == list(range(PARTITIONS))
        await client.close()


async def test_the_leader_changes_in_the_middle(tmp_path: Path) -> None:
    with running(3) as cluster:
        await led_by_another(cluster, tmp_path)


async def led_by_another(cluster: Kafka, data: Path) -> None:
    admin = AdminClient(cluster.client)
    settings = {"min.insync.replicas": "2"}
    admin.create_topics([NewTopic("rooms", PARTITIONS, 3, config=settings)])["rooms"].result(15)
    written = Numbered(cluster, "rooms")
    async with Server(Config(**options(cluster, "rooms", data), history="1s")) as node:
        await node.ready()
        since = node.position("a")
        written.write(4_000, padding=500)
        await forgotten(node, 2 * sum(written.counts))
        client, seen = follower(node)
        await client.connect()
        await client.attach("a", channelSerial=since)
        await client.until(lambda: len(seen) > 500)
        assert not written.is_with(seen), "it is in the middle"
        leader = (await asyncio.to_thread(admin.list_topics, "rooms", timeout=10)).topics["rooms"].partitions[0].leader
        await asyncio.to_thread(cluster.kill, leader)
        await client.until(lambda: written.is_with(seen), 90)
        await asyncio.to_thread(written.write, 5)
        await client.until(lambda: written.is_with(seen), 60)
        in_order(seen, written.counts)
        assert len(client.attached("a")) == 1
        await client.close()
