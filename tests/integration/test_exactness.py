"""From a real Kafka to every kind of client and back: each sees exactly its channels' records, whatever happens.

The log is the judge: a consumer of the test's own reads it, and every client's view of every channel is compared with
that. The faults are a cut of every client's socket, a SIGKILL of the server with a restart, and another cut, all while
records flow and clients publish. FANOUT_TESTS_SLOW=1 runs the long form as well.
"""

import asyncio
import itertools
import json
import logging
import math
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from fanout._core import message_serial
from fanout.audit.expected import Entry, Expected, Route, expect
from fanout.audit.log import KafkaLog
from fanout.audit.verdict import Judge
from fanout.audit.views import View
from fanout.types import Record
from tests.support.broker import Kafka
from tests.support.crowd import Member, crowd
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.node import KEY, NodeProcess, node_process
from tests.support.proxy import Proxy, proxy_to
from tests.support.wsclient import RawClient

logger = logging.getLogger(__name__)

MESSAGES = "fanout.messages"
TICK_S = 0.05
REGIONS, KINDS = ("eu", "us"), ("order", "refund", "note")


@dataclass(frozen=True)
class Scale:
    """How much: plain records over channels, in so many seconds, to so many clients of each kind."""

    records: int
    channels: int
    seconds: float
    raw: int
    node: int
    browser: int
    python: int
    share: int  # each client is attached to every so-manieth channel


SHORT = Scale(records=10_000, channels=20, seconds=8, raw=6, node=2, browser=2, python=2, share=2)
FULL = Scale(records=100_000, channels=100, seconds=60, raw=36, node=6, browser=4, python=4, share=3)
SCALES = [
    pytest.param(SHORT, id="short"),
    pytest.param(FULL, id="full", marks=[pytest.mark.slow, pytest.mark.timeout(900)]),
]


