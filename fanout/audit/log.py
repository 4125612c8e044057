"""The log itself, read by readers that are no node's: what a topic got while an audit ran.

Blocking calls: for a thread of their own.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol

from confluent_kafka import Consumer, KafkaException, TopicPartition

from fanout._core import headers_of
from fanout.errors import SourceError
from fanout.sources.embedded_store import DATABASE, Reader
from fanout.types import Record

__all__ = ["EmbeddedLog", "KafkaLog", "Log"]

ANSWER_S: Final = 30.0  # for one request, and for the next record
BATCH: Final = 10_000

Where = tuple[str, int]  # topic, partition


class Log(Protocol):
    """Topics from some place on."""

    def read(self) -> Iterator[Record]:
        """All records from there to where the topics end now, each partition in order. Raises SourceError."""

    def close(self) -> None:
        """Frees the connection."""


class KafkaLog:
    """Topics of Kafka: what committed records they get from now on, or have had ever."""

    def __init__(self, settings: Mapping[str, Any], topics: Sequence[str], *, whole: bool = False) -> None:
        """`settings` are librdkafka's. Begins where each topic ends now; at its earliest record if it is to be read
        `whole`. Raises SourceError.
        """
        fixed = {"group.id": "fanout-audit", "enable.auto.commit": False, "auto.offset.reset": "error", "log_level": 2}
        self._topics = topics
        try:
            self._consumer = Consumer({**settings, **fixed})
            self._starts = {where: low if whole else high for where, (low, high) in self._bounds().items()}
        except KafkaException as problem:
            raise SourceError(f"Kafka refuses: {problem.args[0].str()}") from problem

    def read(self) -> Iterator[Record]:
        """See `Log.read`."""
        try:
            yield from self._read()
        except KafkaException as problem:
            raise SourceError(f"Kafka refuses: {problem.args[0].str()}") from problem

    def close(self) -> None:
        """Frees the connection."""
        self._consumer.close()

    def _bounds(self) -> dict[Where, tuple[int, int]]:
        found: dict[Where, tuple[int, int]] = {}
        for topic in self._topics:
            told = self._consumer.list_topics(topic, timeout=ANSWER_S).topics[topic]
            if told.error is not None:
                raise SourceError(f"topic {topic!r} cannot be read: {told.error.str()}")
            for partition in told.partitions:
                bounds = self._consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=ANSWER_S)
                if bounds is None:
                    raise SourceError(f"topic {topic!r}, partition {partition}: Kafka does not answer")
                found[topic, partition] = bounds
        return found

    def _read(self) -> Iterator[Record]:
        bounds = self._bounds()
        ends = {where: high for where, (low, high) in bounds.items() if self._starts.get(where, low) < high}
        places = [TopicPartition(*where, self._starts.get(where, bounds[where][0])) for where in ends]
        self._consumer.assign(places)
        while any(at.offset < ends[at.topic, at.partition] for at in self._consumer.position(places)):
            first = self._consumer.poll(ANSWER_S)
            if first is None:
                raise SourceError("Kafka has records that it does not give")
            for message in [first, *self._consumer.consume(BATCH, 0)]:
                if (error := message.error()) is not None:
                    raise SourceError(f"Kafka does not give its records: {error.str()}")
                yield _record(message)
        self._consumer.unassign()


class EmbeddedLog:
    """A topic of an embedded log, beside the node that writes it."""

    def __init__(self, directory: Path, topic: str) -> None:
        """Begins where the topic ends now. Raises SourceError."""
        self._directory = directory
        self._topic = topic
        if not (directory / DATABASE).is_file():
            raise SourceError(f"there is no log in {directory}; give the --data of the node")
        try:
            self._reader = Reader(directory)
            self._start = self._reader.end(topic)
        except (sqlite3.Error, SourceError) as problem:
            raise SourceError(f"the log in {directory} cannot be read: {problem}") from problem
        except KeyError:
            raise SourceError(f"the log in {directory} has no topic {topic!r}") from None

    def read(self) -> Iterator[Record]:
        """See `Log.read`."""
        try:
            place, end = self._start, self._reader.end(self._topic)
            while place < end:
                part = self._reader.slice(self._topic, place, end)
                yield from part.records
                place = part.next
        except sqlite3.Error as problem:
            raise SourceError(f"the log in {self._directory} cannot be read: {problem}") from problem

    def close(self) -> None:
        """Frees the connection."""
        self._reader.close()


def _record(message: Any) -> Record:
    place = (message.topic(), message.partition(), message.offset(), message.leader_epoch() or 0)
    return Record(*place, message.timestamp()[1], message.key(), message.value(), headers_of(message))
