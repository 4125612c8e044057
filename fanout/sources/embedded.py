"""The embedded log: durable and on this machine, for a node without Kafka.

Rules:

- One thread writes: it takes everything that waits, commits it in one transaction with one fsync, then confirms. While
  it commits, the next group gathers.
- One thread reads committed records back and calls the sink; the writer wakes it, it never polls. Who looks further
  back has threads of their own (`reads`).
- What was delivered and is damaged since counts as deleted, with all that lies before it: who looks back is told as
  where retention has passed. `health()` then says what is damaged, though it is well.
- One process owns the directory. A disk that is full or broken refuses appends, with the reason, and goes on being
  read; the writer tries it every second, and the log is well again as soon as the disk is.
"""

import asyncio
import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final, TypeVar

from fanout.config import RETENTION_MS
from fanout.errors import SourceDamaged, SourceError
from fanout.sources.base import LIMITS, Done, Health, NewRecord, Sink, Slice
from fanout.sources.embedded_file import DamagedRange
from fanout.sources.embedded_store import BadRecord, Reader, Writer
from fanout.sources.embedded_upkeep import EXPIRE_BYTES
from fanout.sources.patterns import Patterns
from fanout.sources.pending import Pending, Ticket
from fanout.sources.prompt import prompt_threads
from fanout.sources.reads import Reads

__all__ = ["EmbeddedSource"]

COMMIT_RECORDS: Final = 2_000  # in one transaction, unless one append has more
EXPIRE_EVERY_S: Final = 60.0
RETRY_S: Final = 1.0  # between two tries of a disk that refuses
DRAIN_S: Final = 10.0  # what `stop` gives to what is being appended

T = TypeVar("T")

log = logging.getLogger("fanout.source.embedded")


