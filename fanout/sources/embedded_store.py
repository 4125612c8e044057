"""The embedded log on disk: one SQLite database in a directory that one process owns.

Rules:

- One table a topic, one partition (0) a topic; offsets are dense from 0 and never given twice, also after retention
  has deleted them.
- WAL with `synchronous=FULL`: when `write` has returned, the records survive a power cut. All of it is in the log or,
  when it raises, none.
- A topic of state keeps the newest record of each key, and none of a key that was taken back; other topics keep all.
- Timestamps are the clock's at the write. A position in time is found by bisection, so it is exact as long as the
  clock was not set back.
- A `Writer` belongs to one thread, a `Reader` to another; each has a connection of its own.
"""

import fcntl
import os
import secrets
import sqlite3
import sys
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final, Self

import msgspec

from fanout.errors import SourceError
from fanout.sources.base import LIMITS, Appended, NewRecord, Record, Slice

__all__ = ["DATABASE", "BadRecord", "Reader", "Writer"]

FORMAT: Final = 1  # of the database, in its user_version
DATABASE: Final = "log.sqlite3"
WAL_BYTES: Final = 64 << 20  # what the write-ahead log is cut back to after a burst
EXPIRE_SLICE: Final = 5_000  # records deleted in one transaction: appends wait for it some 10 ms
COMPACT_SLICE: Final = 1_000  # records of a topic of state looked at in one transaction: each may delete another

_headers = msgspec.msgpack.Decoder(list[tuple[str, bytes | None]])


class BadRecord(SourceError):
    """A record holds what cannot be stored, for example text that is not Unicode."""


