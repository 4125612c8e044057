"""The embedded log and its disk: who owns it, what survives, what happens when it is full."""

import asyncio
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fanout.errors import SourceError
from fanout.sources import embedded
from fanout.sources.base import NewRecord
from fanout.sources.embedded import COMMIT_RECORDS, EmbeddedSource
from fanout.sources.embedded_store import DATABASE, Reader, Writer
from tests.support.sources import RecordingSink, append, begin_append, eventually, full_disk, record
from tests.unit.sources.conftest import HOUR_MS, Opener

ROOT = Path(__file__).parents[3]


# -- the directory --


async def test_the_directory_is_made_for_this_user_alone(tmp_path: Path, opened: Opener) -> None:
    directory = tmp_path / "a" / "b"
    source, _ = await opened(directory)
    await append(source, record("t", b"x"))
    assert directory.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in directory.iterdir()} == {0o600}


async def test_a_second_owner_is_refused_and_the_first_not_disturbed(tmp_path: Path, opened: Opener) -> None:
    source, _ = await opened(tmp_path)
    second = EmbeddedSource(tmp_path)
    with pytest.raises(SourceError, match="in use by another"):
        await second.start(RecordingSink(), ["t"], HOUR_MS)
    await second.stop()
    await append(source, record("t", b"x"))
    await source.stop()
    await opened(tmp_path)


@pytest.mark.parametrize("place", ["file", "file/below"])
async def test_a_place_that_is_no_directory_is_refused_in_one_line(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match=r"^cannot write to .*file.*; name a directory that this user owns$"):
        await EmbeddedSource(tmp_path / place).start(RecordingSink(), ["t"], HOUR_MS)


async def test_an_unwritable_directory_is_refused() -> None:
    with pytest.raises(SourceError, match="cannot write to /proc"):
        await EmbeddedSource(Path("/proc/fanout-data")).start(RecordingSink(), ["t"], HOUR_MS)


async def test_a_file_that_is_no_database_is_refused_and_the_lock_given_back(tmp_path: Path, opened: Opener) -> None:
    (tmp_path / DATABASE).write_bytes(b"not a database, but longer than one page header is" * 100)
    with pytest.raises(SourceError, match="not a database"):
        await EmbeddedSource(tmp_path).start(RecordingSink(), ["t"], HOUR_MS)
    (tmp_path / DATABASE).unlink()
    await opened(tmp_path)


async def test_a_database_of_another_format_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / DATABASE) as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    with pytest.raises(SourceError, match="format 99"):
        await EmbeddedSource(tmp_path).start(RecordingSink(), ["t"], HOUR_MS)


# -- what survives --

WRITES = """
import asyncio, sys
from pathlib import Path
from fanout.sources.embedded import EmbeddedSource
from tests.support.sources import RecordingSink, append, record

async def main() -> None:
    source = EmbeddedSource(Path(sys.argv[1]))
    await source.start(RecordingSink(), ["t"], 3_600_000)
    for number in range(1_000_000):
        pair = (record("t", b"%d" % number), record("t", b"%d" % number))
        for place in await append(source, *pair):
            print(place.offset, flush=True)

asyncio.run(main())
"""