class EmbeddedSource:
    """A `fanout.sources.base.Source` over a directory."""

    def __init__(
        self, directory: Path, *, retention_ms: int = RETENTION_MS, retention_bytes: int | None = None
    ) -> None:
        """Keeps records for `retention_ms` in `directory`, which is made, for this user alone, if it is missing; and no
        more than `retention_bytes` of them, if given, the oldest going first.
        """
        self._directory = directory
        self._retention_ms = retention_ms
        self._retention_bytes = retention_bytes
        self._writer: Writer | None = None
        self._reader: Reader | None = None
        self._pending: Pending | None = None
        self._reads = Reads("fanout-log-back", lambda: Reader(directory))
        self._threads: list[threading.Thread] = []
        self._stopped: asyncio.Task[None] | None = None
        self._changed = threading.Condition()  # guards the next four
        self._waiting: deque[Ticket] = deque()  # bounded by Pending
        self._ends: dict[str, int] = {}  # of the topics that are read
        self._stopping = False
        self._state_topics: frozenset[str] = frozenset()
        self._appeared: deque[tuple[str, bytes]] = deque()  # topics that a pattern matches, for the reading thread
        self._patterns = Patterns(())
        self._asked: deque[tuple[str, int | None]] = deque()  # topics to begin so many ms ago; None: to let go
        self._behind: dict[str, int] = {}  # those of which not all has been delivered yet up to there
        self._history_ms = 0
        self._next: dict[str, int] = {}  # per topic, the first offset not yet delivered
        self._sound: dict[str, int] = {}  # of topics that were found to be damaged: the first offset behind that
        self._damage = ""
        self._write_error = ""
        self._read_error = ""

    async def start(
        self,
        sink: Sink,
        topics: Sequence[str],
        history_ms: int,
        state_topics: Sequence[str] = (),
        on_demand: Sequence[str] = (),
    ) -> None:
        """See `Source.start`. Opens the database on the loop, which takes milliseconds.

        Raises SourceError when the directory cannot be used or another process uses it.
        """
        since = time.time_ns() // 1_000_000 - history_ms
        self._history_ms = history_ms
        self._state_topics = frozenset(state_topics)
        self._writer = writer = Writer(self._directory)
        try:
            ids = {}
            self._patterns = patterns = Patterns((*topics, *state_topics))
            for name in (*patterns.names, *patterns.of(writer.names)):
                ids[name], self._ends[name] = writer.topic(name, is_state=name in state_topics)
            self._reader = reader = Reader(self._directory)
            begun = {name: end for name, end in self._ends.items() if name not in on_demand}
            self._next = {name: reader.since(name, since, end) for name, end in begun.items()}
            self._next.update(dict.fromkeys(state_topics, 0))
        except sqlite3.Error as error:
            self._close()
            raise SourceError(f"cannot open the log in {self._directory}: {error}") from error
        self._pending = pending = Pending(asyncio.get_running_loop())
        self._threads = [
            threading.Thread(
                target=self._write, args=(writer, pending, history_ms), name="fanout-log-write", daemon=True
            ),
            threading.Thread(target=self._read, args=(reader, sink, ids), name="fanout-log-read", daemon=True),
        ]
        with prompt_threads():
            for thread in self._threads:
                thread.start()

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        """See `Source.append`. All records of one call are written, or none. A topic that is missing is made."""
        if self._pending is None or self._stopped is not None:
            raise SourceError("the log is not open")
        ticket = self._pending.admit(records, done)
        with self._changed:
            self._waiting.append(ticket)
            self._changed.notify_all()

    def read_partition(self, topic: str, partition: int, *, whole: bool = False) -> None:
        """See `Source.read_partition`. A topic has one partition."""
        if partition == 0:
            with self._changed:
                self._asked.append((topic, time.time_ns() // 1_000_000 if whole else self._history_ms))
                self._changed.notify_all()

    def let_go(self, topic: str, partition: int) -> None:
        """See `Source.let_go`."""
        with self._changed:
            self._asked.append((topic, None))
            self._changed.notify_all()

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        """See `Source.read`."""
        end = min(stop, self._end(topic))
        try:
            return await self._read_back(lambda reader: reader.slice(topic, start, end))
        except DamagedRange as problem:
            self._damage = f"the log in {self._directory} has what cannot be read: {problem}"
            self._sound[topic] = max(problem.sound, self._sound.get(topic, 0))
            log.error("%s; what topic %r has below offset %d is not given any more", self._damage, topic, problem.sound)
            raise SourceDamaged(self._damage) from problem

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        """See `Source.bounds`."""
        end = self._end(topic)
        if partitions is not None and 0 not in partitions:
            return {}
        first = await self._read_back(lambda reader: reader.first(topic, end))
        if self._sound.get(topic, 0) <= first:
            self._sound.pop(topic, None)
        return {0: (max(first, self._sound.get(topic, 0)), end)}

    async def since(self, topic: str, timestamp: int, partitions: Collection[int] | None = None) -> dict[int, int]:
        """See `Source.since`."""
        end = self._end(topic)
        if partitions is not None and 0 not in partitions:
            return {}
        found = await self._read_back(lambda reader: reader.since(topic, timestamp, end))
        return {0: max(found, self._sound.get(topic, 0))}

    def _end(self, topic: str) -> int:
        if topic not in self._ends:
            raise SourceError(f"topic {topic!r} is not read")
        return self._ends[topic]

    async def _read_back(self, job: Callable[[Reader], T]) -> T:
        try:
            return await self._reads.run(lambda reader, _: job(reader))
        except DamagedRange:
            raise
        except sqlite3.Error as error:
            raise SourceError(f"the log in {self._directory} cannot be read: {error}") from error

    def health(self) -> Health:
        """See `Source.health`."""
        if not self._threads:
            return Health(False, "the log is not open")
        reason = self._write_error or self._read_error
        return Health(not reason, reason or (self._damage if self._sound else ""))

    def lag(self) -> dict[tuple[str, int], int]:
        """See `Source.lag`."""
        return {(name, 0): self._ends[name] - next_ for name, next_ in list(self._next.items())}

    async def stop(self) -> None:
        """See `Source.stop`."""
        if self._stopped is None:
            self._stopped = asyncio.get_running_loop().create_task(self._stop())
        await asyncio.shield(self._stopped)

    async def _stop(self) -> None:
        if self._pending is not None:
            await self._pending.drained(DRAIN_S)
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        await self._reads.stop()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        if self._pending is not None:
            await self._pending.drained(DRAIN_S)  # everything is settled by now, though not yet answered
        self._threads = []
        self._close()

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    # -- the writing thread --

    def _write(self, writer: Writer, pending: Pending, history_ms: int) -> None:
        expire_at = time.monotonic()
        while True:
            pause = RETRY_S if self._write_error else max(0.0, expire_at - time.monotonic())
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._stopping, pause)
                if self._stopping:
                    break
                group = self._take()
            if group:
                self._commit(writer, pending, group)
            try:
                if self._write_error and not group:
                    writer.probe()
                    self._write_state("")
                if self._shrink(writer, sum(ticket.size for ticket in group)):
                    expire_at = time.monotonic()  # after what waits to be written
                elif time.monotonic() >= expire_at:
                    now = time.time_ns() // 1_000_000
                    more = writer.upkeep.expire(now - self._retention_ms)
                    more |= writer.upkeep.compact(now - history_ms, self._next)
                    expire_at = time.monotonic() + (0.0 if more else EXPIRE_EVERY_S)
            except sqlite3.Error as error:
                self._write_state(str(error))
                expire_at = time.monotonic() + RETRY_S
        for ticket in self._waiting:  # the disk has not taken them in all the time that `stop` gave it
            pending.settle(ticket, SourceError("the log was closed before it was written"))
        pending.wake()

    def _shrink(self, writer: Writer, written: int) -> bool:
        """Deletes, of a log that is too large, a slice, and as much as was written; whether it is too large still."""
        if self._retention_bytes is None:
            return False
        while (more := writer.upkeep.shrink(self._retention_bytes)) and written > EXPIRE_BYTES:
            written -= EXPIRE_BYTES
        return more

    def _take(self) -> list[Ticket]:
        group: list[Ticket] = []
        records = 0
        while self._waiting and records < COMMIT_RECORDS:
            group.append(self._waiting.popleft())
            records += len(group[-1].records)
        return group

    def _commit(self, writer: Writer, pending: Pending, group: list[Ticket]) -> None:
        """Writes the group and confirms it, or refuses it."""
        try:
            placed = writer.write([ticket.records for ticket in group])
        except (sqlite3.Error, BadRecord) as error:
            if isinstance(error, sqlite3.Error):
                self._write_state(str(error))
            elif len(group) > 1:  # one bad record is not the others' fault: each for itself
                for ticket in group:
                    self._commit(writer, pending, [ticket])
                return
            for ticket in group:
                pending.settle(ticket, SourceError(f"the log cannot be written: {error}"))
            pending.wake()
            return
        self._write_state("")
        with self._changed:
            for coordinates in placed:
                for topic, _, offset, _ in coordinates:
                    if topic in self._ends:
                        self._ends[topic] = offset + 1
                    elif self._patterns.of((topic,)):
                        self._appeared.append((topic, writer.topic(topic)[0]))
                        self._next[topic], self._ends[topic] = 0, offset + 1
            self._changed.notify_all()
        for ticket, coordinates in zip(group, placed, strict=True):
            pending.settle(ticket, coordinates)
        pending.wake()

    def _write_state(self, error: str) -> None:
        reason = f"the log in {self._directory} cannot be written: {error}" if error else ""
        if reason and not self._write_error:
            log.error("%s; trying on", reason)
        elif self._write_error and not reason:
            log.info("the log in %s is written again", self._directory)
        self._write_error = reason

    # -- the reading thread --

    def _read(self, reader: Reader, sink: Sink, ids: dict[str, bytes]) -> None:
        try:
            self._deliver(reader, sink, ids)
        except BaseException as error:  # without reading the node is blind: it must not look well
            log.exception("reading the log in %s has stopped", self._directory)
            self._read_error = f"reading the log has stopped: {error!r}"

    def _deliver(self, reader: Reader, sink: Sink, ids: dict[str, bytes]) -> None:
        for name, topic_id in ids.items():
            sink.topic(name, topic_id, 1)
            if name in self._next:
                sink.partition(name, topic_id, 0, self._next[name])
        targets = {name: self._ends[name] for name in self._next}
        ready = False
        while not self._stopping:
            retry_s = None
            while self._appeared:
                name, ids[name] = self._appeared.popleft()
                sink.topic(name, ids[name], 1)
                sink.partition(name, ids[name], 0, 0)
            try:
                self._heed(reader, sink, ids)
                for name in [name for name in list(self._next) if name in ids]:  # others appear on the next turn
                    self._deliver_topic(reader, sink, name, ids[name])
                self._read_error = ""
            except sqlite3.Error as error:
                if not self._read_error:
                    log.error("the log in %s cannot be read: %s; trying on", self._directory, error)
                self._read_error = f"the log in {self._directory} cannot be read: {error}"
                retry_s = RETRY_S
            for name in [name for name, target in self._behind.items() if self._next[name] >= target]:
                del self._behind[name]
                sink.caught_up(name, 0)
            if not ready and all(self._next[name] >= target for name, target in targets.items()):
                ready = True
                sink.ready()
            with self._changed:
                if retry_s:
                    self._changed.wait_for(lambda: self._stopping, retry_s)
                else:
                    self._changed.wait_for(lambda: self._stopping or self._asked or self._has_more)

    @property
    def _has_more(self) -> bool:
        return any(self._ends[name] != next_ for name, next_ in self._next.items())

    def _heed(self, reader: Reader, sink: Sink, ids: dict[str, bytes]) -> None:
        """Begins to read what was asked for, or ends. Raises sqlite3.Error, and then it is asked for still."""
        while self._asked:
            name, ago_ms = self._asked[0]
            if ago_ms is None:
                del self._next[name]
                sink.let_go(name, 0)
            else:
                end = self._ends[name]
                start = reader.since(name, time.time_ns() // 1_000_000 - ago_ms, end)
                self._behind[name], self._next[name] = end, start
                sink.partition(name, ids[name], 0, start)
            self._asked.popleft()

    def _deliver_topic(self, reader: Reader, sink: Sink, name: str, topic_id: bytes) -> None:
        """Delivers one batch of a topic, if it has any."""
        end = self._ends[name]
        if self._next[name] == end:
            return
        batch = reader.read(name, self._next[name], LIMITS.read_batch)
        first = batch[0].offset if batch else end
        if first > self._next[name] and name not in self._state_topics:  # retention has overtaken the reader
            log.warning("retention has deleted %d records of %r that were not read", first - self._next[name], name)
            sink.partition(name, topic_id, 0, first)
            self._next[name] = first
        if batch:
            sink.records(batch)
            self._next[name] = batch[-1].offset + 1
        if len(batch) < LIMITS.read_batch and self._next[name] < end:  # the end of a topic of state was compacted away
            sink.progress(name, 0, end)
            self._next[name] = end
