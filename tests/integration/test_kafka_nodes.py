"""A cluster of three Kafka nodes that die: nothing of the log is lost to a reader, and a log that was cut is told."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fanout import Config, Server
from fanout.errors import SourceError, SourceTimeout
from fanout.sources.base import Appended
from fanout.sources.kafka import KafkaSource
from tests.support.broker import Kafka, running
from tests.support.node import KEY
from tests.support.sources import RecordingSink, append, begin_append, eventually, record
from tests.support.wsclient import RawClient, Refused

pytestmark = pytest.mark.kafka

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def cluster() -> Iterator[Kafka]:
    with running(3) as cluster:
        yield cluster


def partition_of(cluster: Kafka, topic: str) -> Any:
    """What the cluster says of the topic's only partition."""
    admin = AdminClient({**cluster.client, "log_level": 0})
    while not (partitions := admin.list_topics(topic, timeout=10).topics[topic].partitions):
        time.sleep(0.1)  # it was made a moment ago
    return partitions[0]


def make(cluster: Kafka, topic: str, *replicas: list[int], **config: str) -> None:
    """Makes a topic whose partitions lie on these nodes, each partition's preferred leader first."""
    settings = {key.replace("_", "."): value for key, value in config.items()}
    admin = AdminClient(cluster.client)
    admin.create_topics([NewTopic(topic, len(replicas), replica_assignment=[*replicas], config=settings)])[
        topic
    ].result(15)


def write_quickly(cluster: Kafka, topic: str, *values: str) -> None:
    """Writes what the leader alone has to confirm."""
    producer = Producer({**cluster.client, "acks": 1, "linger.ms": 0, "log_level": 0})
    for value in values:
        producer.produce(topic, value.encode())
        assert producer.flush(20) == 0


async def test_nodes_that_die_one_after_another_cost_nothing(cluster: Kafka) -> None:
    topic = "led"
    make(cluster, topic, [1, 2, 3])
    source, sink = KafkaSource(cluster.client), RecordingSink()
    await source.start(sink, [topic], HOUR_MS)
    await eventually(lambda: sink.is_ready)
    outcomes: list[asyncio.Future[list[Appended] | SourceError]] = []

    async def publish() -> None:
        while True:
            outcomes.append(begin_append(source, record(topic, b"%d" % len(outcomes))))
            await asyncio.sleep(0.01)

    publishing = asyncio.create_task(publish())
    for node in (1, 2, 3):  # one of them leads, another is the one that is asked about topics
        await asyncio.sleep(0.5)
        await asyncio.to_thread(cluster.kill, node)
        await asyncio.sleep(6)  # one look at the topics, at least
        await eventually(lambda: source.health().ok)
        await asyncio.to_thread(cluster.restart, node)
        await eventually(lambda: len(partition_of(cluster, topic).isrs) == 3)
    publishing.cancel()
    placed = [places for places in await asyncio.gather(*outcomes) if isinstance(places, list)]
    assert len(placed) == len(outcomes)
    await eventually(lambda: len(sink.delivered) >= len(outcomes))
    assert sink.values(topic) == [b"%d" % number for number in range(len(outcomes))]
    assert [r.offset for r in sink.delivered] == [place.offset for (place,) in placed]
    assert len(sink.partitions) == 1
    assert len({r.leader_epoch for r in sink.delivered}) > 1
    await source.stop()


async def test_a_partition_that_nobody_leads_is_named_and_holds_up_no_other(cluster: Kafka) -> None:
    topic = "alone"
    make(cluster, topic, [1], [2])
    keys = (b"21", b"a-little-bit-longer-string")  # murmur2 puts them into different partitions of two
    source, sink = KafkaSource(cluster.client), RecordingSink()
    await source.start(sink, [topic], HOUR_MS)
    await eventually(lambda: sink.is_ready)
    (first,), (second,) = [await append(source, record(topic, b"x", key)) for key in keys]
    assert (first.partition, second.partition) == (0, 1)
    await asyncio.to_thread(cluster.kill, 2)
    await eventually(lambda: source.health().held, 30)
    assert source.health().ok
    assert {key: reason for key, (_, reason) in source.health().held.items()} == {(topic, 1): "no broker leads it"}
    lost = begin_append(source, record(topic, b"lost", keys[1]))
    for number in range(100):
        await append(source, record(topic, b"%d" % number, keys[0]))
    await eventually(lambda: sink.values(topic, 0)[1:] == [b"%d" % number for number in range(100)])
    assert isinstance(await asyncio.wait_for(lost, 20), SourceTimeout)
    await asyncio.to_thread(cluster.restart, 2)
    await eventually(lambda: not source.health().held)
    await append(source, record(topic, b"back", keys[1]))
    await eventually(lambda: sink.values(topic, 1)[-1] == b"back")
    assert len(sink.partitions) == 2
    await source.stop()