def write_until_killed(directory: Path) -> int:
    """Returns the last offset that was confirmed."""
    command = [sys.executable, "-c", WRITES, str(directory)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout
        confirmed = [writer.stdout.readline() for _ in range(400)]
        os.kill(writer.pid, signal.SIGKILL)
        return int([*confirmed, *writer.stdout][-1])


async def test_what_was_confirmed_survives_a_kill_and_no_append_is_there_by_half(
    tmp_path: Path, opened: Opener
) -> None:
    confirmed = [write_until_killed(tmp_path) for _ in range(3)]
    _, sink = await opened(tmp_path)
    offsets = [r.offset for r in sink.delivered]
    assert offsets == list(range(len(offsets)))
    assert sorted(confirmed) == confirmed
    assert offsets[-1] >= confirmed[-1]
    values = sink.values("t")
    assert values[::2] == values[1::2]


COUNTS = """
import sqlite3, sys

database = sqlite3.connect(sys.argv[1])
print(database.execute("SELECT count(*) FROM record_1").fetchone()[0])
database.close()
"""


async def test_what_is_written_survives_that_another_process_looks_into_the_database(
    tmp_path: Path, opened: Opener
) -> None:
    """SQLite deletes the log it writes ahead when the last one closes: it has to see that the source is there."""
    source, _ = await opened(tmp_path)

    def counted_elsewhere() -> int:
        command = [sys.executable, "-c", COUNTS, str(tmp_path / DATABASE)]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    await append(source, record("t", b"before"))
    assert await asyncio.to_thread(counted_elsewhere) == 1
    await append(source, record("t", b"after"))
    assert await asyncio.to_thread(counted_elsewhere) == 2


# -- group commit --


async def test_what_gathers_while_the_disk_is_busy_is_committed_at_once(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, sink = await opened(tmp_path)
    write, groups, may_write = Writer.write, list[int](), threading.Event()

    def held(writer: Writer, appends: list[list[NewRecord]]) -> object:
        groups.append(len(appends))
        assert may_write.wait(10)
        return write(writer, appends)

    monkeypatch.setattr(Writer, "write", held)
    count = COMMIT_RECORDS + 500
    first = begin_append(source, record("t", b"first"))
    await eventually(lambda: groups)
    others = [begin_append(source, record("t", b"%d" % number)) for number in range(count)]
    may_write.set()
    await asyncio.gather(first, *others)
    assert groups == [1, COMMIT_RECORDS, 500]
    await eventually(lambda: len(sink.delivered) == count + 1)


# -- a disk that refuses --


async def test_a_full_disk_refuses_appends_and_is_left_behind(
    tmp_path: Path, opened: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "fanout.source.embedded")
    source, sink = await opened(tmp_path)
    await append(source, *(record("t", bytes(1000)) for _ in range(100)))
    with full_disk():
        outcome = await asyncio.wait_for(begin_append(source, record("t", bytes(100_000))), 10)
        assert isinstance(outcome, SourceError)
        assert not source.health().ok
        assert str(tmp_path) in source.health().reason
        await eventually(lambda: len(sink.delivered) == 100)
        assert len((await source.read("t", 0, 0, 100)).records) == 100, "by a reader that is opened now"
    await eventually(lambda: source.health().ok)
    (place,) = await append(source, record("t", b"after"))
    assert place.offset == 100
    await eventually(lambda: sink.values("t")[-1] == b"after")
    assert [entry.levelname for entry in caplog.records] == ["ERROR", "INFO"]


async def test_a_disk_that_cannot_be_read_is_tried_again(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, sink = await opened(tmp_path)
    read, failures = Reader.read, iter([sqlite3.OperationalError("disk I/O error")] * 2)

    def failing(reader: Reader, topic: str, offset: int, limit: int) -> object:
        if failure := next(failures, None):
            raise failure
        return read(reader, topic, offset, limit)

    monkeypatch.setattr(Reader, "read", failing)
    monkeypatch.setattr(embedded, "RETRY_S", 0.2)
    await append(source, record("t", b"x"))
    await eventually(lambda: "disk I/O error" in source.health().reason)
    await eventually(lambda: sink.values("t") == [b"x"])
    await eventually(lambda: source.health().ok)


async def test_stop_gives_up_a_disk_that_never_takes_what_waits(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, _ = await opened(tmp_path)
    monkeypatch.setattr(embedded, "DRAIN_S", 0.1)
    write = Writer.write

    def slow(writer: Writer, appends: list[list[NewRecord]]) -> object:
        time.sleep(0.5)
        return write(writer, appends)

    monkeypatch.setattr(Writer, "write", slow)
    first = begin_append(source, record("t", b"1"))
    await asyncio.sleep(0.1)
    second = begin_append(source, record("t", b"2"))
    await source.stop()
    assert isinstance(first.result(), list)
    assert isinstance(second.result(), SourceError)


async def test_a_record_that_cannot_be_stored_is_refused_alone(tmp_path: Path, opened: Opener) -> None:
    source, sink = await opened(tmp_path)
    bad = NewRecord("t", b"k", b"bad", [("\ud800", b"")])
    outcomes = [begin_append(source, r) for r in (record("t", b"1"), bad, record("t", b"2"))]
    results = [await asyncio.wait_for(outcome, 10) for outcome in outcomes]
    assert [isinstance(result, SourceError) for result in results] == [False, True, False]
    await eventually(lambda: sink.values("t") == [b"1", b"2"])
    assert source.health().ok


async def test_an_append_to_several_topics_makes_those_that_are_missing(tmp_path: Path, opened: Opener) -> None:
    source, sink = await opened(tmp_path)
    placed = await append(source, record("t", b"1"), record("other", b"2"), record("t", b"3"))
    assert [(place.topic, place.offset) for place in placed] == [("t", 0), ("other", 0), ("t", 1)]
    await eventually(lambda: sink.values("t") == [b"1", b"3"])
    assert {r.topic for r in sink.delivered} == {"t"}
