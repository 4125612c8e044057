"""The embedded log on disk: one SQLite database in a directory that one process owns, written and read.

Rules:

- One table a topic, one partition (0) a topic; offsets are dense from 0 and never given twice, also after retention
  has deleted them.
- WAL with `synchronous=FULL`: when `write` has returned, the records survive a power cut. All of it is in the log or,
  when it raises, none.
- A file that is damaged is refused where that shows: when it is opened, or when a record is read (`embedded_file`).
- What is written from one opening to the next is of one leader epoch (`embedded_file`).
- Timestamps are the clock's at the write. A position in time is found by bisection, so it is exact as long as the
  clock was not set back.
- A `Writer` belongs to one thread, a `Reader` to another; each has a connection of its own.
"""

import fcntl
import os
import secrets
import sqlite3
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from fanout.errors import SourceError
from fanout.sources.base import LIMITS, Appended, NewRecord, Record, Slice
from fanout.sources.embedded_file import (
    DATABASE,
    EPOCH_MAX,
    DamagedLog,
    DamagedRange,
    Topic,
    Transaction,
    checksum_of,
    first_offset,
    is_damage,
    look_through,
    new_epoch,
    offset_since,
    open_database,
)
from fanout.sources.embedded_upkeep import Upkeep

__all__ = ["DATABASE", "BadRecord", "Reader", "Writer"]

_headers = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]])


class BadRecord(SourceError):
    """A record holds what cannot be stored, for example text that is not Unicode."""


class Writer:
    """The only one to write. Opening it takes the directory's lock; `close` gives it back."""

    def __init__(self, directory: Path) -> None:
        """Raises SourceError, in one line that says what to do, when the directory cannot be used."""
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            reason = error.strerror or str(error)
            raise SourceError(f"cannot write to {directory}: {reason}; name a directory that this user owns") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._database, self._topics, newest = _opened(directory)
        except BlockingIOError as error:
            os.close(self._lock)
            raise SourceError(f"{directory} is in use by another node; stop it, or name another directory") from error
        except (sqlite3.Error, SourceError) as error:
            os.close(self._lock)
            raise SourceError(f"cannot open the log in {directory}: {error}") from error
        self._epoch = new_epoch(newest)
        self.upkeep = Upkeep(self._database, self._topics)

    def close(self) -> None:
        """Frees everything; what was written stays."""
        with suppress(sqlite3.Error):  # a full disk at the last checkpoint: the write-ahead log still has it all
            self._database.close()
        os.close(self._lock)

    @property
    def names(self) -> list[str]:
        """The topics that there are."""
        return list(self._topics)

    def topic(self, name: str, *, is_state: bool = False) -> tuple[bytes, int]:
        """Id and next offset of a topic, which is made if there is none. Raises sqlite3.Error."""
        if name not in self._topics:
            with Transaction(self._database):
                topic_id = secrets.token_bytes(16)
                (number,) = self._database.execute("SELECT ifnull(max(number), 0) + 1 FROM topic").fetchone()
                topic = Topic(number, name, topic_id, 0)
                row = (number, name, topic_id, 0, topic.checksum, -1)
                self._database.execute("INSERT INTO topic VALUES (?, ?, ?, ?, ?, ?)", row)
                self._database.execute(
                    f"CREATE TABLE {topic.table} (offset INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL,"
                    " key BLOB, value BLOB, headers BLOB, checksum INTEGER NOT NULL, epoch INTEGER NOT NULL) STRICT"
                )
            self._topics[name] = topic
        topic = self._topics[name]
        if is_state:
            index = f"CREATE INDEX IF NOT EXISTS key_of_{topic.table} ON {topic.table} (key)"
            self._database.execute(index)
            topic.is_state = True
        return topic.id, topic.next

    def write(self, appends: Sequence[Sequence[NewRecord]]) -> list[list[Appended]]:
        """Writes everything in one transaction; returns where each record is.

        Raises sqlite3.Error when the disk refuses, BadRecord when a record cannot be stored: then nothing is written.
        """
        try:
            return self._write(appends)
        except (
            sqlite3.IntegrityError,
            sqlite3.InterfaceError,
            sqlite3.ProgrammingError,
            TypeError,
            ValueError,
        ) as error:
            raise BadRecord(f"a record cannot be stored: {error}") from error

    def probe(self) -> None:
        """Writes something that changes nothing. Raises sqlite3.Error while the disk takes no writes."""
        with Transaction(self._database):
            self._database.execute("UPDATE topic SET next = next")

    def _write(self, appends: Sequence[Sequence[NewRecord]]) -> list[list[Appended]]:
        now = time.time_ns() // 1_000_000
        rows: dict[str, list[tuple[int, int, bytes | None, bytes | None, bytes | None, int, int]]] = {}
        placed = []
        for records in appends:
            coordinates = []
            for topic, key, value, headers in records:
                if topic not in rows:
                    self.topic(topic)
                    rows[topic] = []
                if key is None and self._topics[topic].is_state:
                    raise BadRecord(f"a record of {topic!r} needs a key")
                offset = self._topics[topic].next + len(rows[topic])
                packed = msgspec.msgpack.encode(headers) if headers else None
                checksum = checksum_of(offset, now, key, value, packed, self._epoch)
                rows[topic].append((offset, now, key, value, packed, checksum, self._epoch))
                coordinates.append(Appended(topic, 0, offset, now))
            placed.append(coordinates)
        with Transaction(self._database):
            for name, values in rows.items():
                insert = f"INSERT INTO {self._topics[name].table} VALUES (?, ?, ?, ?, ?, ?, ?)"
                self._database.executemany(insert, values)
                reached = (values[-1][0] + 1, self._epoch, name)
                self._database.execute("UPDATE topic SET next = ?, epoch = ? WHERE name = ?", reached)
        for name, values in rows.items():
            self._topics[name].next = values[-1][0] + 1
        return placed


