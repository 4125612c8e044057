"""What becomes of old records in the embedded log: they are deleted a slice at a time, so that appends never wait long.

- Messages go when they are older than the retention time, or the log larger than it may be: the oldest first.
- A topic of state keeps the newest record of each key, and none of a key that was taken back.
"""

import sqlite3
from collections.abc import Mapping
from typing import Final

from fanout.sources.embedded_file import Topic, Transaction, first_offset, offset_since

__all__ = ["EXPIRE_BYTES", "Upkeep"]

EXPIRE_SLICE: Final = 5_000  # records deleted in one transaction: appends wait for it some 20 ms
EXPIRE_BYTES: Final = 2 << 20  # the same, for records of 1 KiB and more; the record which reaches it included
SPARE_SHARE: Final = 16  # of its size, that a log which is too large is made smaller than it may be
COMPACT_SLICE: Final = 1_000  # records of a topic of state looked at in one transaction: each may delete another


class Upkeep:
    """Of the log that a `Writer` has open; belongs to its thread."""

    def __init__(self, database: sqlite3.Connection, topics: Mapping[str, Topic]) -> None:
        """`topics` are all that there are, by name, also those to come."""
        self._database = database
        self._topics = topics

    def expire(self, before_ms: int) -> bool:
        """Deletes one slice of what is older than `before_ms`; tells whether more is left. Raises sqlite3.Error."""
        for topic in self._topics.values():
            if topic.is_state:
                continue
            keep = self._offset_since(topic, before_ms)
            if first_offset(self._database, topic.table, topic.next) < keep:
                self._delete(topic, keep)
                return True
        return False

    def shrink(self, bytes_max: int) -> bool:
        """Deletes one slice of the oldest there is, if the log holds more than `bytes_max`, and somewhat more than it
        has to, so that not every append is followed by a deletion. Tells whether more is to be deleted. Topics of state
        are left alone. Raises sqlite3.Error.
        """
        excess = self._size() - bytes_max
        if excess <= 0:
            return False
        firsts = []
        for topic in self._topics.values():
            query = f"SELECT timestamp FROM {topic.table} ORDER BY offset LIMIT 1"
            row = None if topic.is_state else self._database.execute(query).fetchone()
            if row is not None:
                firsts.append((row[0], topic))
        if not firsts:
            return False
        firsts.sort(key=lambda first: first[0])
        topic, end = firsts[0][1], firsts[0][1].next
        if len(firsts) > 1:
            end = self._offset_since(topic, firsts[1][0] + 1)
        self._delete(topic, end, excess + bytes_max // SPARE_SHARE)
        return self._size() > bytes_max

    def compact(self, before_ms: int, delivered: Mapping[str, int]) -> bool:
        """Looks at one slice of the topics of state: at records older than `before_ms` and, since whoever was given a
        key must be given that it was taken back, below the offset that is `delivered`. Deletes what each has replaced,
        and those without a value themselves. Tells whether more is left. Raises sqlite3.Error.
        """
        for topic in self._topics.values():
            if topic.is_state and self._compact(topic, before_ms, delivered[topic.name]):
                return True
        return False

    def _compact(self, topic: Topic, before_ms: int, end: int) -> bool:
        until = offset_since(self._database, topic.table, topic.clean, end, before_ms)
        rows = self._database.execute(
            f"SELECT offset, key, value IS NULL FROM {topic.table} WHERE offset >= ? AND offset < ?"
            " ORDER BY offset LIMIT ?",
            (topic.clean, until, COMPACT_SLICE),
        ).fetchall()
        if rows:
            with Transaction(self._database):
                replaced = [(key, offset) for offset, key, _ in rows]
                self._database.executemany(f"DELETE FROM {topic.table} WHERE key = ? AND offset < ?", replaced)
                taken_back = [(offset,) for offset, _, is_null in rows if is_null]
                self._database.executemany(f"DELETE FROM {topic.table} WHERE offset = ?", taken_back)
        more = len(rows) == COMPACT_SLICE
        topic.clean = rows[-1][0] + 1 if more else until
        return more

    def _size(self) -> int:
        """Bytes in use; what was deleted is free in the file, and filled again."""
        pages, free, size = (
            int(self._database.execute(f"PRAGMA {name}").fetchone()[0])
            for name in ("page_count", "freelist_count", "page_size")
        )
        return (pages - free) * size

    def _offset_since(self, topic: Topic, timestamp: int) -> int:
        first = first_offset(self._database, topic.table, topic.next)
        return offset_since(self._database, topic.table, first, topic.next, timestamp)

    def _delete(self, topic: Topic, end: int, size: int = EXPIRE_BYTES) -> None:
        """Deletes the first records of a topic below `end`: one slice, and no more than makes up `size` bytes."""
        rows = self._database.execute(
            "SELECT offset, ifnull(length(key), 0) + ifnull(length(value), 0) + ifnull(length(headers), 0)"
            f" FROM {topic.table} WHERE offset < ? ORDER BY offset LIMIT ?",
            (end, EXPIRE_SLICE),
        )
        last, left = -1, min(size, EXPIRE_BYTES)
        for last, length in rows:  # noqa: B007  the last one looked at is what counts
            left -= length
            if left <= 0:
                break
        rows.close()
        with Transaction(self._database):
            self._database.execute(f"DELETE FROM {topic.table} WHERE offset <= ?", (last,))
