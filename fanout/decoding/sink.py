"""What stands between a source and its sink: records decoded, in order, without one that waits holding up the others.

- A record whose schema is not known yet waits, and with it all that follows in its partition, in a *line*. Other
  partitions go on.
- When a schema has been answered for, the lines are delivered from the front, as far as they can be, by the thread that
  asked for it. One lock is around every call of the sink.
- At most `WAITING_RECORDS` of `WAITING_BYTES` wait in all lines together; past that the source's thread waits too.
  Nothing is given up for a registry that is away: nodes that know its schemas already would deliver it.
- At a start, partitions that a registry has held up for `AWAY_S` are not waited for, those of topics of state excepted.
- A record that cannot be decoded goes on as it is, with a header that says why: its rule fails it.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple

from fanout.decoding.decoders import Undecodable
from fanout.decoding.schemas import ASKED, Schemas
from fanout.delivered import as_record, topic_of
from fanout.rules.route import UNDECODABLE
from fanout.sources.base import LIMITS, Sink
from fanout.types import Record

__all__ = ["DecodingSink", "Formats", "FormatsOf", "decoded"]

REASON_MAX: Final = 1_000  # bytes
WAITING_RECORDS: Final = 20_000  # four seconds of a node that reads 5,000 a second
WAITING_BYTES: Final = 64 << 20
AWAY_S: Final = 5.0


class Formats(NamedTuple):
    """Of which format a topic's keys and values are; None: of none that is decoded here."""

    key: str | None
    value: str | None


@dataclass(slots=True)
class _Line:
    """What waits of one partition: records, and calls that come behind them."""

    since: float  # time.monotonic()
    entries: deque[Record | partial[None]] = field(default_factory=deque)


FormatsOf = Callable[[str], Formats | None]


def decoded(record: Record, formats: Formats, schemas: Schemas) -> Record | None:
    """The record with JSON for its key and value, or marked as undecodable; None: a schema is being asked for.

    What fanout itself wrote into the topic is no format's and stays as it is.
    """
    if _is_published(record):
        return record
    try:
        key = _part("key", formats.key, record.key, schemas)
        value = _part("value", formats.value, record.value, schemas)
    except Undecodable as problem:
        reason = str(problem).encode(errors="replace")[:REASON_MAX].decode(errors="ignore").encode()
        return record._replace(headers=[*(record.headers or ()), (UNDECODABLE, reason)])
    if key is ASKED or value is ASKED:
        return None
    return record._replace(key=key, value=value)


def _is_published(record: Record) -> bool:
    """Whether the engine will take it for what its headers say: the first of this name counts, if it is text."""
    kind = next((value for name, value in record.headers or () if name == "fanout.type"), None)
    return kind is not None and kind.decode(errors="replace").encode() == kind


def _part(what: str, form: str | None, data: bytes | None, schemas: Schemas) -> Any:
    if form is None or data is None:
        return data
    try:
        wanted = schemas.decoders.wanted(form, data)
        known = schemas.look(wanted)
        if known.ready:
            return schemas.decoders.decode(form, data)
    except Undecodable as problem:
        raise Undecodable(f"the {what} cannot be decoded: {problem}") from None
    if known is ASKED:
        return ASKED
    raise Undecodable(f"the {what} cannot be decoded: {known.reason}")


