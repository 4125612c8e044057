"""Thousands of connections on one server process: idle ones that cost little, receiving ones that miss nothing.

The long form is 5,000 of each, for which 20,000 descriptors a process leave room on both sides. What was measured is
logged: `--log-cli-level=INFO` shows it.
"""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Producer

from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.node import KEY, NodeProcess, node_process
from tests.support.wsclient import RawClient

log = logging.getLogger(__name__)

SOURCES = [f"127.0.0.{number}" for number in range(2, 12)]  # client ports are counted for each of them alone
AT_ONCE = 50
IDLE_BYTES_MAX = 24 << 10  # resident in the server, for each connection that is attached to a channel and silent


@dataclass(frozen=True)
class Scale:
    """So many connections of both kinds, receivers over so many channels, so many messages in each."""

    idle: int
    receiving: int
    channels: int
    messages: int


SCALES = [
    pytest.param(Scale(idle=300, receiving=300, channels=10, messages=40), id="short"),
    pytest.param(
        Scale(idle=5000, receiving=5000, channels=50, messages=40),
        id="full",
        marks=[pytest.mark.slow, pytest.mark.timeout(600)],
    ),
]


async def open_clients(port: int, channels: Iterable[str]) -> list[RawClient]:
    """A connected client for each of `channels`, attached to it; half of them JSON, half MessagePack."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def open_one(number: int, channel: str) -> RawClient:
        async with gate:
            wire = ("json", "msgpack")[number // len(SOURCES) % 2]
            client = await RawClient(port, KEY, wire, source=SOURCES[number % len(SOURCES)]).connect()
            await client.attach(channel)
            return client

    return await asyncio.gather(*(open_one(number, channel) for number, channel in enumerate(channels)))


@pytest.fixture
async def node(kafka: Kafka, tmp_path: Path) -> AsyncIterator[NodeProcess]:
    async with node_process(tmp_path, "--kafka", kafka.bootstrap) as node:
        yield node


@pytest.mark.kafka
@pytest.mark.parametrize("scale", SCALES)
async def test_idle_and_receiving_connections(
    scale: Scale, kafka: Kafka, kafka_topic: NewKafkaTopic, node: NodeProcess
) -> None:
    own = kafka_topic()
    producer = Producer({**kafka.client, "log_level": 2})
    warm = await open_clients(node.port, [f"{own}:warm"] * AT_ONCE)  # what the process needs once is not counted
    before, began = node.resident_bytes(), time.monotonic()
    idle = await open_clients(node.port, [f"{own}:idle"] * scale.idle)
    each = (node.resident_bytes() - before) // scale.idle
    log.info("an idle connection takes %d bytes; %d a second", each, scale.idle / (time.monotonic() - began))
    channels = [f"{own}:{number}" for number in range(scale.channels)]
    receiving = await open_clients(node.port, [channels[n % scale.channels] for n in range(scale.receiving)])

    began = time.monotonic()
    for message in range(scale.messages):
        for channel in channels:
            producer.produce("fanout.messages", f"{channel} {message}", channel)
        producer.poll(0)
        await asyncio.sleep(0.02)
    producer.produce("fanout.messages", "still here", f"{own}:idle")
    assert await asyncio.to_thread(producer.flush, 20) == 0
    for number, client in enumerate(receiving):
        channel = channels[number % scale.channels]
        await client.until(lambda c=client, name=channel: len(c.received.get(name, ())) >= scale.messages, 60)  # type: ignore[misc]
    log.info("%d deliveries a second", scale.receiving * scale.messages / (time.monotonic() - began))

    for number, client in enumerate(receiving):
        channel = channels[number % scale.channels]
        texts = [message.text for message in client.received[channel]]
        assert texts == [f"{channel} {message}" for message in range(scale.messages)]
        assert client.received.keys() == {channel}
    for client in idle:
        await client.until(lambda c=client: bool(c.received))  # type: ignore[misc]
        assert [message.text for message in client.received[f"{own}:idle"]] == ["still here"]
        assert client.connections == 1
    assert each < IDLE_BYTES_MAX
    await asyncio.gather(*(client.close() for client in (*warm, *idle, *receiving)))