async def test_what_nobody_leads_at_the_start_is_named_and_read_when_somebody_does(cluster: Kafka) -> None:
    topic = "late"
    make(cluster, topic, [1], [2])
    keys = (b"21", b"a-little-bit-longer-string")  # murmur2 puts them into different partitions of two
    first = KafkaSource(cluster.client)
    await first.start(RecordingSink(), [topic], HOUR_MS)
    await eventually(lambda: first.health().ok)
    for key in keys:
        await append(first, record(topic, b"before", key))
    await asyncio.to_thread(cluster.kill, 2)
    await eventually(lambda: first.health().held, 30)
    await first.stop()
    source, sink = KafkaSource(cluster.client), RecordingSink()
    await source.start(sink, [topic], HOUR_MS)
    await eventually(lambda: sink.is_ready, 40)
    assert (source.health().ok, sink.values(topic, 0), sink.values(topic, 1)) == (True, [b"before"], [])
    assert {key: reason for key, (_, reason) in source.health().held.items()} == {(topic, 1): "no broker leads it"}
    await asyncio.to_thread(cluster.restart, 2)
    await eventually(lambda: sink.values(topic, 1) == [b"before"], 40)
    await eventually(lambda: not source.health().held)
    assert sink.calls.count("ready") == 1
    await source.stop()


@pytest.mark.timeout(180)
async def test_who_needs_a_partition_that_nobody_leads_is_told_and_all_others_are_served(
    cluster: Kafka, tmp_path: Path
) -> None:
    topic, served, held = "needed", "21", "a-little-bit-longer-string"  # murmur2 puts them into partitions 0 and 1
    make(cluster, topic, [1], [2])
    rules = tmp_path / "rules.toml"
    rules.write_text(f'[[route]]\ntopic = "{topic}"\nchannel = "#{{key}}"\npartitioner = "murmur2"\nread = "needed"\n')
    settings = {"rules": rules, "publish_topic": topic, "key": (KEY,), "drain": "0s"}
    config = Config(port=0, data=tmp_path, kafka=cluster.bootstrap, **settings)  # type: ignore[arg-type]
    async with Server(config) as server:
        async with asyncio.timeout(60):
            await server.ready()
        await asyncio.to_thread(cluster.kill, 2)
        await eventually(lambda: (topic, 1) in server._node.messages.source._watch.leaderless, 30)  # type: ignore[attr-defined]
        client = await RawClient(server.port, KEY).connect()
        needs = asyncio.ensure_future(client.attach(held))
        reads = server.subscribe(held)
        await client.attach(served)
        writes = [asyncio.ensure_future(server.publish(held, text)) for text in ("one", "two")]
        for number in range(100):
            await client.publish(served, {"data": str(number)})
        await client.until(lambda: len(client.received.get(served, [])) >= 100)
        assert [message.text for message in client.received[served]] == [str(number) for number in range(100)]
        with pytest.raises(Refused) as refused:
            await needs
        assert refused.value.code == 50003
        for write in writes:
            with pytest.raises(SourceTimeout):
                await write
        await eventually(lambda: server._node.health() == (True, "", {(topic, 1): ANY}))
        await asyncio.to_thread(cluster.restart, 2)
        await eventually(lambda: server._node.messages.interest.has(held), 60)
        await client.attach(held)
        await client.publish(held, {"data": "three"})
        await client.until(lambda: held in client.received)
        assert [message.text for message in client.received[held]] == ["three"]
        async with asyncio.timeout(20):
            assert (await anext(reads)).data == "three", "what was refused was not written"
        await client.close()


