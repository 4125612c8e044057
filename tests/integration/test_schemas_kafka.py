"""Topics of Avro, Protobuf and JSON Schema in a real Kafka, written by confluent-kafka's own serializers."""

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from fanout import Config, Message, Server, Subscription
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.schema_registry import SchemaRegistry, schema_registry
from tests.support.serialized import ORDER, Serializers, protobuf_classes
from tests.support.sources import eventually

pytestmark = pytest.mark.kafka

CREDENTIALS = "ann:open sesame"


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with schema_registry(CREDENTIALS) as running:
        yield running


def produce(kafka: Kafka, *records: tuple[str, bytes | None, bytes | None]) -> None:
    producer = Producer({**kafka.client, "linger.ms": 0})
    for topic, key, value in records:
        producer.produce(topic, value, key)
    assert producer.flush(20) == 0


def rules(tmp_path: Path, **channels: dict[str, str]) -> Path:
    file = tmp_path / "rules.toml"
    tables = [{"topic": topic, **fields} for topic, fields in channels.items()]
    file.write_text(
        "\n".join("[[route]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in t.items()) for t in tables)
    )
    return file


def read_all(kafka: Kafka, topic: str, count: int) -> list[Any]:
    consumer = Consumer({**kafka.client, "group.id": "reader"})
    consumer.assign([TopicPartition(topic, 0, 0)])
    found: list[Any] = []
    deadline = time.monotonic() + 30
    while len(found) < count and time.monotonic() < deadline:
        found += consumer.consume(count, 0.5)
    consumer.close()
    return found


async def next_messages(subscription: Subscription, count: int) -> list[Message]:
    async with asyncio.timeout(30):
        return [await anext(subscription) for _ in range(count)]


def data(messages: list[Message]) -> list[Any]:
    assert {message.encoding for message in messages} == {"json"}
    return [json.loads(message.data or "") for message in messages]


async def test_every_format_reaches_the_channels_that_its_fields_name(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path, registry: SchemaRegistry
) -> None:
    avro, protobuf, with_schema = kafka_topic(), kafka_topic(), kafka_topic()
    order, _ = protobuf_classes()
    serializers = Serializers(registry, CREDENTIALS)
    schema = '{"title":"T","type":"object","properties":{"id":{"type":"string"}}}'
    config = Config(
        port=0,
        data=tmp_path / "data",
        kafka=kafka.bootstrap,
        publish_topic=avro,
        schema_registry=registry.url,
        schema_registry_setting=(f"basic.auth.user.info={CREDENTIALS}",),
        rules=rules(
            tmp_path,
            **{
                avro: {"channel": "avro:#{key.id}:#{value.id}", "key": "avro", "value": "avro"},
                protobuf: {"channel": "protobuf:#{value.place.city}", "value": "protobuf"},
                with_schema: {"channel": "json:#{key}:#{value.id}", "key": "json-schema", "value": "json-schema"},
            },
        ),
    )
    records = [
        (avro, serializers.avro(ORDER, {"id": "k", "count": 0}), serializers.avro(ORDER, {"id": "v", "count": 7})),
        (protobuf, b"plain", serializers.protobuf(order(id="a", place={"city": "Ulm"}))),
        (with_schema, serializers.json('{"title":"K","type":"string"}', "k"), serializers.json(schema, {"id": "x"})),
    ]
    channels = ["avro:k:v", "protobuf:Ulm", "json:k:x"]
    async with Server(config) as server:
        await asyncio.wait_for(server.ready(), 30)
        subscriptions = [server.subscribe(channel) for channel in channels]
        await asyncio.to_thread(produce, kafka, *records)
        found = [data(await next_messages(subscription, 1))[0] for subscription in subscriptions]
        assert found[0] == {"id": "v", "count": 7, "note": None}
        assert (found[1]["id"], found[1]["place"]) == ("a", {"city": "Ulm"})
        assert found[2] == {"id": "x"}


async def test_while_the_registry_is_away_its_topics_wait_and_others_do_not(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path, registry: SchemaRegistry
) -> None:
    topic, plain = kafka_topic(partitions=2), kafka_topic()
    serializers = Serializers(registry, CREDENTIALS)
    values = [serializers.avro(ORDER, {"id": "a", "count": count}) for count in range(50)]
    config = Config(
        port=0,
        data=tmp_path / "data",
        kafka=kafka.bootstrap,
        publish_topic=plain,
        schema_registry=registry.url.replace("//", f"//{CREDENTIALS.replace(' ', '%20')}@"),
        rules=rules(tmp_path, **{topic: {"channel": "orders", "value": "avro"}, plain: {"channel": "plain"}}),
    )
    registry.stop()
    async with Server(config) as server:
        await asyncio.wait_for(server.ready(), 30)
        other, orders = server.subscribe("plain"), server.subscribe("orders")
        await asyncio.to_thread(produce, kafka, *((topic, b"one", value) for value in values))
        await eventually(lambda: server.health().held)
        await asyncio.to_thread(produce, kafka, (plain, b"k", b"not held up"))
        assert [message.data for message in await next_messages(other, 1)] == ["not held up"]
        registry.start()
        assert [order["count"] for order in data(await next_messages(orders, 50))] == list(range(50))
        assert server.health() == (True, "", {})
    await asyncio.sleep(1.1)
    async with Server(replace(config, history="1s")) as server:  # has none of them in memory
        await asyncio.wait_for(server.ready(), 30)
        async with httpx.AsyncClient(auth=httpx.BasicAuth(*(server.key or "").split(":")), timeout=30) as client:
            page = (await client.get(f"{server.url}/channels/orders/messages?limit=5")).json()
        assert [json.loads(message["data"])["count"] for message in page] == [49, 48, 47, 46, 45]


async def test_what_fails_becomes_a_dead_letter_as_it_was_written_and_the_stream_goes_on(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path, registry: SchemaRegistry
) -> None:
    topic, letters = kafka_topic(), kafka_topic()
    serializers = Serializers(registry, CREDENTIALS)
    good, other = serializers.avro(ORDER, {"id": "a", "count": 1}), serializers.avro('"string"', "without an id")
    fields = {"channel": "orders:#{value.id}", "value": "avro", "on_failure": "dead-letter", "dead_letter": letters}
    config = Config(
        port=0,
        data=tmp_path / "data",
        kafka=kafka.bootstrap,
        publish_topic=topic,
        schema_registry=registry.url,
        schema_registry_setting=(f"basic.auth.user.info={CREDENTIALS}",),
        rules=rules(tmp_path, **{topic: fields}),
    )
    bad = [b"\0\0\0\0\x63?", b"no frame", good[:5] + b"\xff\xff", b"", other]
    async with Server(config) as server:
        await asyncio.wait_for(server.ready(), 30)
        orders = server.subscribe("orders:a")
        await asyncio.to_thread(produce, kafka, *((topic, b"k", value) for value in [good, *bad, good]))
        assert [order["count"] for order in data(await next_messages(orders, 2))] == [1, 1]
        found = await asyncio.to_thread(read_all, kafka, letters, len(bad))
    by_offset = {dict(message.headers())["fanout.failed.offset"]: message for message in found}
    letter_of = [by_offset[str(offset).encode()] for offset in range(1, 6)]  # they are written in any order
    assert [message.value() for message in letter_of] == bad
    headers = [{name: value.decode() for name, value in message.headers()} for message in letter_of]
    assert [said["fanout.failed.cause"] for said in headers] == ["decoding"] * 4 + ["field"]
    assert "does not know schema 99" in headers[0]["fanout.failed.reason"]
    assert not [name for said in headers for name in said if not name.startswith("fanout.failed.")]


async def test_a_connectors_configuration_is_followed(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path, registry: SchemaRegistry
) -> None:
    topic = kafka_topic()
    file = tmp_path / "connector.json"
    properties = {
        "connector.class": "com.ably.kafka.connect.ChannelSinkConnector",
        "tasks.max": "3",
        "topics.regex": f"{topic[:-1]}.",
        "channel": "user:#{value.id}",
        "message.name": "#{topic.name}",
        "client.id": "connector",
        "client.key": "app.key:secret",
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "io.confluent.connect.avro.AvroConverter",
        "value.converter.schema.registry.url": registry.url,
        "value.converter.basic.auth.credentials.source": "USER_INFO",
        "value.converter.basic.auth.user.info": CREDENTIALS,
        "errors.tolerance": "all",
    }
    file.write_text(json.dumps({"name": "sink", "config": properties}))
    value = Serializers(registry, CREDENTIALS).avro(ORDER, {"id": "ann", "count": 1})
    config = Config(port=0, data=tmp_path / "data", kafka=kafka.bootstrap, connector=file)
    async with Server(config) as server:
        await asyncio.wait_for(server.ready(), 30)
        user = server.subscribe("user:ann")
        await asyncio.to_thread(produce, kafka, (topic, b"k", value))
        message = (await next_messages(user, 1))[0]
        assert json.loads(message.data or "") == {"id": "ann", "count": 1, "note": None}
        assert (message.name, message.client_id) == (topic, "connector")
