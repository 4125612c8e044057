"""A log in memory that an engine reads and history looks back into."""

from collections.abc import Collection
from dataclasses import dataclass, field

from fanout._core import Engine
from fanout.errors import SourceError
from fanout.rules.route import Rule
from fanout.sources.base import LIMITS, Slice
from fanout.types import Record

TOPIC = "t"


@dataclass
class MemoryLog:
    """Partitions of records, each from its earliest offset on; the half of a source that looks back."""

    partitions: dict[int, list[Record]] = field(default_factory=dict)
    earliest: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    reads: int = 0
    offsets_read: int = 0
    failure: SourceError | None = None
    absent: set[int] = field(default_factory=set)  # partitions that cannot be asked for

    def put(
        self,
        key: str,
        value: str,
        *,
        partition: int = 0,
        timestamp: int | None = None,
        message_id: str | None = None,
        gap: int = 0,
        epoch: int = -1,
    ) -> Record:
        """Appends a record, after `gap` offsets without one, in that leader epoch."""
        offset = self.ends.get(partition, 0) + gap
        headers = [("fanout.id", message_id.encode()), ("fanout.type", b"text")] if message_id else None
        at = timestamp if timestamp is not None else 1_000_000 + offset
        record = Record(TOPIC, partition, offset, epoch, at, key.encode(), value.encode(), headers)
        self.partitions.setdefault(partition, []).append(record)
        self.ends[partition] = offset + 1
        return record

    def expire(self, partition: int, before: int) -> None:
        """Retention has taken everything below that offset."""
        self.earliest[partition] = before
        self.partitions[partition] = [r for r in self.partitions.get(partition, []) if r.offset >= before]

    def cut(self, partition: int, end: int) -> None:
        """Everything from there on is gone, as after an unclean election."""
        self.ends[partition] = end
        self.partitions[partition] = [r for r in self.partitions[partition] if r.offset < end]

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        if self.failure:
            raise self.failure
        self.reads += 1
        self.offsets_read += stop - start
        found = [r for r in self.partitions.get(partition, []) if start <= r.offset < stop][: LIMITS.slice_records]
        return Slice(found, found[-1].offset + 1 if len(found) == LIMITS.slice_records else stop)

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        if self.failure:
            raise self.failure
        return {number: (self.earliest.get(number, 0), end) for number, end in self._ends(partitions)}

    async def since(self, topic: str, timestamp: int, partitions: Collection[int] | None = None) -> dict[int, int]:
        return {
            number: next((r.offset for r in self.partitions.get(number, []) if r.timestamp >= timestamp), end)
            for number, end in self._ends(partitions)
        }

    def _ends(self, partitions: Collection[int] | None) -> list[tuple[int, int]]:
        asked = self.ends if partitions is None else partitions
        return [(number, self.ends.get(number, 0)) for number in asked if number not in self.absent]


class LogNode:
    """An engine over such a log, of the rule `t=#{key}`."""

    def __init__(
        self,
        log: MemoryLog,
        *,
        starts: dict[int, int],
        secret: bytes = b"0123456789abcdef",
        history_bytes: int = 512 << 20,
    ) -> None:
        """Reads each partition from its place in `starts` on."""
        self.log = log
        self.engine = Engine(io_threads=0, secret=secret, history_bytes=history_bytes)
        self.engine.rules([Rule(TOPIC, "#{key}")])
        self.next = dict(starts)
        for number, start in starts.items():
            self.engine.partition(TOPIC, b"the id of topic.", number, start)

    def read_on(self) -> None:
        """Takes all that the log has, as much at a time as a source delivers."""
        for number, start in self.next.items():
            records = [r for r in self.log.partitions.get(number, []) if r.offset >= start]
            for at in range(0, len(records), LIMITS.read_batch):
                self.engine.records(records[at : at + LIMITS.read_batch])
            self.next[number] = self.log.ends.get(number, start)
            self.engine.progress(TOPIC, number, self.next[number])
