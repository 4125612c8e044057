"""A node over a real Kafka: what any producer writes reaches the right channels, and what is published is in Kafka."""

import asyncio
import uuid
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from fanout import Config, Server, Subscription
from fanout.routing import STATE_TOPICS
from fanout.rules.topics import OWN_TOPICS
from tests.support.broker import Kafka, running
from tests.support.fixtures_kafka import NewKafkaTopic

pytestmark = pytest.mark.kafka


def produce(kafka: Kafka, topic: str, *records: tuple[str, bytes]) -> None:
    producer = Producer({**kafka.client, "enable.idempotence": True})
    for key, value in records:
        producer.produce(topic, key=key, value=value)
    assert producer.flush(20) == 0


def read_all(kafka: Kafka, topic: str, partitions: int = 1) -> list[Message]:
    """Every record of the topic, partition by partition."""
    consumer = Consumer({**kafka.client, "group.id": "reader", "enable.partition.eof": True})
    consumer.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
    records, ended = [], 0
    while ended < partitions:
        message = consumer.poll(20)
        assert message is not None
        if message.error():
            ended += 1
        else:
            records.append(message)
    consumer.close()
    return sorted(records, key=lambda record: (record.partition() or 0, record.offset() or 0))


async def texts(subscription: Subscription, count: int) -> list[str | bytes | None]:
    async with asyncio.timeout(30):
        return [(await anext(subscription)).data for _ in range(count)]


async def test_plain_records_reach_the_channels_of_their_keys(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic(partitions=3)
    config = Config(
        port=0, data=tmp_path, kafka=kafka.bootstrap, route=(f"{topic}=orders:#{{key}}",), publish_topic=topic
    )
    async with Server(config) as server:
        async with asyncio.timeout(30):
            await server.ready()
        rooms = {key: server.subscribe(f"orders:{key}") for key in "abcde"}
        records = [(key, f"{key}{number}".encode()) for number in range(200) for key in rooms]
        await asyncio.to_thread(produce, kafka, topic, *records)
        for key, subscription in rooms.items():
            assert await texts(subscription, 200) == [f"{key}{number}" for number in range(200)]


async def test_what_is_published_is_in_kafka_once_in_order_with_its_headers(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic(partitions=1)
    config = Config(port=0, data=tmp_path, kafka=kafka.bootstrap, publish_topic=topic)
    async with Server(config) as server:
        subscription = server.subscribe("chat")
        for number in range(20):
            await server.publish("chat", f"m{number}", name="n", id=f"id{number % 10}", client_id="me")
        assert await texts(subscription, 10) == [f"m{number}" for number in range(10)]
    records = await asyncio.to_thread(read_all, kafka, topic)
    assert [record.value() for record in records] == [f"m{number}".encode() for number in range(10)]
    assert {record.key() for record in records} == {b"chat"}
    assert dict(records[3].headers() or ()) == {
        "fanout.id": b"id3",
        "fanout.type": b"text",
        "fanout.name": b"n",
        "fanout.clientId": b"me",
    }


async def test_position_of_one_node_is_good_on_another(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic(partitions=4)
    one, two = (
        Config(port=0, data=tmp_path / name, kafka=kafka.bootstrap, publish_topic=topic, secret="shared by both nodes")
        for name in ("one", "two")
    )
    async with Server(one) as first, Server(two) as second:
        subscription = first.subscribe("chat")
        for number in range(5):
            await first.publish("chat", str(number))
        async with asyncio.timeout(30):
            position = [(await anext(subscription)).position for _ in range(3)][-1]
            await second.ready()
        assert await texts(second.subscribe("chat", since=position), 2) == ["3", "4"]


async def test_alone_uses_the_default_topic_and_makes_it(kafka: Kafka, tmp_path: Path) -> None:
    async with Server(Config(port=0, data=tmp_path, kafka=kafka.bootstrap)) as server:
        subscription = server.subscribe("default-room")
        await server.publish("default-room", "hello")
        assert await texts(subscription, 1) == ["hello"]


async def test_topics_that_are_only_written_to_are_made_too(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    read, written = kafka_topic(partitions=1), f"written-{uuid.uuid4().hex}"
    config = Config(port=0, data=tmp_path, kafka=kafka.bootstrap, route=(f"{read}=c",), publish_topic=written)
    async with Server(config) as server:
        await server.publish("chat", "to the other topic")
    records = await asyncio.to_thread(read_all, kafka, written, 6)
    assert [record.value() for record in records] == [b"to the other topic"]


async def test_topics_of_state_are_made_compacted(kafka: Kafka, tmp_path: Path) -> None:
    async with Server(Config(port=0, data=tmp_path, kafka=kafka.bootstrap, history="3m")) as server:
        async with asyncio.timeout(30):
            await server.ready()
    admin = AdminClient(kafka.client)
    for topic in STATE_TOPICS:
        resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
        settings = await asyncio.to_thread(admin.describe_configs([resource])[resource].result, 10)
        assert settings["cleanup.policy"].value == "compact"
        assert settings["min.compaction.lag.ms"].value in ("180000", "120000")  # who comes first makes it


async def test_presence_has_as_many_partitions_as_messages_have(tmp_path: Path) -> None:
    with running() as cluster:
        admin = AdminClient(cluster.client)
        await asyncio.to_thread(admin.create_topics([NewTopic("fanout.messages", 3)])["fanout.messages"].result, 10)
        async with Server(Config(port=0, data=tmp_path, kafka=cluster.bootstrap)) as server:
            async with asyncio.timeout(30):
                await server.ready()
        topics = (await asyncio.to_thread(admin.list_topics, timeout=10)).topics
        counts = {name: len(topics[name].partitions) for name in ("fanout.messages", *OWN_TOPICS)}
        of_one = dict.fromkeys(("fanout.control", "fanout.mqtt", "fanout.checkpoints"), 1)
        assert counts == {"fanout.messages": 3, "fanout.presence": 3} | of_one


async def test_repeat_is_recognised_by_a_node_that_started_since(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic(partitions=2)
    config = Config(port=0, data=tmp_path, kafka=kafka.bootstrap, publish_topic=topic)
    async with Server(config) as server:
        serial = await server.publish("chat", "once", id="same")
    async with Server(config) as server:
        assert await server.publish("chat", "once", id="same") == serial
    assert len(await asyncio.to_thread(read_all, kafka, topic, 2)) == 1
