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
from tests.support.sources import eventually
from tests.support.wsclient import RESUMED, RawClient

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


KEYS, ROUNDS = 30, 60
PAYLOAD = "x" * 8_000  # with these a slow client's sockets are full after a third of the rounds
RECEIVE_BUFFER = 16 << 10


def newest(client: RawClient) -> dict[str, int]:
    """The number of the last message of each key; they must never have gone back."""
    found: dict[str, int] = {}
    for received in client.received.get("prices", []):
        key, number, _ = received.text.split(" ")
        assert found.get(key, -1) < int(number), "a key went back"
        found[key] = int(number)
    return found


async def test_a_slow_reader_skips_what_is_superseded_is_told_so_and_ends_with_the_newest_of_each_key(
    tmp_path: Path,
) -> None:
    config = configured(tmp_path, "table")
    (tmp_path / "rules.toml").write_text(RULES_OF_THE_TABLE)
    async with Server(config) as server:
        quick = await attached(server)
        slow = await RawClient(server.port, KEY, receive_buffer=RECEIVE_BUFFER).connect()
        await slow.attach("prices")

        async def publish(number: int) -> None:
            await asyncio.gather(
                *(server.publish("set", f"{key} {number} {PAYLOAD}", name=f"k{key}") for key in range(KEYS))
            )

        await publish(0)
        await slow.until(lambda: len(newest(slow)) == KEYS)
        slow.pause()
        for number in range(1, ROUNDS):
            await publish(number)
        await asyncio.sleep(1.2)  # the history window: memory lets go of what the slow one has not been given
        await publish(ROUNDS)
        await eventually(lambda: server.stats()["messages_expired"] > KEYS * ROUNDS / 2)
        slow.resume()
        complete = {str(key): ROUNDS for key in range(KEYS)}
        await quick.until(lambda: newest(quick) == complete)
        await slow.until(lambda: newest(slow) == complete)
        assert len(quick.received["prices"]) == KEYS * (ROUNDS + 1)
        assert len(slow.received["prices"]) < KEYS * ROUNDS
        assert len(quick.attached("prices")) == 1
        first, told = slow.attached("prices")
        assert "error" not in first
        assert told["error"]["code"] == 90020
        assert not told["flags"] & RESUMED
        assert slow.connections == 1
        await publish(ROUNDS + 1)
        await slow.until(lambda: set(newest(slow).values()) == {ROUNDS + 1})
        assert server.stats()["conflated"] == 1
        await asyncio.gather(quick.close(), slow.close())
