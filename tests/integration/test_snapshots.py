"""Rules with snapshots on a running node: who comes is given the newest of each key, however old, and then live."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer

from fanout import Config, Server
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.node import KEY
from tests.support.wsclient import RawClient

RULES = '[[route]]\ntopic = "{topic}"\nchannel = "prices"\nsnapshot = true\n'


def configured(directory: Path, topic: str, **options: Any) -> Config:
    file = directory / "rules.toml"
    file.write_text(RULES.format(topic=topic))
    return Config(port=0, data=directory / "data", rules=file, key=(KEY,), history="1s", **options)


async def attached(server: Server) -> RawClient:
    client = await RawClient(server.port, KEY).connect()
    await client.attach("prices")
    return client


def texts(client: RawClient) -> list[str]:
    return [received.text for received in client.received.get("prices", [])]


async def told(client: RawClient, *expected: str) -> None:
    """Waits until it was given so many, and looks at them."""
    await client.until(lambda: len(texts(client)) >= len(expected))
    assert texts(client) == list(expected)


RULES_OF_THE_TABLE = """
[[publish]]
channel = "^(?:set|prices)"
topic = "table"
key = "#{name}"

[[route]]
topic = "table"
channel = "prices"
snapshot = true
"""


async def test_who_comes_is_given_the_newest_of_each_key_after_a_restart_too(tmp_path: Path) -> None:
    config = configured(tmp_path, "table")
    (tmp_path / "rules.toml").write_text(RULES_OF_THE_TABLE)
    async with Server(config) as server:
        for name, price in [("a", "1"), ("b", "1"), ("a", "2"), ("c", "1")]:
            await server.publish("set", price, name=name)
        early = await attached(server)
        await told(early, "1", "2", "1")
        await server.publish("set", "3", name="a")
        await server.publish("set", None, name="b")
        await early.until(lambda: len(texts(early)) == 5)
        await early.close()
    await asyncio.sleep(1.1)  # past the history window
    async with Server(config) as server:
        async with asyncio.timeout(20):
            await server.ready()
        late = await attached(server)
        await late.until(lambda: len(texts(late)) >= 2)
        await server.publish("set", "live", name="d")
        await late.until(lambda: "live" in texts(late))
        assert [text for text in texts(late) if text != "None"] == ["1", "3", "live"]
        await late.close()


@pytest.mark.kafka
async def test_a_compacted_topic_of_others_is_shown_from_its_beginning(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic(partitions=3, cleanup_policy="compact")
    producer = Producer(kafka.client)
    for number in range(300):
        producer.produce(topic, str(number), f"key{number % 10}", timestamp=1_600_000_000_000 + number)
    assert producer.flush(20) == 0
    async with Server(configured(tmp_path, topic, kafka=kafka.bootstrap)) as server:
        async with asyncio.timeout(30):
            await server.ready()
        client = await attached(server)
        await client.until(lambda: len(texts(client)) >= 10)
        assert sorted(texts(client)) == [str(number) for number in range(290, 300)]
        producer.produce(topic, "live", "key3")
        assert await asyncio.to_thread(producer.flush, 20) == 0
        await client.until(lambda: "live" in texts(client))
        await client.close()
