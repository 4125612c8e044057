"""Subscribers that stop reading under traffic: the others do not notice, the server's memory does not either.

When they read again they go on exactly where they were, be it out of memory or, where that has passed them, out of the
log; who is passed before its place was noted is told (ATTACHED without RESUMED, 80020). The long form stops for 30 s.
"""

import asyncio
import contextlib
import itertools
import logging
import os
import signal
import statistics
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka import Producer

from tests.support.agents import agents
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.node import KEY, NodeProcess, node_process
from tests.support.wsclient import RESUMED, RawClient

pytestmark = pytest.mark.kafka

log = logging.getLogger(__name__)

STALLED, QUICK = 10, 5
RECEIVE_BUFFER = 16 << 10  # of a stalled client's socket; the server's own side holds up to 4 MiB
PAYLOAD = "x" * 1000
TICK_S = 0.02
REPLAYS_BYTES = 16 << 20  # what those who were passed are given from, and its encodings
SLACK_BYTES = 24 << 20  # for what a process takes besides: allocators round up, Kafka's client holds what it fetched


@dataclass(frozen=True)
class Scale:
    seconds: float  # without reading
    rate: int  # records a second, of about 1 KB


SCALES = [
    pytest.param(Scale(seconds=5, rate=3000), id="short"),
    pytest.param(Scale(seconds=30, rate=2000), id="full", marks=[pytest.mark.slow, pytest.mark.timeout(300)]),
]


class Traffic:
    """Numbered and timed records on one channel, at an even rate, from an ordinary producer."""

    def __init__(self, kafka: Kafka, channel: str, rate: int) -> None:
        self._producer = Producer({**kafka.client, "linger.ms": 0, "log_level": 2})
        self.channel = channel
        self._rate = rate
        self.sent = 0

    async def run(self) -> None:
        """Until cancelled. Time that the machine was late is not made up for: that would be bursts."""
        while True:
            for _ in range(int(self._rate * TICK_S)):
                self._producer.produce("fanout.messages", f"{self.sent} {time.time()} {PAYLOAD}", self.channel)
                self.sent += 1
            self._producer.poll(0)
            await asyncio.sleep(TICK_S)

    async def during(self, seconds: float) -> None:
        """Waits so long, or longer until most of what should have been sent then is."""
        enough = self.sent + 0.8 * seconds * self._rate
        await asyncio.sleep(seconds)
        while self.sent < enough:  # noqa: ASYNC110  a tick is precise enough
            await asyncio.sleep(TICK_S)

    @contextlib.asynccontextmanager
    async def flowing(self) -> AsyncIterator[None]:
        """For the length of the block; then all of it is in the log."""
        running = asyncio.create_task(self.run())
        try:
            yield
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running
        assert await asyncio.to_thread(self._producer.flush, 20) == 0


class Reader:
    """A subscriber that notes numbers and latencies."""

    def __init__(self, port: int, channel: str, wire: str, receive_buffer: int | None = None) -> None:
        self.client = RawClient(port, KEY, wire, receive_buffer=receive_buffer, on_message=self._note)
        self.channel = channel
        self.numbers: list[int] = []
        self.latencies: list[float] = []

    def _note(self, _: str, message: dict[str, Any]) -> None:
        number, sent, _payload = message["data"].split(" ")
        self.numbers.append(int(number))
        self.latencies.append(time.time() - float(sent))

    async def open(self) -> "Reader":
        await self.client.connect()
        await self.client.attach(self.channel)
        return self

    async def reached(self, number: int) -> None:
        """Waits for the record of that number."""
        await self.client.until(lambda: bool(self.numbers) and self.numbers[-1] >= number, 60)


@dataclass(frozen=True)
class Stalled:
    """What was measured meanwhile."""

    behind: int  # records that the least stalled one had not been given when it read again
    growth: int  # of the server's resident memory while they stalled, in bytes
    history: int  # of it, of its history


async def metric(node: NodeProcess, name: str) -> float:
    async with httpx.AsyncClient() as client:
        page = (await client.get(f"{node.url}/metrics")).text
    return next(float(line.split()[1]) for line in page.splitlines() if line.startswith(f"{name} "))


@pytest.fixture
async def stack() -> AsyncIterator[contextlib.AsyncExitStack]:
    async with contextlib.AsyncExitStack() as stack:
        yield stack


@contextlib.asynccontextmanager
async def readers(
    port: int, channel: str, count: int, receive_buffer: int | None = None
) -> AsyncIterator[list[Reader]]:
    """Subscribers for the length of the block, half of them JSON, half MessagePack."""
    opened = [Reader(port, channel, ("json", "msgpack")[number % 2], receive_buffer) for number in range(count)]
    await asyncio.gather(*(reader.open() for reader in opened))
    try:
        yield opened
    finally:
        await asyncio.gather(*(reader.client.close() for reader in opened))


