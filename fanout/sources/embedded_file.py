"""The file of the embedded log: a SQLite database, opened, checked, and changed in transactions.

Each record has the leader epoch that it was written in. Whoever opens the file to write begins one that is newer than
all that the file knows, and than the clock: a file that was put back to what it was, and is written on, so has other
epochs than what it had in the meantime. Records of format 2 have none.

Nothing is given out that is not what was written. SQLite knows a file whose structure is damaged; each record has a
checksum of all that it holds; and a file of up to `LOOKED_THROUGH_BYTES` is looked through before it is used.
"""

import contextlib
import os
import sqlite3
import sys
import time
import zlib
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from fanout.errors import SourceError

__all__ = [
    "DATABASE",
    "EPOCH_MAX",
    "DamagedLog",
    "DamagedRange",
    "Topic",
    "Transaction",
    "checksum_of",
    "first_offset",
    "is_damage",
    "look_through",
    "new_epoch",
    "offset_since",
    "open_database",
]

FORMAT: Final = 3  # of the database, in its user_version
FORMAT_WITHOUT_EPOCHS: Final = 2
DATABASE: Final = "log.sqlite3"
WAL_BYTES: Final = 64 << 20  # what the write-ahead log is cut back to after a burst
EPOCHS_BEGIN_S: Final = 1_577_836_800  # 2020, in seconds since 1970: what the clock says of epochs counts from there
EPOCH_MAX: Final = (1 << 31) - 1  # an epoch has 32 bits, as Kafka's
CLOCK_MAX: Final = EPOCH_MAX - (1 << 20)  # of a clock that is decades ahead: it leaves room for as many openings
LOOKED_THROUGH_BYTES: Final = 64 << 20  # some 0.1 s; what is larger is checked as it is read


class DamagedLog(sqlite3.DatabaseError):
    """The file is not as it was written."""


class DamagedRange(DamagedLog):
    """Records that are not as they were written, from where a range begins; from `sound` on they are again."""

    def __init__(self, problem: object, sound: int) -> None:
        super().__init__(str(problem))
        self.sound = sound


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


def checksum_of(
    offset: int, timestamp: int, key: bytes | None, value: bytes | None, headers: bytes | None, epoch: int
) -> int:
    """Of a record, as it stands in its row."""
    place = zlib.crc32(b"%d %d" % (offset, timestamp) if epoch < 0 else b"%d %d %d" % (offset, timestamp, epoch))
    return zlib.crc32(value or b"", zlib.crc32(headers or b"", zlib.crc32(key or b"", place)))


def first_offset(database: sqlite3.Connection, table: str, end: int) -> int:
    """The earliest offset there is; `end` if there is none. Raises sqlite3.Error."""
    (first,) = database.execute(f"SELECT min(offset) FROM {table}").fetchone()
    return end if first is None else first


def offset_since(database: sqlite3.Connection, table: str, first: int, end: int, timestamp: int) -> int:
    """Of those from `first` on, the first that is not older than `timestamp`, in ms; `end` if there is none."""
    return first + bisect_left(_Timestamps(database, table, first, end), timestamp)


def is_damage(problem: sqlite3.Error) -> bool:
    """Whether the file is not as it was written, which trying again does not mend."""
    code: int = getattr(problem, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return isinstance(problem, DamagedLog) or code & 0xFF == sqlite3.SQLITE_CORRUPT


def look_through(database: sqlite3.Connection) -> None:
    """Raises DamagedLog, or another sqlite3.Error, for a broken file that is small enough to be looked through."""
    (pages,), (size,) = (database.execute(f"PRAGMA {name}").fetchone() for name in ("page_count", "page_size"))
    if pages * size > LOOKED_THROUGH_BYTES:
        return
    (verdict,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise DamagedLog(f"{DATABASE} is damaged ({verdict}); restore the directory, or name another one")


def new_epoch(newest: int) -> int:
    """The epoch of what is written from now on, where `newest` is the newest one that the file knows, -1 if none."""
    return max(newest + 1, min(int(time.time()) - EPOCHS_BEGIN_S, CLOCK_MAX))


def open_database(directory: Path, *, to_write: bool = False) -> sqlite3.Connection:
    """Opens the database, which is made if there is none. One of format 2 is made to be of this one, `to_write`.

    Raises sqlite3.Error, SourceError for another format.
    """
    path = directory / DATABASE
    # SQLite's other files take its mode. One that is there is left alone: a process that closes any descriptor of a
    # file gives up all its locks on it (fcntl(2)), and then whoever else closes the database deletes the log that is
    # written to.
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        for setting in ("journal_mode=WAL", "synchronous=FULL", f"journal_size_limit={WAL_BYTES}", "busy_timeout=5000"):
            database.execute(f"PRAGMA {setting}").fetchall()
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            with Transaction(database):
                database.execute(
                    "CREATE TABLE topic (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, id BLOB NOT NULL,"
                    " next INTEGER NOT NULL, checksum INTEGER NOT NULL, epoch INTEGER NOT NULL) STRICT"
                )
                database.execute(f"PRAGMA user_version={FORMAT}")
        elif version == FORMAT_WITHOUT_EPOCHS and to_write:
            with Transaction(database):
                tables = [f"record_{number}" for (number,) in database.execute("SELECT number FROM topic")]
                for table in ("topic", *tables):
                    database.execute(f"ALTER TABLE {table} ADD COLUMN epoch INTEGER NOT NULL DEFAULT -1")
                database.execute(f"PRAGMA user_version={FORMAT}")
        elif version != FORMAT:
            raise SourceError(f"it has format {version}, this version of fanout reads format {FORMAT}")
    except BaseException:
        database.close()
        raise
    return database