class DecodingSink:
    """A `fanout.sources.base.Sink` in front of another one."""

    def __init__(self, sink: Sink, formats_of: FormatsOf, schemas: Schemas, state_topics: Collection[str] = ()) -> None:
        self._sink = sink
        self._state_topics = state_topics
        self._formats_of = formats_of
        self._schemas = schemas
        self._lock = threading.Condition()
        self._lines: dict[tuple[str, int], _Line] = {}
        self._records = self._bytes = 0  # in the lines
        self._written: dict[tuple[str, int, int], Record] = {}  # of what is being delivered, as it lies in the log
        self._ready_waits = False
        self._stopped = False

    def topic(self, topic: str, topic_id: bytes, partitions: int, /) -> None:
        """See `Sink.topic`."""
        with self._lock:
            if not self._stopped:
                self._sink.topic(topic, topic_id, partitions)

    def gone(self, topic: str, /) -> None:
        """See `Sink.gone`."""
        with self._lock:
            if not self._stopped:
                self._sink.gone(topic)

    def partition(self, topic: str, topic_id: bytes, partition: int, start: int, /) -> None:
        """See `Sink.partition`."""
        with self._lock:
            self._after(topic, partition, partial(self._sink.partition, topic, topic_id, partition, start))

    def progress(self, topic: str, partition: int, next_offset: int, /) -> None:
        """See `Sink.progress`."""
        with self._lock:
            self._after(topic, partition, partial(self._sink.progress, topic, partition, next_offset))

    def caught_up(self, topic: str, partition: int, /) -> None:
        """See `Sink.caught_up`."""
        with self._lock:
            self._after(topic, partition, partial(self._sink.caught_up, topic, partition))

    def let_go(self, topic: str, partition: int, /) -> None:
        """See `Sink.let_go`."""
        with self._lock:
            self._after(topic, partition, partial(self._sink.let_go, topic, partition))

    def records(self, batch: Sequence[Any], /) -> None:
        """See `Sink.records`."""
        with self._lock:
            through: list[Any] = []
            self._written.clear()
            for item in batch:
                formats = self._formats_of(topic_of(item))
                if formats is None:
                    through.append(item)
                elif (record := self._taken(as_record(item), formats)) is not None:
                    through.append(record)
            if through and not self._stopped:
                self._sink.records(through)
            self._lock.wait_for(lambda: self._stopped or not self.is_full)

    def ready(self) -> None:
        """See `Sink.ready`. Said when nothing waits any more, but for a registry that is away."""
        with self._lock:
            self._ready_waits = True
            self._say_ready()

    def settled(self) -> None:
        """Delivers what waits no longer. Called when the registry has, or has not, answered."""
        while True:
            with self._lock:  # let go after each batch: other partitions want to go on
                moved = [self._advance(key, line) for key, line in list(self._lines.items())]
                self._say_ready()
                self._lock.notify_all()
            if not any(moved):
                return

    def stop(self) -> None:
        """Nothing is delivered any more; a source's thread that waits here is let go."""
        with self._lock:
            self._stopped = True
            self._lock.notify_all()

    def as_written(self, record: Record) -> Record:
        """A record that the sink is just given, as it lies in the log. For the thread that delivers."""
        return self._written.get((record.topic, record.partition, record.offset), record)

    @property
    def waiting(self) -> dict[tuple[str, int], float]:
        """The partitions that wait for a schema, and since when by `time.monotonic`. For any thread."""
        return {key: line.since for key, line in list(self._lines.items())}

    @property
    def is_full(self) -> bool:
        """Whether as much waits as may, so that the source's thread does too. For any thread."""
        return self._records >= WAITING_RECORDS or self._bytes >= WAITING_BYTES

    def _taken(self, record: Record, formats: Formats) -> Record | None:
        """The record decoded; None if it waits in its line now."""
        key = (record.topic, record.partition)
        line = self._lines.get(key)
        if line is None:
            if (done := self._decoded(record, formats)) is not None:
                return done
            line = self._lines[key] = _Line(time.monotonic())
        line.entries.append(record)
        self._records += 1
        self._bytes += _size(record)
        return None

    def _decoded(self, record: Record, formats: Formats) -> Record | None:
        done = decoded(record, formats, self._schemas)
        if done is not None:
            self._written[record.topic, record.partition, record.offset] = record
        return done

    def _after(self, topic: str, partition: int, call: partial[None]) -> None:
        """Calls now, or when what came before it has left the line."""
        line = self._lines.get((topic, partition))
        if line is None:
            if not self._stopped:
                call()
            return
        last = line.entries[-1]
        if isinstance(last, partial) and last.func == call.func == self._sink.progress:
            line.entries.pop()
        line.entries.append(call)

    def _advance(self, key: tuple[str, int], line: _Line) -> bool:
        """Delivers one batch from the front of a line; whether it did."""
        through: list[Record] = []
        calls: list[partial[None]] = []
        formats = self._formats_of(key[0])
        entries = line.entries
        self._written.clear()
        while entries and len(through) < LIMITS.read_batch and not self._stopped:
            entry = entries[0]
            if isinstance(entry, Record):
                assert formats is not None  # a topic's rule does not change while a node runs
                if calls or (done := self._decoded(entry, formats)) is None:
                    break
                through.append(done)
                self._records -= 1
                self._bytes -= _size(entry)
            else:
                calls.append(entry)
            entries.popleft()
        if through:
            self._sink.records(through)
        for call in calls:
            call()
        if not entries:
            del self._lines[key]
        return bool(through or calls)

    def _say_ready(self) -> None:
        if self._ready_waits and not self._stopped and all(self._is_let_wait(*line) for line in self._lines.items()):
            self._ready_waits = False
            self._sink.ready()

    def _is_let_wait(self, key: tuple[str, int], line: _Line) -> bool:
        is_long = bool(self._schemas.away) and time.monotonic() - line.since >= AWAY_S
        return is_long and key[0] not in self._state_topics


def _size(record: Record) -> int:
    return len(record.key or b"") + len(record.value or b"")