async def stall(node: NodeProcess, slow: list[Reader], quick: list[Reader], traffic: Traffic, scale: Scale) -> Stalled:
    """The slow readers stop reading, and go on; checks that the quick ones lack nothing and wait no longer."""
    async with traffic.flowing():
        await traffic.during(2)
        calm = [latency for reader in quick for latency in reader.latencies]
        resident, history = node.resident_bytes(), await metric(node, "fanout_history_bytes")
        for reader in slow:
            reader.client.pause()
        for reader in quick:
            reader.latencies.clear()
        await traffic.during(scale.seconds)
        growth = node.resident_bytes() - resident
        held = await metric(node, "fanout_history_bytes") - history
        busy = [latency for reader in quick for latency in reader.latencies]
        behind = traffic.sent - max(reader.numbers[-1] for reader in slow)
        for reader in slow:
            reader.client.resume()
        await asyncio.sleep(1)
    assert await metric(node, "fanout_short_writes_total") > 0
    for reader in quick:
        await reader.reached(traffic.sent - 1)
        assert reader.numbers == list(range(traffic.sent))
    before, during = statistics.quantiles(calm, n=100), statistics.quantiles(busy, n=100)
    latencies = (before[49], before[98], during[49], during[98])
    log.info("latency p50 and p99: %.4f and %.4f s, with stalled ones %.4f and %.4f s", *latencies)
    log.info("memory grew by %d bytes, of which history %d", growth, held)
    # Had they waited for the stalled ones, it would be seconds. What is allowed is what a machine full of work adds.
    assert during[49] < before[49] + 0.25
    assert during[98] < before[98] + 1.5
    return Stalled(behind, growth, int(held))


@pytest.mark.parametrize("scale", SCALES)
async def test_a_stalled_reader_goes_on_exactly(
    scale: Scale, kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path, stack: contextlib.AsyncExitStack
) -> None:
    traffic = Traffic(kafka, kafka_topic(), scale.rate)
    node = await stack.enter_async_context(node_process(tmp_path, "--kafka", kafka.bootstrap, "--history-mib", "2048"))
    slow = await stack.enter_async_context(readers(node.port, traffic.channel, STALLED, RECEIVE_BUFFER))
    quick = await stack.enter_async_context(readers(node.port, traffic.channel, QUICK))
    measured = await stall(node, slow, quick, traffic, scale)
    assert measured.behind > scale.rate / 2, "they were really behind"
    for reader in slow:
        await reader.reached(traffic.sent - 1)
        assert reader.numbers == list(range(traffic.sent))
        assert len(reader.client.attached(traffic.channel)) == 1
        assert reader.client.connections == 1
    assert measured.growth < measured.history + SLACK_BYTES, "only the history, which is shared, has grown"


@pytest.mark.parametrize("scale", SCALES)
async def test_a_reader_that_memory_has_passed_goes_on_exactly_from_the_log_or_is_told(
    scale: Scale, kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path, stack: contextlib.AsyncExitStack
) -> None:
    traffic = Traffic(kafka, kafka_topic(), scale.rate)
    node = await stack.enter_async_context(node_process(tmp_path, "--kafka", kafka.bootstrap, "--history-mib", "64"))
    slow = await stack.enter_async_context(readers(node.port, traffic.channel, STALLED, RECEIVE_BUFFER))
    quick = await stack.enter_async_context(readers(node.port, traffic.channel, QUICK))
    measured = await stall(node, slow, quick, traffic, scale)
    for reader in slow:
        await reader.reached(traffic.sent - 1)
        gaps = [(n, next_) for n, next_ in itertools.pairwise(reader.numbers) if next_ != n + 1]
        assert all(n < next_ for n, next_ in gaps), "nothing is given twice"
        _, *told = reader.client.attached(traffic.channel)
        assert [(frame["error"]["code"], frame["flags"] & RESUMED) for frame in told] == [(80020, 0)] * len(gaps)
        assert reader.client.connections == 1
    assert await metric(node, "fanout_continuity_lost_total") >= STALLED
    assert measured.growth < SLACK_BYTES + REPLAYS_BYTES


@pytest.mark.node
@pytest.mark.parametrize("scale", SCALES)
async def test_a_frozen_process_of_an_sdk_goes_on_exactly(
    scale: Scale, kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    channel = kafka_topic()
    options = ("--kafka", kafka.bootstrap, "--history-mib", "2048")
    async with node_process(tmp_path, *options) as node, agents("node") as host:
        clients = [await (await host.connect(node.url, KEY, wire)).attach(channel) for wire in ("json", "msgpack")]
        traffic = Traffic(kafka, channel, scale.rate)
        async with traffic.flowing():
            await asyncio.sleep(1)
            os.kill(host.pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(scale.seconds)
            finally:
                os.kill(host.pid, signal.SIGCONT)
            await asyncio.sleep(1)
        for client in clients:
            await client.await_count(channel, traffic.sent, 50)
            numbers = [int(text.split()[0]) for text in await client.texts(channel)]
            assert numbers == list(range(traffic.sent))
            first, *others = await client.continuity(channel)
            assert not first
            assert all(others)
