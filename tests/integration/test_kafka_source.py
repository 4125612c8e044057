"""What only Kafka does to a source: transactions, lost positions, topics that change, brokers that go away."""

import asyncio
import logging
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewPartitions, NewTopic

from fanout.errors import ConfigError, SourceError, SourceTimeout
from fanout.sources.base import Record
from fanout.sources.kafka import KafkaSource
from fanout.sources.kafka_topics import GONE_S
from tests.support.broker import Kafka, free_ports, running
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.kafka_log import delete_until, make_anew, transactional, write
from tests.support.sources import RecordingSink, append, begin_append, eventually, record

pytestmark = pytest.mark.kafka

HOUR_MS = 3_600_000
Start = Callable[..., Awaitable[tuple[KafkaSource, RecordingSink]]]


@pytest.fixture
async def start(kafka: Kafka) -> AsyncIterator[Start]:
    """`await start(topic, ..., **settings)`: a source that reads them, and its sink; stopped after the test."""
    begun: list[tuple[KafkaSource, RecordingSink]] = []

    async def begin(*topics: str, **settings: str | int) -> tuple[KafkaSource, RecordingSink]:
        source = KafkaSource({**kafka.client, **{key.replace("_", "."): value for key, value in settings.items()}})
        sink = RecordingSink()
        begun.append((source, sink))
        await source.start(sink, topics, HOUR_MS)
        return source, sink

    yield begin
    for source, sink in begun:
        sink.gate.set()
        await source.stop()


@pytest.fixture(scope="module")
def shaky() -> Iterator[Kafka]:
    """A cluster of this file's own, to stop; every test leaves it running."""
    with running() as cluster:
        yield cluster


# -- transactions --


async def test_markers_and_aborted_records_are_passed(kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start) -> None:
    topic = kafka_topic()
    producer = transactional(kafka)
    for value, commit in ((b"a", True), (b"aborted", False), (b"b", True)):
        producer.begin_transaction()
        producer.produce(topic, value)
        producer.flush(10)
        if commit:
            producer.commit_transaction(15)
        else:
            producer.abort_transaction(15)
    _, sink = await start(topic)
    await eventually(lambda: sink.is_ready)
    assert [(r.offset, r.value) for r in sink.delivered] == [(0, b"a"), (4, b"b")]
    assert sink.progressed[topic, 0] == 6  # the last marker is at 5


async def test_a_log_of_nothing_but_aborted_records_becomes_ready(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start
) -> None:
    topic = kafka_topic()
    producer = transactional(kafka)
    producer.begin_transaction()
    producer.produce(topic, b"aborted")
    producer.flush(10)
    producer.abort_transaction(15)
    source, sink = await start(topic)
    await eventually(lambda: sink.is_ready)
    assert sink.delivered == []
    assert sink.progressed[topic, 0] == 2
    assert source.lag() == {(topic, 0): 0}


async def test_an_open_transaction_does_not_hold_up_ready(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start
) -> None:
    topic = kafka_topic()
    write(kafka, topic, "before")
    producer = transactional(kafka)
    producer.begin_transaction()
    producer.produce(topic, b"open")
    producer.flush(10)
    _, sink = await start(topic)
    await eventually(lambda: sink.is_ready)
    assert sink.values(topic) == [b"before"]
    producer.commit_transaction(15)
    await eventually(lambda: sink.values(topic) == [b"before", b"open"])


async def test_a_transaction_left_open_is_named_and_holds_up_its_partition_alone(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start
) -> None:
    topic = kafka_topic(2)
    source, sink = await start(topic)
    await eventually(lambda: sink.is_ready)
    producer = transactional(kafka)
    producer.begin_transaction()
    producer.produce(topic, b"open", partition=0)
    producer.flush(10)
    write(kafka, topic, "behind", partition=0)
    await eventually(lambda: source.health().held)
    (((name, partition), (seconds, reason)),) = source.health().held.items()
    assert (name, partition) == (topic, 0)
    assert seconds > 1
    assert "offset 0" in reason
    assert "transaction" in reason
    assert source.health().ok
    assert source.lag() == {(topic, 0): 2, (topic, 1): 0}
    write(kafka, topic, "beside", partition=1)
    await eventually(lambda: sink.values(topic, 1) == [b"beside"])
    assert sink.values(topic, 0) == []
    producer.commit_transaction(15)
    await eventually(lambda: sink.values(topic, 0) == [b"open", b"behind"])
    await eventually(lambda: not source.health().held, 5)


