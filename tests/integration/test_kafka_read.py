"""What is hard about reading Kafka back: gaps, what retention took, brokers that are away or change their roles."""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence

import pytest
from confluent_kafka.admin import AdminClient

from fanout.errors import SourceError, SourceTimeout
from fanout.sources import kafka_read, reads
from fanout.sources.base import LIMITS
from fanout.sources.kafka import KafkaSource
from tests.support.broker import Kafka, running
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.kafka_log import delete_until, transactional, write
from tests.support.sources import RecordingSink, append, eventually, read_all, record

pytestmark = pytest.mark.kafka

HOUR_MS = 3_600_000


async def reading(kafka: Kafka, *topics: str) -> KafkaSource:
    source, sink = KafkaSource(kafka.client, partitions=1), RecordingSink()
    await source.start(sink, topics, HOUR_MS)
    await eventually(lambda: sink.is_ready)
    return source


@pytest.fixture
async def source(kafka: Kafka, topic: str) -> AsyncIterator[KafkaSource]:
    source = await reading(kafka, topic)
    yield source
    await source.stop()


@pytest.fixture
def topic(kafka_topic: NewKafkaTopic) -> str:
    return kafka_topic()


def values(found: Sequence[object]) -> list[bytes]:
    return [record.value for record in found]  # type: ignore[attr-defined]


async def test_markers_and_aborted_records_are_passed(kafka: Kafka, topic: str, source: KafkaSource) -> None:
    producer = transactional(kafka)
    for value, commit in ((b"a", True), (b"aborted", False), (b"b", True), (b"aborted", False)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(10)
        if commit:
            producer.commit_transaction(15)
        else:
            producer.abort_transaction(15)
    assert await source.bounds(topic) == {0: (0, 8)}
    assert values(await read_all(source, topic, 0, 8)) == [b"a", b"b"]
    for start, stop, expected in [(1, 5, [b"b"]), (2, 4, []), (5, 8, []), (7, 8, [])]:
        assert values(await read_all(source, topic, start, stop)) == expected


async def test_an_open_transaction_is_the_end(kafka: Kafka, topic: str, source: KafkaSource) -> None:
    write(kafka, topic, "before")
    producer = transactional(kafka)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    producer.flush(10)
    write(kafka, topic, "behind")
    assert await source.bounds(topic) == {0: (0, 1)}
    part = await source.read(topic, 0, 0, 3)
    assert (len(part.records), part.next) == (1, 1)
    producer.commit_transaction(15)


async def test_what_retention_took_is_passed(kafka: Kafka, topic: str, source: KafkaSource) -> None:
    write(kafka, topic, *"012345")
    await asyncio.to_thread(delete_until, kafka, topic, 4)
    assert await source.bounds(topic) == {0: (4, 6)}
    assert values(await read_all(source, topic, 1, 6)) == [b"4", b"5"]
    part = await source.read(topic, 0, 0, 3)
    assert (len(part.records), part.next) == (0, 3)


async def test_many_ranges_of_many_partitions(kafka: Kafka, kafka_topic: NewKafkaTopic) -> None:
    topic = kafka_topic(partitions=3)
    for partition in range(3):
        write(kafka, topic, *(f"{partition}.{number}" for number in range(50)), partition=partition)
    source = await reading(kafka, topic)
    asked = [(partition, start) for partition in range(3) for start in range(0, 50, 5)]
    found = await asyncio.gather(*(read_all(source, topic, start, start + 5, p) for p, start in asked))
    for (partition, start), records in zip(asked, found, strict=True):
        assert values(records) == [b"%d.%d" % (partition, number) for number in range(start, start + 5)]
    await source.stop()


async def test_reading_back_takes_nothing_from_what_is_delivered(kafka: Kafka, topic: str) -> None:
    source, sink = KafkaSource(kafka.client, partitions=1), RecordingSink()
    await source.start(sink, [topic], HOUR_MS)
    await eventually(lambda: sink.is_ready)
    for number in range(30):
        await append(source, record(topic, b"%d" % number))
        await source.read(topic, 0, 0, number + 1)
    await eventually(lambda: len(sink.delivered) == 30)
    assert sink.values(topic) == [b"%d" % number for number in range(30)]
    await source.stop()


async def test_a_broker_that_is_away_ends_in_a_timeout_and_then_all_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with running() as shaky:
        await away(shaky, monkeypatch)


async def away(shaky: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    source = await reading(shaky, "away")
    await append(source, *(record("away", b"%d" % number) for number in range(10)))
    monkeypatch.setattr(reads, "READ_S", 2.0)
    monkeypatch.setattr(kafka_read, "REQUEST_S", 1.0)
    shaky.pause()
    began = time.monotonic()
    try:
        outcomes = await asyncio.gather(
            source.read("away", 0, 0, 10),
            source.bounds("away"),
            source.since("away", 0),
            source.read("away", 0, 5, 9),
            return_exceptions=True,
        )
    finally:
        shaky.resume()
    assert all(isinstance(outcome, SourceTimeout) for outcome in outcomes)
    assert time.monotonic() - began < 10
    monkeypatch.undo()
    await eventually(lambda: source.health().ok)
    assert len(await read_all(source, "away", 0, 10)) == 10
    await source.stop()


async def test_a_leader_that_dies_is_followed_by_the_next() -> None:
    with running(3) as shaky:
        source = await reading(shaky, "led")
        try:
            await led(shaky, source)
        finally:
            await source.stop()


async def led(shaky: Kafka, source: KafkaSource) -> None:
    await append(source, *(record("led", b"%d" % number) for number in range(2 * LIMITS.slice_records)))
    expected = [b"%d" % number for number in range(2 * LIMITS.slice_records)]
    assert values(await read_all(source, "led", 0, 10)) == expected[:10]
    topics = AdminClient(shaky.client).list_topics("led", timeout=10).topics
    shaky.kill(topics["led"].partitions[0].leader)
    assert values(await read_all(source, "led", 0, len(expected))) == expected
    assert await source.bounds("led") == {0: (0, len(expected))}


async def test_a_topic_that_is_none_is_told_at_once(kafka: Kafka, topic: str, source: KafkaSource) -> None:
    with pytest.raises(SourceError):
        await source.bounds("no-such-topic")
    with pytest.raises(SourceError):
        await asyncio.wait_for(source.read("no-such-topic", 0, 0, 1), reads.READ_S + 1)