class Feed:
    """Plain records into two topics, from a producer as any application has it.

    In the default topic the key is the channel, and payloads are text, JSON and binary in turn. In the other one the
    channel is made of a header and a field of the value, so each channel is fed by all partitions; now and then a
    record lacks the header and belongs to nobody.
    """

    def __init__(self, kafka: Kafka, topic: str, scale: Scale) -> None:
        self._producer = Producer({**kafka.client, "log_level": 2})
        self._topic = topic
        self._scale = scale
        made = len(REGIONS) * len(KINDS)
        self.keyed = [f"{topic}:{number}" for number in range(scale.channels - made)]
        self.channels = [*self.keyed, *(f"{topic}:{region}:{kind}" for region in REGIONS for kind in KINDS)]
        self.produced = 0
        self.may_end = asyncio.Event()
        """Set it, or the last tenth is not produced."""

    @property
    def rule(self) -> str:
        return f"{self._topic}={self._topic}:#{{header.region}}:#{{value.kind}}"

    @property
    def routes(self) -> dict[str, Route]:
        """The same rules in the test's own words."""
        return {MESSAGES: self._by_key, self._topic: self._by_content}

    def _by_key(self, record: Record) -> str | None:
        key = (record.key or b"").decode()
        return key if key.startswith(f"{self._topic}:") else None  # the topic is shared with other tests

    def _by_content(self, record: Record) -> str | None:
        region = dict(record.headers or ()).get("region")
        return f"{self._topic}:{region.decode()}:{json.loads(record.value or b'')['kind']}" if region else None

    async def run(self) -> None:
        """Produces all records, at an even pace."""
        step = math.ceil(self._scale.records * TICK_S / self._scale.seconds)
        while self.produced < self._scale.records:
            for number in range(self.produced, min(self.produced + step, self._scale.records)):
                self._produce(number)
            self.produced = min(self.produced + step, self._scale.records)
            self._producer.poll(0)
            if self.produced > 0.9 * self._scale.records:
                await self.may_end.wait()
            await asyncio.sleep(TICK_S)
        assert await asyncio.to_thread(self._producer.flush, 30) == 0

    def _produce(self, number: int) -> None:
        channel = number % len(self.channels)
        if channel < len(self.keyed):
            value = (f"text {number}", f'{{"n":{number}}}', b"\xff\x00" + number.to_bytes(4, "big"))[number // 7 % 3]
            self._producer.produce(MESSAGES, value, self.keyed[channel])
            return
        region, kind = divmod(channel - len(self.keyed), len(KINDS))
        headers: dict[str, str | bytes | None] = {"region": REGIONS[region]} if number % 11 else {}
        self._producer.produce(
            self._topic, f'{{"kind":"{KINDS[kind]}","n":{number}}}', f"customer{number % 23}", headers=headers
        )

    async def reached(self, share: float) -> None:
        """Waits until that much is produced."""
        while self.produced < share * self._scale.records:  # noqa: ASYNC110  a tick is precise enough
            await asyncio.sleep(TICK_S)


async def suffer(node: NodeProcess, proxy: Proxy, feed: Feed, members: list[Member]) -> None:
    """The faults, spread over the feed; each finds every client connected."""
    await feed.reached(0.2)
    proxy.cut()
    await all_connected(members)
    await feed.reached(0.4)
    await node.kill()
    await node.start()
    await all_connected(members)
    await feed.reached(0.7)
    proxy.cut()
    await all_connected(members)


async def all_connected(members: list[Member]) -> None:
    await asyncio.sleep(0.5)  # until every SDK has noticed that its socket is gone
    await asyncio.gather(*(member.client.await_connected() for member in members))


async def publish_meanwhile(member: Member, channel: str, feeding: "asyncio.Task[None]") -> None:
    """Publishes in small bursts for as long as the feed runs, and one burst more."""
    for burst in itertools.count():
        last = feeding.done()
        await member.publish(channel, [f"{member.name} {burst}.{number}" for number in range(5)])
        if last:
            return
        await asyncio.sleep(TICK_S)


async def assert_exact(member: Member, log: Expected) -> int:
    """The member has seen each of its channels exactly as the log has it; returns how many messages that were."""
    for channel in member.channels:
        entries = log.channels.get(channel, [])
        await member.client.await_count(channel, len(entries))
        view = View.of(await member.client.seen(channel))
        verdict = Judge(channel, entries, view.catalogue).check(view)
        assert verdict.exact, f"{member.name}: {verdict}"
        first, *others = await member.client.continuity(channel)
        assert not first, "the channel was new to it"
        assert all(others), f"{member.name} lost {channel}: {others}"
    return sum(len(log.channels.get(channel, ())) for channel in member.channels)


def what_the_log_says(kafka: Kafka, routes: dict[str, Route]) -> Expected:
    log = KafkaLog(kafka.client, list(routes), whole=True)
    try:
        return expect(log.read(), routes)
    finally:
        log.close()


def assert_published_once(member: Member, entries: list[Entry]) -> None:
    """What the member published is in the topic once, in its order, under its name, where the ACKs say.

    What an SDK raised an error for, when its socket broke, may be there as well: the SDK sends it again, or not.
    """
    serials = dict(member.published)
    texts = [entry.message.text for entry in entries]
    assert len(set(texts)) == len(texts)
    assert set(texts) <= serials.keys()
    assert [text for text in texts if serials[text]] == [text for text, serial in member.published if serial]
    for entry in entries:
        record = entry.record
        assert serials[entry.message.text] in (None, message_serial(record.topic, record.partition, record.offset))
        headers = dict(record.headers or ())
        assert headers["fanout.name"] == b"note"
        assert headers["fanout.type"] == b"text"
        connection = headers["fanout.connectionId"]
        assert connection
        assert entry.message.id.startswith(connection.decode() + ":")


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as stack:
        yield stack


@pytest.mark.kafka
@pytest.mark.node
@pytest.mark.browser
@pytest.mark.parametrize("faults", [False, True], ids=["calm", "faults"])
@pytest.mark.parametrize("scale", SCALES)
async def test_every_client_sees_exactly_its_channels(
    scale: Scale, faults: bool, kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path, stack: AsyncExitStack
) -> None:
    feed = Feed(kafka, kafka_topic(3), scale)
    node = await stack.enter_async_context(node_process(tmp_path, "--kafka", kafka.bootstrap, "--route", feed.rule))
    proxy = await stack.enter_async_context(proxy_to(node.port))
    counts = {"raw": scale.raw, "node": scale.node, "browser": scale.browser, "python": scale.python}
    members = await stack.enter_async_context(crowd(proxy.port, **counts))
    publishers = [next(member for member in members if member.name.startswith(kind)) for kind in counts]
    own = {member.name: f"{feed.channels[0]}:by:{member.name}" for member in publishers}
    channels = [*feed.channels, *own.values()]
    for number, member in enumerate(members):
        for channel in channels[number % scale.share :: scale.share]:
            await member.attach(channel)

    feeding = asyncio.create_task(feed.run())
    async with asyncio.TaskGroup() as under_way:
        for member in publishers:
            under_way.create_task(publish_meanwhile(member, own[member.name], feeding))
        if faults:
            await suffer(node, proxy, feed, members)
        feed.may_end.set()
    await feeding

    log = await asyncio.to_thread(what_the_log_says, kafka, feed.routes)
    assert sum(len(log.channels[channel]) for channel in feed.channels) > 0.9 * scale.records
    assert log.repeated == []
    for member in publishers:
        assert_published_once(member, log.channels[own[member.name]])
    seen = [await assert_exact(member, log) for member in members]
    published = sum(len(member.published) for member in publishers)
    logger.info("%d records and %d publishes were seen %d times", scale.records, published, sum(seen))
    assert proxy.connections >= len(members) * (4 if faults else 1)


@pytest.mark.kafka
async def test_a_publish_is_acknowledged_after_the_log_has_it(kafka: Kafka, tmp_path: Path) -> None:
    async with node_process(tmp_path, "--kafka", kafka.bootstrap) as node:
        consumer = Consumer({**kafka.client, "group.id": "witness", "log_level": 2})
        partitions = [TopicPartition(MESSAGES, number) for number in range(6)]
        client = await RawClient(node.port, KEY).connect()
        for number in range(30):
            (serial,) = await client.publish(f"acknowledged:{number}", {"data": "x"})
            ends = [consumer.get_watermark_offsets(partition, timeout=5)[1] for partition in partitions]
            newest = {message_serial(MESSAGES, number, end - 1) for number, end in enumerate(ends)}
            assert serial in newest, "nobody else publishes: what is acknowledged is the newest of its partition"
        consumer.close()
        await client.close()