class Reader:
    """Reads what a `Writer` of the same directory has committed."""

    def __init__(self, directory: Path) -> None:
        self._database = open_database(directory)
        self._tables = {name: f"record_{n}" for n, name in self._database.execute("SELECT number, name FROM topic")}

    def close(self) -> None:
        """Frees the connection."""
        self._database.close()

    def _table(self, topic: str) -> str:
        if topic not in self._tables:  # made since
            self._tables.update(self._database.execute("SELECT name, 'record_' || number FROM topic"))
        return self._tables[topic]

    def since(self, topic: str, timestamp: int, end: int) -> int:
        """The offset of the first record below `end` that is not older than `timestamp`; `end` if there is none.

        Raises sqlite3.Error.
        """
        table = self._table(topic)
        with Transaction(self._database, "DEFERRED"):  # meanwhile, the writer's deletions are not seen
            return offset_since(self._database, table, first_offset(self._database, table, end), end, timestamp)

    def first(self, topic: str, end: int) -> int:
        """The earliest offset there is; `end` if there is none. Raises sqlite3.Error."""
        return first_offset(self._database, self._table(topic), end)

    def end(self, topic: str) -> int:
        """The offset that the next record gets. Raises sqlite3.Error, KeyError if there is no such topic."""
        row = self._database.execute("SELECT next FROM topic WHERE name = ?", (topic,)).fetchone()
        if row is None:
            raise KeyError(topic)
        return int(row[0])

    def slice(self, topic: str, start: int, stop: int) -> Slice:
        """See `Source.read`. Ends before what is damaged. Raises sqlite3.Error, DamagedRange if it begins there."""
        records, size = list[Record](), 0
        is_all = False
        try:
            rows = self._database.execute(
                f"SELECT * FROM {self._table(topic)} WHERE offset >= ? AND offset < ? ORDER BY offset LIMIT ?",
                (start, stop, LIMITS.slice_records),
            )
            for row in rows:
                records.append(_record(topic, *row))
                size += len(row[3] or b"")
                if size >= LIMITS.slice_bytes:
                    break
            rows.close()
            is_all = len(records) < LIMITS.slice_records and size < LIMITS.slice_bytes
        except sqlite3.Error as problem:
            if not is_damage(problem):
                raise
            if not records:
                raise DamagedRange(problem, self._behind_damage(topic, start, stop)) from problem
        return Slice(records, max(start, stop) if is_all else records[-1].offset + 1)

    def _behind_damage(self, topic: str, start: int, stop: int) -> int:
        """Where the log can be read again, behind where it cannot; at most twice as far away as it has to be."""
        step = 1
        while start + step < stop:
            try:
                self.read(topic, start + step, 1)
            except sqlite3.Error as problem:
                if not is_damage(problem):
                    raise
                step *= 2
            else:
                return start + step
        return stop

    def read(self, topic: str, offset: int, limit: int) -> list[Record]:
        """The next records from `offset` on, at most `limit`. Raises sqlite3.Error."""
        rows = self._database.execute(
            f"SELECT * FROM {self._table(topic)} WHERE offset >= ? ORDER BY offset LIMIT ?",
            (offset, limit),
        )
        return [_record(topic, *row) for row in rows.fetchall()]


def _opened(directory: Path) -> tuple[sqlite3.Connection, dict[str, Topic], int]:
    """The database, its topics, and the newest leader epoch in it, -1 if there is none."""
    database = open_database(directory, to_write=True)
    try:
        look_through(database)
        topics, newest = {}, -1
        for number, name, topic_id, next_offset, checksum, epoch in database.execute("SELECT * FROM topic"):
            topic = topics[name] = Topic(number, name, topic_id, next_offset)
            newest = max(newest, epoch)
            (last,) = database.execute(f"SELECT max(offset) FROM {topic.table}").fetchone()
            if topic.checksum != checksum or (last or -1) >= next_offset or epoch >= EPOCH_MAX:
                raise DamagedLog(f"topic {name!r} is damaged; restore the directory, or name another one")
    except BaseException:
        database.close()
        raise
    return database, topics, newest


def _record(
    topic: str,
    offset: int,
    timestamp: int,
    key: bytes | None,
    value: bytes | None,
    headers: bytes | None,
    checksum: int,
    epoch: int,
) -> Record:
    try:
        is_sound = checksum_of(offset, timestamp, key, value, headers, epoch) == checksum
    except TypeError:  # not even what it is made of
        is_sound = False
    if not is_sound:
        raise DamagedLog(f"record {offset} of topic {topic!r} is damaged; restore the directory, or name another one")
    return Record(topic, 0, offset, epoch, timestamp, key, value, _headers.decode(headers) if headers else None)