async def test_a_compacted_log_is_read_over_its_gaps(kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start) -> None:
    topic = kafka_topic(1, cleanup_policy="compact", segment_ms="100", min_cleanable_dirty_ratio="0.01")
    for value in "12345":
        write(kafka, topic, value, key=b"k")
        await asyncio.sleep(0.2)  # a segment for each; the last is never compacted
    offsets = list(range(5))
    deadline = time.monotonic() + 30
    while len(offsets) == 5:
        assert time.monotonic() < deadline
        await asyncio.sleep(1)  # the cleaner looks as often
        _, sink = await start(topic)
        await eventually(partial(getattr, sink, "is_ready"))
        offsets = [r.offset for r in sink.delivered]
    assert offsets == sorted(set(offsets))
    assert offsets[-1] == 4
    assert sink.progressed[topic, 0] == 5


# -- positions and topics that change --


async def test_a_position_that_retention_has_passed_goes_on_at_the_earliest(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    topic = kafka_topic()
    write(kafka, topic, *(f"{i}".ljust(1000) for i in range(300)))
    small = {"queued_max_messages_kbytes": 1, "queued_min_messages": 1, "fetch_message_max_bytes": 1000}
    source, sink = await start(topic, **small)
    sink.gate.clear()
    await eventually(lambda: sink.batches)
    delete_until(kafka, topic, 250)
    assert source.lag()[topic, 0] == 300
    sink.gate.set()
    await eventually(lambda: sink.delivered[-1].offset == 299)
    assert [at for _, _, _, at in sink.partitions] == [0, 250]
    offsets = [r.offset for r in sink.delivered]
    assert offsets == sorted(set(offsets))
    assert offsets[-50:] == list(range(250, 300))
    assert "is no more" in caplog.text
    await eventually(lambda: sink.is_ready)
    await eventually(lambda: source.health().ok)


async def test_new_partitions_are_read_from_their_beginning(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start
) -> None:
    topic = kafka_topic()
    _, sink = await start(topic)
    await eventually(lambda: sink.is_ready)
    admin = AdminClient(kafka.client)
    admin.create_partitions([NewPartitions(topic, 3)])[topic].result(15)
    await asyncio.sleep(0.5)
    write(kafka, topic, "at once", partition=2)
    await eventually(lambda: sink.values(topic, 2) == [b"at once"])
    assert sorted((p, at) for _, _, p, at in sink.partitions) == [(0, 0), (1, 0), (2, 0)]


async def test_a_topic_that_is_made_anew_is_read_from_its_beginning(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    topic = kafka_topic(2)
    write(kafka, topic, *"01234")
    source, sink = await start(topic)
    await eventually(lambda: sink.is_ready and sink.values(topic) == [b"0", b"1", b"2", b"3", b"4"])
    make_anew(kafka, topic, 1)
    write(kafka, topic, *"abc")
    await eventually(lambda: len(sink.partitions) == 3)
    await eventually(lambda: sink.values(topic)[-3:] == [b"a", b"b", b"c"])
    old, _, new = (topic_id for _, topic_id, _, _ in sink.partitions)
    assert old != new
    assert sink.partitions[-1][2:] == (0, 0)
    assert "made anew" in caplog.text
    assert source.lag().keys() == {(topic, 0)}
    (place,) = await append(source, record(topic, b"written on"))
    assert place.offset == 3
    await eventually(lambda: sink.values(topic)[-1] == b"written on")


async def test_missing_topics_are_made_and_bad_names_keep_nobody_from_reading(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start, caplog: pytest.LogCaptureFixture
) -> None:
    good, made, bad = kafka_topic(), f"made-{uuid.uuid4().hex}", "no topic!"
    write(kafka, good, "x")
    source, sink = await start(good, made, bad)
    await eventually(lambda: sink.values(good) == [b"x"])
    await eventually(lambda: len(sink.partitions) == 7)
    assert sorted(p for name, _, p, _ in sink.partitions if name == made) == [0, 1, 2, 3, 4, 5]
    await asyncio.sleep(3)
    assert not sink.is_ready
    assert bad in source.health().reason
    errors = [entry for entry in caplog.records if entry.levelno >= logging.ERROR]
    assert len(errors) == 1  # however often it was tried


async def test_a_topic_that_vanishes_is_not_made_again(kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start) -> None:
    topic = kafka_topic()
    source, sink = await start(topic)
    await eventually(lambda: sink.is_ready)
    admin = AdminClient(kafka.client)
    admin.delete_topics([topic])[topic].result(15)
    await eventually(lambda: not source.health().ok)
    assert topic in source.health().reason
    await asyncio.sleep(2)
    assert topic not in admin.list_topics(timeout=5).topics


async def test_a_topic_of_state_is_read_up_to_an_end_that_has_stood(
    kafka: Kafka, kafka_topic: NewKafkaTopic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fanout.sources.kafka_topics.STANDS_S", 5.0)
    state = kafka_topic()
    write(kafka, state, "1", key=b"a")
    source, sink = KafkaSource(kafka.client), RecordingSink()
    await source.start(sink, [], HOUR_MS, [state])
    await eventually(lambda: sink.values(state) == [b"1"])
    await asyncio.sleep(0.4)
    assert not sink.is_ready, "a broker that has just woken may know no better"
    write(kafka, state, "2", key=b"b")
    await eventually(lambda: sink.is_ready, 20)
    assert sink.before_ready == 2
    await source.stop()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("by_pattern", [False, True])
async def test_a_topic_that_vanishes_is_gone_after_a_while_and_told_of_anew_when_it_is_made_again(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start, *, by_pattern: bool
) -> None:
    topic, other = kafka_topic(), kafka_topic()
    source, sink = await start(f"^{topic}$" if by_pattern else topic, other)
    await eventually(lambda: sink.is_ready)
    admin, began = AdminClient(kafka.client), time.monotonic()
    admin.delete_topics([topic])[topic].result(15)
    await eventually(lambda: sink.gone_topics == [topic], 40)
    assert time.monotonic() - began > GONE_S
    assert await source.bounds(topic, [0]) == {}
    with pytest.raises(SourceError):
        await source.read(topic, 0, 0, 1)
    await asyncio.sleep(2)
    admin.create_topics([NewTopic(topic, 2)])[topic].result(15)
    await eventually(lambda: len([told for told in sink.topics if told[0] == topic]) == 2, 40)
    write(kafka, topic, "again")
    await eventually(lambda: sink.values(topic) == [b"again"])
    assert sink.gone_topics == [topic]
    assert (await source.bounds(topic)).keys() >= (await source.bounds(topic, [0, 1])).keys() == {0, 1}


async def test_reading_joins_no_group(kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start) -> None:
    _, sink = await start(kafka_topic())
    await eventually(lambda: sink.is_ready)
    admin = AdminClient(kafka.client)
    groups = admin.list_consumer_groups().result(15).valid
    assert "fanout" not in [group.group_id for group in groups]


# -- appending --


async def test_a_key_has_the_partition_that_java_gives_it(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start
) -> None:
    topic = kafka_topic(6)
    source, _ = await start(topic)
    hashes = {b"21": -973932308, b"foobar": -790332482, b"a-little-bit-long-string": -985981536}  # of Kafka's own tests
    places = await append(source, *(record(topic, b"x", key) for key in hashes))
    assert [place.partition for place in places] == [(value & 0x7FFFFFFF) % 6 for value in hashes.values()]


async def test_a_record_that_is_too_large_is_refused_alone(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start
) -> None:
    topic = kafka_topic()
    source, sink = await start(topic)
    outcome = await asyncio.wait_for(begin_append(source, record(topic, bytes(2 << 20))), 20)
    assert "too large" in str(outcome)
    await append(source, record(topic, b"x"))
    await eventually(lambda: sink.values(topic) == [b"x"])


# -- brokers that are away --


async def test_a_batch_that_cannot_be_unpacked_is_named_and_keeps_nobody_from_being_ready(
    kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start
) -> None:
    topic = kafka_topic(2)
    packing = {"compression.type": "zstd", "message.max.bytes": 20_000_000, "batch.size": 20_000_000}
    producer = Producer({**kafka.client, **packing})
    producer.produce(topic, b"x" * 10_000_000, partition=0)
    assert producer.flush(20) == 0
    write(kafka, topic, "beside", partition=1)
    _, reading = await start(topic)
    source, sink = await start(topic, receive_message_max_bytes=1_100_000, fetch_max_bytes=1_000_000)
    await eventually(lambda: sink.is_ready)
    assert (sink.values(topic, 0), sink.values(topic, 1)) == ([], [b"beside"])
    await eventually(lambda: (topic, 0) in source.health().held)
    assert source.health().ok
    assert "it cannot be read" in source.health().held[topic, 0].reason
    await eventually(lambda: reading.is_ready)
    assert reading.values(topic, 0) == [b"x" * 10_000_000], "a node with the default can"
    delete_until(kafka, topic, 1)
    write(kafka, topic, "behind", partition=0)
    await eventually(lambda: sink.values(topic, 0) == [b"behind"], 40)
    await eventually(lambda: not source.health().held)


async def test_without_a_broker_the_source_tries_on_and_appends_time_out(caplog: pytest.LogCaptureFixture) -> None:
    (port,) = free_ports(1)
    source, sink = KafkaSource({"bootstrap.servers": f"127.0.0.1:{port}"}), RecordingSink()
    await source.start(sink, ["t"], HOUR_MS)
    assert not source.health().ok
    outcome = await asyncio.wait_for(begin_append(source, record("t", b"x")), 15)
    assert isinstance(outcome, SourceTimeout)
    assert f"127.0.0.1:{port}" in source.health().reason
    assert "refused" in source.health().reason
    assert sink.calls == []
    began = time.monotonic()
    await source.stop()
    assert time.monotonic() - began < 3
    assert len([entry for entry in caplog.records if entry.levelno >= logging.ERROR]) == 1


async def test_reading_and_writing_go_on_when_the_broker_is_back(shaky: Kafka) -> None:
    source, sink = KafkaSource(shaky.client, partitions=1), RecordingSink()
    await source.start(sink, ["killed"], HOUR_MS)
    await eventually(lambda: sink.is_ready)
    await append(source, record("killed", b"1"))
    shaky.kill()
    await eventually(lambda: not source.health().ok)
    waiting = begin_append(source, record("killed", b"2"))
    await asyncio.to_thread(shaky.restart)
    await eventually(lambda: source.health().ok)
    outcome = await asyncio.wait_for(waiting, 15)  # in the log, or in time said to be unknown
    await append(source, record("killed", b"3"))
    await eventually(lambda: sink.values("killed")[-1] == b"3")
    assert sink.values("killed") == ([b"1", b"2", b"3"] if isinstance(outcome, list) else [b"1", b"3"])
    assert len(sink.partitions) == 1
    await source.stop()


async def test_a_frozen_broker_is_noticed(shaky: Kafka) -> None:
    source, sink = KafkaSource(shaky.client, partitions=1), RecordingSink()
    await source.start(sink, ["frozen"], HOUR_MS)
    await eventually(lambda: sink.is_ready)
    shaky.pause()
    try:
        await eventually(lambda: not source.health().ok)
    finally:
        shaky.resume()
    await eventually(lambda: source.health().ok)
    await append(source, record("frozen", b"x"))
    await eventually(lambda: sink.values("frozen") == [b"x"])
    await source.stop()


async def test_a_setting_that_is_none_is_a_config_error() -> None:
    source = KafkaSource({"bootstrap.servers": "127.0.0.1:1", "no.such.setting": "1"})
    with pytest.raises(ConfigError, match=r"no\.such\.setting"):
        await source.start(RecordingSink(), ["t"], HOUR_MS)


@pytest.mark.parametrize(
    "setting", ["group.id", "acks", "request.required.acks", "partitioner", "enable.partition.eof"]
)
async def test_a_setting_that_promises_rest_on_is_a_config_error(setting: str) -> None:
    source = KafkaSource({"bootstrap.servers": "127.0.0.1:1", setting: "1"})
    with pytest.raises(ConfigError, match=setting):
        await source.start(RecordingSink(), ["t"], HOUR_MS)


async def test_the_leader_epoch_reaches_the_sink(kafka: Kafka, kafka_topic: NewKafkaTopic, start: Start) -> None:
    topic = kafka_topic()
    write(kafka, topic, "x")
    _, sink = await start(topic)
    await eventually(lambda: sink.delivered)
    only: Record = sink.delivered[0]
    assert only.leader_epoch == 0
