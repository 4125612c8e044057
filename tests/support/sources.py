"""What tests of sources need: a sink that remembers, and appends to wait for."""

import asyncio
import resource
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from fanout.errors import SourceError
from fanout.sources.base import Appended, Health, NewRecord, Record, Sink, Slice, Source


class RecordingSink:
    """Remembers what it was given; `calls` has the names of the methods, in the order of the calls."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.threads: set[int] = set()
        self.topics: list[tuple[str, bytes, int]] = []
        self.gone_topics: list[str] = []
        self.caught: list[tuple[str, int]] = []
        self.left: list[tuple[str, int]] = []
        self.partitions: list[tuple[str, bytes, int, int]] = []
        self.batches: list[list[Record]] = []
        self.progressed: dict[tuple[str, int], int] = {}
        self.before_ready = 0  # records delivered before `ready`
        self.gate = threading.Event()  # `records` waits for it
        self.gate.set()

    @property
    def delivered(self) -> list[Record]:
        return [record for batch in list(self.batches) for record in batch]

    @property
    def is_ready(self) -> bool:
        return "ready" in self.calls

    def values(self, topic: str, partition: int = 0) -> list[bytes | None]:
        return [r.value for r in self.delivered if (r.topic, r.partition) == (topic, partition)]

    def topic(self, topic: str, topic_id: bytes, partitions: int, /) -> None:
        self._called("topic")
        self.topics.append((topic, topic_id, partitions))

    def gone(self, topic: str, /) -> None:
        self._called("gone")
        self.gone_topics.append(topic)

    def partition(self, topic: str, topic_id: bytes, partition: int, start: int, /) -> None:
        self._called("partition")
        self.partitions.append((topic, topic_id, partition, start))

    def caught_up(self, topic: str, partition: int, /) -> None:
        self._called("caught_up")
        self.caught.append((topic, partition))

    def let_go(self, topic: str, partition: int, /) -> None:
        self._called("let_go")
        self.left.append((topic, partition))

    def records(self, batch: Sequence[Any], /) -> None:
        self._called("records")
        self.batches.append([_plain(record) for record in batch])
        assert self.gate.wait(60)

    def progress(self, topic: str, partition: int, next_offset: int, /) -> None:
        self._called("progress")
        self.progressed[topic, partition] = next_offset

    def ready(self) -> None:
        self._called("ready")
        self.before_ready = len(self.delivered)

    def _called(self, name: str) -> None:
        self.calls.append(name)
        self.threads.add(threading.get_ident())


def _plain(record: Any) -> Record:
    if isinstance(record, Record):
        return record
    assert record.error() is None
    place = (record.topic(), record.partition(), record.offset(), record.leader_epoch())
    return Record(*place, record.timestamp()[1], record.key(), record.value(), record.headers())


class NeverReadBack:
    """The half of a source that looks back, or reads on demand, for one that is never asked to."""

    def read_partition(self, topic: str, partition: int, *, whole: bool = False) -> None:
        raise SourceError("this log is read as a whole")

    def let_go(self, topic: str, partition: int) -> None:
        raise SourceError("this log is read as a whole")

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        raise SourceError("this log is not read back")

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        raise SourceError("this log is not read back")

    async def since(self, topic: str, timestamp: int, partitions: Collection[int] | None = None) -> dict[int, int]:
        raise SourceError("this log is not read back")


class NeverStarted(NeverReadBack):
    """A source that tests append to, and deliver the records of by hand."""

    async def start(
        self,
        sink: Sink,
        topics: Sequence[str],
        history_ms: int,
        state_topics: Sequence[str] = (),
        on_demand: Sequence[str] = (),
    ) -> None: ...

    def health(self) -> Health:
        return Health(True, "")

    def lag(self) -> dict[tuple[str, int], int]:
        return {}

    async def stop(self) -> None: ...


async def read_all(source: Source, topic: str, start: int, stop: int, partition: int = 0) -> list[Record]:
    """What the log holds of a range, slice by slice."""
    records: list[Record] = []
    while start < stop:
        part = await source.read(topic, partition, start, stop)
        records.extend(_plain(record) for record in part.records)
        assert start < part.next <= stop
        start = part.next
    return records


async def eventually(condition: Callable[[], object], seconds: float = 20) -> None:
    """Waits until the condition holds; fails the test when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def begin_append(source: Source, *records: NewRecord) -> "asyncio.Future[list[Appended] | SourceError]":
    """Appends; the future holds what `done` was called with, and fails the test if that was twice."""
    outcome: asyncio.Future[list[Appended] | SourceError] = asyncio.get_running_loop().create_future()
    source.append(records, outcome.set_result)
    return outcome


async def append(source: Source, *records: NewRecord) -> list[Appended]:
    """Appends and waits for the coordinates."""
    outcome = await asyncio.wait_for(begin_append(source, *records), 20)
    assert not isinstance(outcome, SourceError), outcome
    return outcome


def record(topic: str, value: bytes | None, key: bytes | None = b"k") -> NewRecord:
    return NewRecord(topic, key, value, [])


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process can be written beyond its first 64 KiB."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64 << 10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
