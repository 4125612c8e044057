"""What subscribers must have seen, from the log itself: read by a consumer of its own, routed by functions of the test.

Promised is the order of each partition, and every record once. So a channel's messages are compared partition by
partition; how those of several partitions mix is not anybody's promise. Messages are known by their ids, and their
payloads are compared as text.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from tests.support.broker import Kafka
from tests.support.wsclient import Received

__all__ = ["Entry", "Log", "LogRecord", "Route", "Verdict", "check", "read_log"]

READ_S = 30


class LogRecord(NamedTuple):
    """One record as the consumer of the tests read it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: dict[str, bytes | None]


Route = Callable[[LogRecord], str | None]


class Entry(NamedTuple):
    """One message that a channel's subscribers must see."""

    partition: tuple[str, int]
    message: Received
    record: LogRecord


@dataclass(slots=True)
class Log:
    """What the log holds: the messages of each channel in the log's order, and records whose id came before."""

    channels: dict[str, list[Entry]] = field(default_factory=dict)
    repeated: list[LogRecord] = field(default_factory=list)

    def texts(self, channel: str) -> list[str]:
        """The payloads of a channel's messages."""
        return [entry.message.text for entry in self.channels.get(channel, ())]


def read_log(kafka: Kafka, routes: Mapping[str, Route]) -> Log:
    """Reads each topic from its beginning to where it ends now. Blocks."""
    consumer = Consumer({**kafka.client, "group.id": "checker", "auto.offset.reset": "error", "log_level": 2})
    log = Log()
    seen: set[tuple[str, str]] = set()
    for record in _records(consumer, AdminClient(kafka.client), routes):
        channel = routes[record.topic](record)
        if channel is None:
            continue
        message = _message(record)
        if (channel, message.id) in seen:
            log.repeated.append(record)
            continue
        seen.add((channel, message.id))
        entry = Entry((record.topic, record.partition), message, record)
        log.channels.setdefault(channel, []).append(entry)
    consumer.close()
    return log


def _records(consumer: Consumer, admin: AdminClient, topics: Iterable[str]) -> Iterable[LogRecord]:
    places, ends = [], {}
    for topic in topics:
        for number in admin.list_topics(topic, timeout=READ_S).topics[topic].partitions:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=READ_S)
            if low < high:
                places.append(TopicPartition(topic, number, low))
                ends[topic, number] = high
    consumer.assign(places)
    while any(at.offset < ends[at.topic, at.partition] for at in consumer.position(places)):
        first = consumer.poll(READ_S)
        for message in [first, *consumer.consume(10_000, 0)] if first else ():
            if error := message.error():
                raise RuntimeError(error.str())
            place = (message.topic(), message.partition(), message.offset())
            fields: Any = (*place, message.key(), message.value(), dict(message.headers() or ()))
            yield LogRecord(*fields)  # a message without an error has them all


def _message(record: LogRecord) -> Received:
    given = record.headers.get("fanout.id")
    message_id = given.decode() if given is not None else f"{record.topic}:{record.partition}:{record.offset}"
    value = record.value or b""
    try:
        binary = record.headers.get("fanout.type") == b"binary"
        return Received(message_id, value.hex() if binary else value.decode())
    except UnicodeDecodeError:
        return Received(message_id, value.hex())


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one subscriber's view of one channel differs: how many, and the first of each kind with its index."""

    channel: str
    lost: tuple[int, Any]
    doubled: tuple[int, Any]
    reordered: tuple[int, Any]
    foreign: tuple[int, Any]
    altered: tuple[int, Any]

    @property
    def exact(self) -> bool:
        """Whether there is no difference."""
        return not any(count for count, _ in self._kinds().values())

    def _kinds(self) -> dict[str, tuple[int, Any]]:
        kinds = ("lost", "doubled", "reordered", "foreign", "altered")
        return {kind: getattr(self, kind) for kind in kinds}

    def __str__(self) -> str:
        kinds = [f"{count} {kind}, first {first}" for kind, (count, first) in self._kinds().items() if count]
        return f"{self.channel}: {'; '.join(kinds) or 'exact'}"


def check(channel: str, entries: Sequence[Entry], seen: Sequence[Received]) -> Verdict:
    """Compares what a subscriber saw with what the log says."""
    due = {entry.message.id: (index, entry) for index, entry in enumerate(entries)}
    times = Counter(message.id for message in seen)
    lost = [(index, entry.message) for index, entry in enumerate(entries) if entry.message.id not in times]
    first = set[str]()
    doubled, reordered, foreign, altered = [], [], [], []
    reached: dict[tuple[str, int], int] = {}
    for at, message in enumerate(seen):
        if message.id not in due:
            foreign.append((at, message))
        elif message.id in first:
            doubled.append((at, message))
        else:
            first.add(message.id)
            index, entry = due[message.id]
            if index < reached.get(entry.partition, -1):
                reordered.append((at, message))
            reached[entry.partition] = max(index, reached.get(entry.partition, -1))
            if message.text != entry.message.text:
                altered.append((at, message))
    kinds = (lost, doubled, reordered, foreign, altered)
    return Verdict(channel, *((len(kind), kind[0] if kind else None) for kind in kinds))