async def grow(cluster: Kafka, topic: str) -> list[str]:
    """Makes a log of which node 2 has two records, and node 1 five; node 1 leads. What the five are."""
    make(cluster, topic, [1, 2], min_insync_replicas="1", unclean_leader_election_enable="true")
    await eventually(lambda: len(partition_of(cluster, topic).isrs) == 2)
    await asyncio.to_thread(write_quickly, cluster, topic, "0", "1")
    await asyncio.sleep(1)  # for the other replica to fetch them
    await asyncio.to_thread(cluster.kill, 2)
    await eventually(lambda: partition_of(cluster, topic).isrs == [1])
    await asyncio.to_thread(write_quickly, cluster, topic, "cut", "cut", "cut")
    return ["0", "1", "cut", "cut", "cut"]


async def cut(cluster: Kafka, topic: str) -> list[str]:
    """Has node 2 lead what `grow` made, and writes on; what is written where the three were, and behind."""
    await asyncio.to_thread(cluster.kill, 1)
    await asyncio.to_thread(cluster.restart, 2)
    await eventually(lambda: partition_of(cluster, topic).leader == 2)
    await asyncio.to_thread(write_quickly, cluster, topic, *"abcdef")
    return [*"abcdef"]


@pytest.mark.parametrize("has_read", [True, False], ids=["records were read", "begun at the end"])
async def test_a_log_that_was_cut_is_read_on_from_the_cut(
    cluster: Kafka, has_read: bool, caplog: pytest.LogCaptureFixture
) -> None:
    topic = f"cut-{has_read}"
    before = await grow(cluster, topic)
    source, sink = KafkaSource(cluster.client), RecordingSink()
    await source.start(sink, [topic], HOUR_MS if has_read else 1)
    await eventually(lambda: sink.is_ready)
    after = await cut(cluster, topic)
    await eventually(lambda: len(sink.partitions) == 2)
    await eventually(lambda: sink.values(topic)[-1:] == [b"f"])
    assert [start for _, _, _, start in sink.partitions] == [0 if has_read else 5, 2]
    assert sink.values(topic) == [value.encode() for value in [*(before if has_read else []), *after]]
    assert len({topic_id for _, topic_id, _, _ in sink.partitions}) == 1
    assert "was cut" in caplog.text
    (place,) = await append(source, record(topic, b"on"))
    assert place.offset == 8
    await eventually(lambda: sink.values(topic)[-1] == b"on")
    await eventually(lambda: source.health().ok)
    await source.stop()
    await asyncio.to_thread(cluster.restart, 1)


async def test_who_is_attached_or_comes_back_is_told_that_the_log_was_cut(cluster: Kafka, tmp_path: Path) -> None:
    topic = "told"
    before = await grow(cluster, topic)
    config = Config(port=0, data=tmp_path, kafka=cluster.bootstrap, key=(KEY,), route=(f"{topic}=room",), drain="0s")

    def texts(client: RawClient) -> list[str]:
        return [message.text for message in client.received.get("room", [])]

    async with Server(config) as server:
        async with asyncio.timeout(60):
            await server.ready()
        client, away = [await RawClient(server.port, KEY).connect() for _ in range(2)]
        for each in (client, away):
            await each.attach("room", params={"rewind": "10"})
            await each.until(lambda each=each: texts(each) == before)  # type: ignore[misc]
        serial = away._channels["room"].serial
        await away.close()
        after = await cut(cluster, topic)
        await client.until(lambda: len(client.attached("room")) == 2)
        await asyncio.to_thread(write_quickly, cluster, topic, "on")
        await client.until(lambda: texts(client)[-1:] == ["on"])
        after.append("on")
        given = texts(client)[len(before) :]  # it goes on live, with what came since it was told
        assert texts(client) == [*before, *after[len(after) - len(given) :]]
        assert [frame.get("error", {}).get("code") for frame in client.attached("room")] == [None, 80020]
        back = await RawClient(server.port, KEY).connect()
        attached = await back.attach("room", channelSerial=serial)
        assert attached["error"]["code"] == 90003
        await back.until(lambda: texts(back)[-1:] == after[-1:])
        assert texts(back) == after
        for each in (client, back):
            await each.close()
    await asyncio.to_thread(cluster.restart, 1)
