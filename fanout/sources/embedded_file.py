"""The file of the embedded log: a SQLite database, opened, checked, and changed in transactions.

Nothing is given out that is not what was written. SQLite knows a file whose structure is damaged; each record has a
checksum of all that it holds; and a file of up to `LOOKED_THROUGH_BYTES` is looked through before it is used.
"""

import os
import sqlite3
import sys
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from fanout.errors import SourceError

__all__ = [
    "DATABASE",
    "DamagedLog",
    "Topic",
    "Transaction",
    "checksum_of",
    "first_offset",
    "look_through",
    "offset_since",
    "open_database",
]

FORMAT: Final = 2  # of the database, in its user_version
DATABASE: Final = "log.sqlite3"
WAL_BYTES: Final = 64 << 20  # what the write-ahead log is cut back to after a burst
LOOKED_THROUGH_BYTES: Final = 64 << 20  # some 0.1 s; what is larger is checked as it is read


class DamagedLog(sqlite3.DatabaseError):
    """The file is not as it was written."""


class Topic:
    """A topic's table, the offset that its next record gets, and, of a topic of state, how far it is compacted."""

    __slots__ = ("clean", "id", "is_state", "name", "next", "table")

    def __init__(self, number: int, name: str, topic_id: bytes, next_offset: int) -> None:
        self.table = f"record_{number}"
        self.name = name
        self.id = topic_id
        self.next = next_offset
        self.is_state = False
        self.clean = 0  # below it no record has an older one of its key, as far as this process has looked

    @property
    def checksum(self) -> int:
        """Of what stays the same."""
        return zlib.crc32(repr((self.table, self.name, self.id)).encode())


class Transaction:
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
        timestamp = row[0] if row else sys.maxsize  # the last of all were compacted away
        if not isinstance(timestamp, int):
            raise DamagedLog(f"a record behind {self._first + index} is damaged; restore the directory")
        return timestamp


def checksum_of(offset: int, timestamp: int, key: bytes | None, value: bytes | None, headers: bytes | None) -> int:
    """Of a record, as it stands in its row."""
    place = zlib.crc32(b"%d %d" % (offset, timestamp))
    return zlib.crc32(value or b"", zlib.crc32(headers or b"", zlib.crc32(key or b"", place)))


def first_offset(database: sqlite3.Connection, table: str, end: int) -> int:
    """The earliest offset there is; `end` if there is none. Raises sqlite3.Error."""
    (first,) = database.execute(f"SELECT min(offset) FROM {table}").fetchone()
    return end if first is None else first


def offset_since(database: sqlite3.Connection, table: str, first: int, end: int, timestamp: int) -> int:
    """Of those from `first` on, the first that is not older than `timestamp`, in ms; `end` if there is none."""
    return first + bisect_left(_Timestamps(database, table, first, end), timestamp)


def look_through(database: sqlite3.Connection) -> None:
    """Raises DamagedLog, or another sqlite3.Error, for a broken file that is small enough to be looked through."""
    (pages,), (size,) = (database.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    if pages * size > LOOKED_THROUGH_BYTES:
        return
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedLog(f"{DATABASE} is damaged ({verdict}); restore the directory, or name another one")


def open_database(directory: Path) -> sqlite3.Connection:
    """Opens the database, which is made if there is none. Raises sqlite3.Error, SourceError for another format."""
    path = directory / DATABASE
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))  # SQLite's other files take its mode
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for setting in ("journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={WAL_BYTES}", "busy_timeout=5000"):
            database.execute(f"PRAGMA {setting}").fetchall()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with Transaction(database):
                database.execute(
                    "CREATE TABLE topic (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, id BLOB NOT NULL,"
                    " next INTEGER NOT NULL, checksum INTEGER NOT NULL) STRICT"
                )
                database.execute(f"PRAGMA user_version={FORMAT}")
        elif version != FORMAT:
            raise SourceError(f"it has format {version}, this version of fanout reads format {FORMAT}")
    except BaseException:
        database.close()
        raise
    return database
