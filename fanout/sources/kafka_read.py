"""Reading back from Kafka: ranges of offsets, each on a handle that does nothing else meanwhile.

Rules:

- On a handle that waits at the end of a partition every request waits too, so these are not the reader's, and wait for
  10 ms at most. They fetch little ahead: what is left of it when a range has been read is lost.
- Offsets have gaps (transaction markers, aborted and compacted records). A range is read when a record behind it or the
  end of the partition has been seen.
- Who leads since a moment ago may answer a fetch with an end below what has been acknowledged, until the others have
  reported to it. Asked for its end it waits for that (KIP-207): so it is asked, before a range is said to end where it
  begins.
- What retention has taken is no error: reading begins at the earliest offset there is. Where it has passed the reader
  in the middle of a range, that ends before the hole.
- A leader that is away is waited for, until the errand ends.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeVar

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from fanout.errors import SourceError
from fanout.sources.base import LIMITS, Slice
from fanout.sources.reads import Errand, Where

__all__ = ["ALL", "READER", "UNPACKED_MAX", "find_bounds", "find_since", "read_range"]

UNPACKED_MAX: Final = 300_000_000  # what a batch is unpacked into begins small and triples: enough for any of 100 MB
READER: Final[Mapping[str, Any]] = {
    "fetch.wait.max.ms": 10,
    "fetch.queue.backoff.ms": 1,  # a range ends with a full queue, and the next would wait for the default, 1 s
    "fetch.message.max.bytes": 1 << 20,
    "queued.min.messages": LIMITS.slice_records,
    "queued.max.messages.kbytes": 4096,
    "receive.message.max.bytes": UNPACKED_MAX,
    "enable.partition.eof": True,
}
LOOK_S: Final = 0.1  # between two looks at the errand
REQUEST_S: Final = 1.0  # for one request, which is not given up before
ALL: Final = -1  # in the place of a partition's number, where they are asked together

# What waiting mends, by the client library's names.
_AWAY: Final = {
    "_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE", "_WAIT_COORD",
    "LEADER_NOT_AVAILABLE", "NOT_LEADER_FOR_PARTITION", "OFFSET_NOT_AVAILABLE",
}  # fmt: skip

T = TypeVar("T")


def find_bounds(
    consumer: Consumer, topic: str, partitions: Sequence[int], errand: Errand
) -> dict[int, tuple[int, int]]:
    """See `Source.bounds`. Committed records count."""
    return {partition: _bounds(consumer, topic, partition, errand) for partition in partitions}


def find_since(
    consumer: Consumer, topic: str, partitions: Sequence[int], timestamp: int, errand: Errand
) -> dict[int, int]:
    """See `Source.since`."""
    if not partitions:
        return {}
    since = max(timestamp, 0)  # by others Kafka means places, or nothing
    asked = [TopicPartition(topic, partition, since) for partition in partitions]
    where = (topic, partitions[0] if len(partitions) == 1 else ALL)
    found = _asked(errand, where, lambda: consumer.offsets_for_times(asked, timeout=REQUEST_S))
    return {
        where.partition: where.offset if where.offset >= 0 else _bounds(consumer, topic, where.partition, errand)[1]
        for where in found
    }


def read_range(consumer: Consumer, topic: str, partition: int, start: int, stop: int, errand: Errand) -> Slice:
    """See `Source.read`. Raises SourceTimeout when the errand is over, SourceError for what waiting does not mend."""
    if start >= stop:
        return Slice([], start)
    reading = _Range(consumer, TopicPartition(topic, partition, start), stop)
    consumer.assign([reading.where])
    reading.read(errand)
    consumer.unassign()
    return Slice(reading.records, min(reading.next, stop))


def _bounds(consumer: Consumer, topic: str, partition: int, errand: Errand) -> tuple[int, int]:
    where = TopicPartition(topic, partition)
    return _asked(errand, (topic, partition), lambda: consumer.get_watermark_offsets(where, timeout=REQUEST_S))


def _asked(errand: Errand, where: Where, ask: Callable[[], T | None]) -> T:
    """What Kafka answers, which is asked until the errand ends. Raises SourceError for what waiting does not mend."""
    errand.asks(where)
    while True:
        errand.check()
        try:
            if (found := ask()) is not None:
                return found
        except KafkaException as error:
            if error.args[0].name() not in _AWAY:
                raise SourceError(f"Kafka refuses: {error.args[0].str()}") from error
            time.sleep(LOOK_S)


class _Range:
    """One range while it is read."""

    def __init__(self, consumer: Consumer, where: TopicPartition, stop: int) -> None:
        self.where = where
        self.records: list[Message[bytes, bytes]] = []
        self.next = where.offset
        self._consumer = consumer
        self._stop = stop
        self._bytes = 0

    def read(self, errand: Errand) -> None:
        where = (self.where.topic, self.where.partition)
        errand.asks(where)
        while self.next < self._stop:
            errand.check()
            first = self._consumer.poll(LOOK_S)
            if first is None:
                continue
            errand.asks(where)
            room = LIMITS.slice_records - len(self.records) - 1
            batch = [first, *self._consumer.consume(room, 0)] if room else [first]
            if any(self._is_last(message, errand) for message in batch):
                return

    def _is_last(self, message: "Message[bytes, bytes]", errand: Errand) -> bool:
        """Takes a record or an error in the place of one; whether no more is to be taken."""
        error, offset = message.error(), message.offset()
        if error is not None:
            return self._is_end(error.name(), error.str(), offset, errand)
        if offset is None or offset >= self._stop:
            self.next = self._stop
            return True
        self.records.append(message)
        self.next = offset + 1
        self._bytes += len(message)
        return self._bytes >= LIMITS.slice_bytes or len(self.records) == LIMITS.slice_records

    def _is_end(self, name: str, text: str, offset: int | None, errand: Errand) -> bool:
        if name == "_PARTITION_EOF":
            self.next = max(self.next, offset or 0)
            is_on = self.next > self.where.offset or self.next >= self._stop
            return is_on or self._bounds(errand)[1] <= self.next
        if name == "_AUTO_OFFSET_RESET":
            if self.records:  # there is a hole behind them: who reads on begins at it, and sees it
                return True
            earliest, _ = self._bounds(errand)
            if earliest <= self.next:  # it lies behind the end
                return True
            self.next = earliest
            self._consumer.assign([TopicPartition(self.where.topic, self.where.partition, earliest)])
            return False
        if name in ("UNKNOWN_TOPIC_OR_PART", "_UNKNOWN_PARTITION", "_UNKNOWN_TOPIC", "TOPIC_AUTHORIZATION_FAILED"):
            raise SourceError(f"topic {self.where.topic!r}, partition {self.where.partition} cannot be read: {text}")
        return False  # a broker that is away, or no longer leads: the client looks for the next

    def _bounds(self, errand: Errand) -> tuple[int, int]:
        return _bounds(self._consumer, self.where.topic, self.where.partition, errand)
