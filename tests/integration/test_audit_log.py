"""The audit's own readers of the log, against a log that others write."""

import asyncio
from pathlib import Path

import pytest

from fanout.audit.log import EmbeddedLog, KafkaLog
from fanout.errors import SourceError
from fanout.sources.base import NewRecord
from fanout.sources.embedded_store import Writer
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.kafka_log import transactional, write


def append(writer: Writer, *values: bytes) -> None:
    writer.write([[NewRecord("t", b"c", value, [("h", b"1")]) for value in values]])


class TestEmbedded:
    def test_what_came_since_is_read_beside_the_writer(self, tmp_path: Path) -> None:
        writer = Writer(tmp_path)
        writer.topic("t")
        append(writer, b"before")
        log = EmbeddedLog(tmp_path, "t")
        assert list(log.read()) == []
        append(writer, *(str(number).encode() for number in range(1_500)))
        assert [int(record.value or b"") for record in log.read()] == list(range(1_500))
        first = next(log.read())
        assert (first.topic, first.partition, first.offset, first.key, first.headers) == (
            "t",
            0,
            1,
            b"c",
            [("h", b"1")],
        )
        log.close()
        writer.close()

    def test_where_there_is_no_log_none_is_made(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="there is no log"):
            EmbeddedLog(tmp_path, "t")
        assert list(tmp_path.iterdir()) == []

    def test_a_topic_that_the_log_does_not_have_is_refused(self, tmp_path: Path) -> None:
        Writer(tmp_path).close()
        with pytest.raises(SourceError, match="has no topic 't'"):
            EmbeddedLog(tmp_path, "t")


@pytest.mark.kafka
class TestKafka:
    async def test_what_came_since_is_read_committed_and_no_more(
        self, kafka: Kafka, kafka_topic: NewKafkaTopic
    ) -> None:
        topic = kafka_topic(2)
        write(kafka, topic, "before")
        log, whole = KafkaLog(kafka.client, [topic]), KafkaLog(kafka.client, [topic], whole=True)
        assert await asyncio.to_thread(lambda: list(log.read())) == []
        write(kafka, topic, "a", "b", partition=1, key=b"k")
        producer = transactional(kafka)
        producer.begin_transaction()
        producer.produce(topic, b"never", partition=1)
        producer.abort_transaction(10)
        found = await asyncio.to_thread(lambda: list(log.read()))
        assert [(one.partition, one.key, one.value) for one in found] == [(1, b"k", b"a"), (1, b"k", b"b")]
        everything = await asyncio.to_thread(lambda: list(whole.read()))
        assert sorted(one.value or b"" for one in everything) == [b"a", b"b", b"before"]
        log.close()
        whole.close()

    def test_a_topic_that_is_not_there_is_refused(self, kafka: Kafka) -> None:
        with pytest.raises(SourceError, match="cannot be read"):
            KafkaLog(kafka.client, ["never-made"])
