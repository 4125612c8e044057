"""`[[publish]]` rules on a running node: what is written where, and what subscribers see of it."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from fanout import Config, Message, Server, Subscription
from tests.integration.test_server_kafka import read_all
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.node import KEY
from tests.support.presence_client import PresenceClient
from tests.support.wsclient import Refused

RULES = """
[[publish]]
channel = "orders:*"
topic = "orders"
key = "#{1}"
format = "enveloped"
headers = { from = "#{clientId}" }

[[publish]]
channel = "chat:*"
presence = "who"
"""


def configured(directory: Path, rules: str, **options: Any) -> Config:
    file = directory / "rules.toml"
    file.write_text(rules)
    return Config(port=0, data=directory / "data", rules=file, key=(KEY,), **options)


async def some(subscription: Subscription, count: int) -> list[Message]:
    async with asyncio.timeout(20):
        return [await anext(subscription) for _ in range(count)]


async def test_what_is_written_enveloped_arrives_as_it_was_published(tmp_path: Path) -> None:
    async with Server(configured(tmp_path, RULES)) as server:
        subscription = server.subscribe("orders:7")
        serials = [
            await server.publish("orders:7", {"total": 3}, name="made", client_id="me", extras={"headers": {"a": 1}}),
            await server.publish("orders:7", b"\xff\x00", encoding="cipher"),
            await server.publish("orders:7", None),
            await server.publish("orders:7", 'ü "q"', id="same"),
            await server.publish("orders:7", "again", id="same"),
        ]
        messages = await some(subscription, 4)
        told = await server._node.messages.source.read("orders", 0, 0, 10)
    assert [message.serial for message in messages] == serials[:4]
    assert serials[4] == serials[3]
    assert [(message.data, message.encoding) for message in messages] == [
        ('{"total":3}', "json"), (b"\xff\x00", "cipher"), (None, None), ('ü "q"', None),
    ]  # fmt: skip
    assert (messages[0].name, messages[0].client_id, messages[0].extras) == ("made", "me", {"headers": {"a": 1}})
    first = told.records[0]
    assert (first.key, dict(first.headers)["from"]) == (b"7", b"me")
    assert orjson.loads(first.value)["messages"][0]["data"] == '{"total":3}'


async def test_a_channel_without_a_rule_is_published_as_ever(tmp_path: Path) -> None:
    async with Server(configured(tmp_path, RULES)) as server:
        subscription = server.subscribe("news")
        serial = await server.publish("news", "hello")
        (message,) = await some(subscription, 1)
        assert (message.data, message.serial) == ("hello", serial)
        assert serial.endswith("-0-fanout.messages")


async def test_presence_is_copied_as_plain_json(tmp_path: Path) -> None:
    rules = (
        RULES + '[[route]]\ntopic = "who"\nchannel = "who"\n[[route]]\ntopic = "fanout.messages"\nchannel = "#{key}"'
    )
    async with Server(configured(tmp_path, rules)) as server:
        told = server.subscribe("who")
        client = PresenceClient(server.port, KEY, query={"clientId": "eve"})
        await client.connect()
        await client.attach("chat:1")
        await client.enter("chat:1", "eve", data="hi")
        await client.close()
        events = [orjson.loads(message.data or b"") for message in await some(told, 2)]
    assert [(event["channel"], event["presence"][0]["action"]) for event in events] == [("chat:1", 2), ("chat:1", 3)]
    assert events[0]["presence"][0]["data"] == "hi"


@pytest.mark.kafka
async def test_the_key_of_a_rule_decides_the_partition_as_javas_clients_do(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic, rest = kafka_topic(partitions=5), kafka_topic()
    rules = f'[[publish]]\nchannel = "^([a-z]+):"\ntopic = "{topic}"\nkey = "#{{1}}"\nformat = "enveloped"\n'
    options: dict[str, Any] = {"kafka": kafka.bootstrap, "publish_topic": rest}
    async with Server(configured(tmp_path, rules, **options)) as server:
        subscriptions = {f"{key}:{number}": server.subscribe(f"{key}:{number}") for key in "abcd" for number in (1, 2)}
        serials = {channel: await server.publish(channel, channel) for channel in subscriptions}
        for channel, subscription in subscriptions.items():
            (message,) = await some(subscription, 1)
            assert (message.data, message.serial) == (channel, serials[channel])
    records = await asyncio.to_thread(read_all, kafka, topic, 5)
    placed = {(record.key(), record.partition()) for record in records}
    # murmur2 of "a" … "d" by Kafka's own `Utils.toPositive(Utils.murmur2(key)) % 5`.
    assert placed == {(key, partition_of(key, 5)) for key in (b"a", b"b", b"c", b"d")}


def partition_of(key: bytes, partitions: int) -> int:
    """Where Java's producer puts a key (Kafka's `BuiltInPartitioner`, murmur2 of Austin Appleby)."""
    mask, m = 0xFFFFFFFF, 0x5BD1E995
    state = 0x9747B28C ^ len(key)
    whole = len(key) & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little") * m & mask
        state = state * m & mask ^ (k ^ k >> 24) * m & mask
    rest = key[whole:]
    if rest:
        state = (state ^ int.from_bytes(rest, "little")) * m & mask
    state = (state ^ state >> 13) * m & mask
    return ((state ^ state >> 15) & 0x7FFFFFFF) % partitions


@pytest.mark.kafka
async def test_a_message_that_the_topic_does_not_take_is_refused_with_a_number(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic(max_message_bytes="2000")
    async with Server(Config(port=0, data=tmp_path, kafka=kafka.bootstrap, publish_topic=topic, key=(KEY,))) as server:
        async with asyncio.timeout(30):
            await server.ready()
        client = PresenceClient(server.port, KEY)
        await client.connect()
        with pytest.raises(Refused) as refused:
            await client.publish("room", {"data": "x" * 30_000})
        assert refused.value.code == 40009
        assert await client.publish("room", {"data": "small"})
        await client.close()