class _Topic:
    """A topic's table, the offset that its next record gets, and, of a topic of state, how far it is compacted."""

    __slots__ = ("clean", "id", "is_state", "name", "next", "table")

    def __init__(self, number: int, name: str, topic_id: bytes, next_offset: int) -> None:
        self.table = f"record_{number}"
        self.name = name
        self.id = topic_id
        self.next = next_offset
        self.is_state = False
        self.clean = 0  # below it no record has an older one of its key, as far as this process has looked


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
            self._database = _open(directory)
        except BlockingIOError as error:
            os.close(self._lock)
            raise SourceError(f"{directory} is in use by another node; stop it, or name another directory") from error
        except (sqlite3.Error, SourceError) as error:
            os.close(self._lock)
            raise SourceError(f"cannot open the log in {directory}: {error}") from error
        self._topics = {row[1]: _Topic(*row) for row in self._database.execute("SELECT * FROM topic")}

    def close(self) -> None:
        """Frees everything; what was written stays."""
        with suppress(sqlite3.Error):  # a full disk at the last checkpoint: the write-ahead log still has it all
            self._database.close()
        os.close(self._lock)

    def topic(self, name: str, *, is_state: bool = False) -> tuple[bytes, int]:
        """Id and next offset of a topic, which is made if there is none. Raises sqlite3.Error."""
        if name not in self._topics:
            with _Transaction(self._database):
                topic_id = secrets.token_bytes(16)
                added = self._database.execute("INSERT INTO topic (name, id, next) VALUES (?, ?, 0)", (name, topic_id))
                topic = _Topic(added.lastrowid or 0, name, topic_id, 0)
                self._database.execute(
                    f"CREATE TABLE {topic.table} (offset INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL,"
                    " key BLOB, value BLOB, headers BLOB) STRICT"
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

    def expire(self, before_ms: int) -> bool:
        """Deletes one slice of what is older than `before_ms`; tells whether more is left. Raises sqlite3.Error."""
        for topic in self._topics.values():
            if topic.is_state:
                continue
            first = _first(self._database, topic.table, topic.next)
            keep = _since(self._database, topic.table, first, topic.next, before_ms)
            if first < keep:
                until = min(keep, first + EXPIRE_SLICE)
                with _Transaction(self._database):
                    self._database.execute(f"DELETE FROM {topic.table} WHERE offset < ?", (until,))
                return True
        return False

    def compact(self, before_ms: int, delivered: Mapping[str, int]) -> bool:
        """Looks at one slice of the topics of state: at records older than `before_ms` and, since whoever was given a
        key must be given that it was taken back, below the offset that is `delivered`. Deletes what each has replaced,
        and those without a value themselves. Tells whether more is left. Raises sqlite3.Error.
        """
        for topic in self._topics.values():
            if topic.is_state and self._compact(topic, before_ms, delivered[topic.name]):
                return True
        return False

    def _compact(self, topic: _Topic, before_ms: int, end: int) -> bool:
        until = _since(self._database, topic.table, topic.clean, end, before_ms)
        rows = self._database.execute(
            f"SELECT offset, key, value IS NULL FROM {topic.table} WHERE offset >= ? AND offset < ?"
            " ORDER BY offset LIMIT ?",
            (topic.clean, until, COMPACT_SLICE),
        ).fetchall()
        if rows:
            with _Transaction(self._database):
                replaced = [(key, offset) for offset, key, _ in rows]
                self._database.executemany(f"DELETE FROM {topic.table} WHERE key = ? AND offset < ?", replaced)
                taken_back = [(offset,) for offset, _, is_null in rows if is_null]
                self._database.executemany(f"DELETE FROM {topic.table} WHERE offset = ?", taken_back)
        more = len(rows) == COMPACT_SLICE
        topic.clean = rows[-1][0] + 1 if more else until
        return more

    def probe(self) -> None:
        """Writes something that changes nothing. Raises sqlite3.Error while the disk takes no writes."""
        with _Transaction(self._database):
            self._database.execute("UPDATE topic SET next = next")

    def _write(self, appends: Sequence[Sequence[NewRecord]]) -> list[list[Appended]]:
        now = time.time_ns() // 1_000_000
        rows: dict[str, list[tuple[int, int, bytes | None, bytes | None, bytes | None]]] = {}
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
                rows[topic].append((offset, now, key, value, packed))
                coordinates.append(Appended(topic, 0, offset, now))
            placed.append(coordinates)
        with _Transaction(self._database):
            for name, values in rows.items():
                self._database.executemany(f"INSERT INTO {self._topics[name].table} VALUES (?, ?, ?, ?, ?)", values)
                self._database.execute("UPDATE topic SET next = ? WHERE name = ?", (values[-1][0] + 1, name))
        for name, values in rows.items():
            self._topics[name].next = values[-1][0] + 1
        return placed


class Reader:
    """Reads what a `Writer` of the same directory has committed."""

    def __init__(self, directory: Path) -> None:
        self._database = _open(directory)
        self._tables = {name: f"record_{n}" for n, name in self._database.execute("SELECT number, name FROM topic")}

    def close(self) -> None:
        """Frees the connection."""
        self._database.close()

    def since(self, topic: str, timestamp: int, end: int) -> int:
        """The offset of the first record below `end` that is not older than `timestamp`; `end` if there is none.

        Raises sqlite3.Error.
        """
        table = self._tables[topic]
        with _Transaction(self._database, "DEFERRED"):  # meanwhile, the writer's deletions are not seen
            return _since(self._database, table, _first(self._database, table, end), end, timestamp)

    def first(self, topic: str, end: int) -> int:
        """The earliest offset there is; `end` if there is none. Raises sqlite3.Error."""
        return _first(self._database, self._tables[topic], end)

    def end(self, topic: str) -> int:
        """The offset that the next record gets. Raises sqlite3.Error, KeyError if there is no such topic."""
        row = self._database.execute("SELECT next FROM topic WHERE name = ?", (topic,)).fetchone()
        if row is None:
            raise KeyError(topic)
        return int(row[0])

    def slice(self, topic: str, start: int, stop: int) -> Slice:
        """See `Source.read`. Raises sqlite3.Error."""
        rows = self._database.execute(
            f"SELECT offset, timestamp, key, value, headers FROM {self._tables[topic]} WHERE offset >= ? AND offset < ?"
            " ORDER BY offset LIMIT ?",
            (start, stop, LIMITS.slice_records),
        )
        records, size = [], 0
        for row in rows:
            records.append(_record(topic, *row))
            size += len(row[3] or b"")
            if size >= LIMITS.slice_bytes:
                break
        rows.close()
        is_all = len(records) < LIMITS.slice_records and size < LIMITS.slice_bytes
        return Slice(records, max(start, stop) if is_all else records[-1].offset + 1)

    def read(self, topic: str, offset: int, limit: int) -> list[Record]:
        """The next records from `offset` on, at most `limit`. Raises sqlite3.Error."""
        rows = self._database.execute(
            f"SELECT offset, timestamp, key, value, headers FROM {self._tables[topic]} WHERE offset >= ?"
            " ORDER BY offset LIMIT ?",
            (offset, limit),
        )
        return [_record(topic, *row) for row in rows.fetchall()]


class _Transaction:
    """Commits, or takes everything back."""

    def __init__(self, database: sqlite3.Connection, kind: str = "IMMEDIATE") -> None:
        self._database = database
        self._kind = kind

    def __enter__(self) -> Self:
        self._database.execute(f"BEGIN {self._kind}")
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:  # a COMMIT that failed leaves it open
                self._database.execute("ROLLBACK")


class _Timestamps(Sequence[int]):
    """The timestamps of a topic's offsets from `first` on, for bisection."""

    def __init__(self, database: sqlite3.Connection, table: str, first: int, end: int) -> None:
        self._query = f"SELECT timestamp FROM {table} WHERE offset >= ? ORDER BY offset LIMIT 1"
        self._database = database
        self._first = first
        self._length = max(0, end - first)

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> int:  # type: ignore[override]  # bisect takes no slices
        row = self._database.execute(self._query, (self._first + index,)).fetchone()
        timestamp: int = row[0] if row else sys.maxsize  # the last of all were compacted away
        return timestamp


def _record(
    topic: str, offset: int, timestamp: int, key: bytes | None, value: bytes | None, headers: bytes | None
) -> Record:
    return Record(topic, 0, offset, -1, timestamp, key, value, _headers.decode(headers) if headers else None)


def _first(database: sqlite3.Connection, table: str, end: int) -> int:
    (first,) = database.execute(f"SELECT min(offset) FROM {table}").fetchone()
    return end if first is None else first


def _since(database: sqlite3.Connection, table: str, first: int, end: int, timestamp: int) -> int:
    return first + bisect_left(_Timestamps(database, table, first, end), timestamp)


def _open(directory: Path) -> sqlite3.Connection:
    path = directory / DATABASE
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's other files take its mode
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for setting in ("journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={WAL_BYTES}", "busy_timeout=5000"):
            database.execute(f"PRAGMA {setting}").fetchall()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with _Transaction(database):
                database.execute(
                    "CREATE TABLE topic (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, id BLOB NOT NULL,"
                    " next INTEGER NOT NULL) STRICT"
                )
                database.execute(f"PRAGMA user_version={FORMAT}")
        elif version != FORMAT:
            raise SourceError(f"it has format {version}, this version of fanout reads format {FORMAT}")
    except BaseException:
        database.close()
        raise
    return database
