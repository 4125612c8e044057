"""Each opening of the embedded log begins a leader epoch, by which one that was put back to what it was is noticed."""

import sqlite3
import time
import zlib
from contextlib import closing
from pathlib import Path

import pytest

from fanout.errors import SourceError
from fanout.sources import embedded_file
from fanout.sources.embedded import EmbeddedSource
from fanout.sources.embedded_file import CLOCK_MAX, EPOCH_MAX, new_epoch
from fanout.sources.embedded_store import DATABASE, Reader, Writer
from tests.support.sources import RecordingSink, append, record
from tests.unit.sources.conftest import HOUR_MS, Opener


async def test_what_one_opening_writes_is_of_one_epoch_and_newer_than_what_was_there(
    tmp_path: Path, opened: Opener
) -> None:
    for value in (b"a", b"b", b"c"):
        source, _ = await opened(tmp_path)
        await append(source, record("t", value))
        await append(source, record("t", value))
        await source.stop()
    source, sink = await opened(tmp_path)
    epochs = [found.leader_epoch for found in sink.delivered]
    assert epochs[::2] == epochs[1::2] == sorted(set(epochs))
    assert epochs[0] >= 0
    assert [found.leader_epoch for found in (await source.read("t", 0, 0, 6)).records] == epochs


async def test_an_opening_that_writes_nothing_leaves_nothing(tmp_path: Path, opened: Opener) -> None:
    for _ in range(3):
        await (await opened(tmp_path))[0].stop()
    with closing(sqlite3.connect(tmp_path / DATABASE)) as database:
        assert database.execute("SELECT epoch FROM topic").fetchall() == [(-1,)]


def test_an_epoch_is_newer_than_the_file_and_than_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = new_epoch(-1)
    assert new_epoch(begun + 1_000) == begun + 1_001
    monkeypatch.setattr(embedded_file, "EPOCHS_BEGIN_S", embedded_file.EPOCHS_BEGIN_S - 3_600)  # an hour later
    assert new_epoch(begun) >= begun + 3_600
    monkeypatch.setattr(embedded_file, "EPOCHS_BEGIN_S", -EPOCH_MAX)
    assert new_epoch(-1) == CLOCK_MAX, "a clock that is far ahead"


async def test_an_epoch_that_no_opening_began_is_damage(tmp_path: Path, opened: Opener) -> None:
    await (await opened(tmp_path))[0].stop()
    with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as database:
        database.execute(f"UPDATE topic SET epoch = {EPOCH_MAX}")
    with pytest.raises(SourceError, match="topic 't' is damaged"):
        await EmbeddedSource(tmp_path).start(RecordingSink(), ["t"], HOUR_MS)


def write_format_2(directory: Path) -> None:
    """Makes a log as it was before records had epochs, with two records in `t`."""
    name, topic_id, now = "t", b"i" * 16, time.time_ns() // 1_000_000
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as database:
        database.execute(
            "CREATE TABLE topic (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, id BLOB NOT NULL,"
            " next INTEGER NOT NULL, checksum INTEGER NOT NULL) STRICT"
        )
        checksum = zlib.crc32(repr(("record_1", name, topic_id)).encode())
        database.execute("INSERT INTO topic VALUES (1, ?, ?, 2, ?)", (name, topic_id, checksum))
        database.execute(
            "CREATE TABLE record_1 (offset INTEGER PRIMARY KEY, timestamp INTEGER NOT NULL,"
            " key BLOB, value BLOB, headers BLOB, checksum INTEGER NOT NULL) STRICT"
        )
        for offset in range(2):
            checksum = zlib.crc32(b"old", zlib.crc32(b"%d %d" % (offset, now)))
            database.execute("INSERT INTO record_1 VALUES (?, ?, NULL, ?, NULL, ?)", (offset, now, b"old", checksum))
        database.execute("PRAGMA user_version=2")


async def test_a_log_without_epochs_is_read_and_written_on(tmp_path: Path, opened: Opener) -> None:
    write_format_2(tmp_path)
    for value in (b"new", b"newer"):
        source, _ = await opened(tmp_path)
        await append(source, record("t", value))
        found = (await source.read("t", 0, 0, 4)).records
        await source.stop()
    assert [one.value for one in found] == [b"old", b"old", b"new", b"newer"]
    assert [one.leader_epoch for one in found[:2]] == [-1, -1]
    assert 0 <= found[2].leader_epoch < found[3].leader_epoch


def test_who_only_reads_does_not_change_a_log_of_another_format(tmp_path: Path) -> None:
    write_format_2(tmp_path)
    with pytest.raises(SourceError, match="format 2"):
        Reader(tmp_path)
    Writer(tmp_path).close()
    Reader(tmp_path).close()
