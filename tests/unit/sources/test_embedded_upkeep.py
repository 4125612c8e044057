"""What the embedded log deletes: by age, by size, and of topics of state what newer records have replaced."""

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from itertools import count
from pathlib import Path

import pytest

from fanout.sources import embedded, embedded_upkeep
from fanout.sources.embedded import EmbeddedSource
from fanout.sources.embedded_store import DATABASE, Reader, Writer
from fanout.sources.embedded_upkeep import COMPACT_SLICE, EXPIRE_BYTES, EXPIRE_SLICE, Upkeep
from tests.support.sources import RecordingSink, append, eventually, record
from tests.unit.sources.conftest import HOUR_MS, Opener


class Clocked:
    """A log whose clock is set by hand; `state` is a topic of state."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0
        monkeypatch.setattr(time, "time_ns", lambda: self.now * 1_000_000)
        self.directory = directory
        self.open()

    def open(self) -> None:
        self.writer = Writer(self.directory)
        self.end = self.writer.topic("state", is_state=True)[1]

    def write(self, now: int, *pairs: tuple[bytes, bytes | None]) -> None:
        self.now = now
        places = self.writer.write([[record("state", value, key) for key, value in pairs]])
        self.end = places[0][-1].offset + 1

    def compact(self, before_ms: int, delivered: int | None = None) -> bool:
        return self.writer.upkeep.compact(before_ms, {"state": self.end if delivered is None else delivered})

    def count(self, topic: str) -> int:
        reader = Reader(self.directory)
        records = reader.read(topic, 0, 10_000)
        reader.close()
        return len(records)

    @property
    def held(self) -> list[tuple[int, bytes | None, bytes | None]]:
        reader = Reader(self.directory)
        records = reader.read("state", 0, 10_000)
        reader.close()
        return [(r.offset, r.key, r.value) for r in records]


@pytest.fixture
def clocked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Clocked]:
    log = Clocked(tmp_path, monkeypatch)
    yield log
    log.writer.close()


# -- retention --


async def test_retention_deletes_what_is_old_and_never_gives_an_offset_twice(tmp_path: Path, opened: Opener) -> None:
    source, _ = await opened(tmp_path)
    await append(source, *(record("t", b"old") for _ in range(10)))
    await source.stop()
    await asyncio.sleep(0.1)
    source, sink = await opened(tmp_path, retention_ms=50)
    await source.stop()
    source, sink = await opened(tmp_path)
    assert sink.delivered == []
    assert sink.partitions[0][3] == 10
    (place,) = await append(source, record("t", b"new"))
    assert place.offset == 10


async def test_retention_that_overtakes_the_reader_is_told_as_a_new_start(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "EXPIRE_EVERY_S", 0.05)
    source, sink = await opened(tmp_path, retention_ms=200)
    sink.gate.clear()
    await append(source, record("t", b"1"))
    await eventually(lambda: sink.delivered)
    await append(source, *(record("t", b"x") for _ in range(5)))
    await eventually(lambda: first_held(tmp_path) is None)
    await append(source, record("t", b"2"))
    sink.gate.set()
    await eventually(lambda: sink.values("t") == [b"1", b"2"])
    (first, second) = sink.partitions
    assert second == (*first[:3], 6)
    assert source.lag() == {("t", 0): 0}


def first_held(directory: Path) -> int | None:
    """The first offset of the topic `t` in the file."""
    with closing(sqlite3.connect(directory / DATABASE)) as database:
        offset: int | None = database.execute("SELECT min(offset) FROM record_1").fetchone()[0]
        return offset


@pytest.mark.parametrize("work", ["expire", "shrink", "compact"])
async def test_upkeep_that_never_ends_lets_appends_and_readers_between(
    work: str, tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = count()
    monkeypatch.setattr(Upkeep, work, lambda *_: next(slices) >= 0)
    source, sink = await opened(tmp_path, retention_bytes=1 << 30)
    for number in range(20):
        await append(source, record("t", b"%d" % number))
    await eventually(lambda: len(sink.delivered) == 20)
    assert next(slices) > 20


async def test_retention_by_size_deletes_the_oldest_while_the_log_is_read(
    tmp_path: Path, opened: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_upkeep, "EXPIRE_BYTES", 100_000)
    source, sink = await opened(tmp_path, retention_bytes=2 << 20)
    for _ in range(8):
        await append(source, *(record("t", bytes(10_000)) for _ in range(100)))
    await eventually(lambda: (first_held(tmp_path) or 0) > 550)
    await append(source, record("t", b"more"))
    await eventually(lambda: len(sink.delivered) == 801)  # whoever reads is given all that came
    first = first_held(tmp_path)
    assert first is not None
    assert first < 650, "some 200 records fit"


async def test_retention_by_size_keeps_up_with_whoever_writes_more_than_a_slice_at_once(
    tmp_path: Path, opened: Opener
) -> None:
    source, _ = await opened(tmp_path, retention_bytes=1 << 20)
    group = 3 * EXPIRE_BYTES
    for _ in range(10):
        await append(source, *(record("t", bytes(group // 20)) for _ in range(20)))
    await source.stop()
    assert (tmp_path / DATABASE).stat().st_size < 3 * group


def test_retention_by_size_goes_by_age_over_all_topics_and_leaves_some_room(clocked: Clocked) -> None:
    for now, topic in ((1, "one"), (2, "two"), (3, "one"), (4, "two")):
        clocked.now = now
        clocked.writer.write([[record(topic, bytes(10_000))] * 100])
    clocked.write(5, *((b"%d" % number, bytes(10_000)) for number in range(50)))

    def counts(bytes_max: int) -> tuple[int, int]:
        while clocked.writer.upkeep.shrink(bytes_max):
            pass
        return clocked.count("one"), clocked.count("two")

    assert counts(10_000_000) == (200, 200)
    one, two = counts(3_300_000)
    assert (one, 120 < two < 180) == (100, True)
    assert counts(3_300_000) == (one, two)
    clocked.writer.write([[record("two", b"x")]])
    assert counts(3_300_000) == (one, two + 1), "there is room for some more"
    one, two = counts(2_500_000)
    assert (60 < one < 100, two) == (True, 101)
    assert counts(1) == (0, 0)
    assert len(clocked.held) == 50, "what is so is kept, however large"


def test_a_slice_is_bounded_in_bytes(clocked: Clocked) -> None:
    clocked.writer.write([[record("t", bytes(1_000_000))] * 40])
    for done in range(1, 4):
        assert clocked.writer.upkeep.expire(1)
        assert clocked.count("t") == 40 - done * (EXPIRE_BYTES // 1_000_000 + 1)


def test_retention_deletes_in_slices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(1, 1_000_000))
    monkeypatch.setattr(time, "time_ns", lambda: next(clock) * 1_000_000)
    writer = Writer(tmp_path)
    for _ in range(3):  # at 1, 2 and 3 ms
        writer.write([[record("t", b"x")] * EXPIRE_SLICE])
    assert writer.upkeep.expire(3)
    assert writer.upkeep.expire(3)
    assert not writer.upkeep.expire(3)
    reader = Reader(tmp_path)
    assert reader.read("t", 0, 1)[0].offset == 2 * EXPIRE_SLICE
    assert reader.since("t", 3, 3 * EXPIRE_SLICE) == 2 * EXPIRE_SLICE
    assert reader.since("t", 4, 3 * EXPIRE_SLICE) == 3 * EXPIRE_SLICE
    reader.close()
    writer.close()


def test_of_what_is_old_the_newest_of_each_key_stays(clocked: Clocked) -> None:
    clocked.write(1, (b"a", b"1"), (b"b", b"1"), (b"a", b"2"), (b"gone", b"1"))
    clocked.write(2, (b"gone", None), (b"b", b"2"))
    clocked.write(3, (b"b", b"3"), (b"a", None))
    assert not clocked.compact(3)
    assert clocked.held == [(2, b"a", b"2"), (5, b"b", b"2"), (6, b"b", b"3"), (7, b"a", None)]
    assert not clocked.compact(4)
    assert clocked.held == [(6, b"b", b"3")]
    assert not clocked.compact(9)
    clocked.write(10, (b"b", None))
    clocked.compact(11)
    assert clocked.held == []
    clocked.writer.close()
    clocked.open()
    clocked.compact(12)
    clocked.write(13, (b"c", b"1"))
    assert clocked.held == [(9, b"c", b"1")]


def test_what_is_not_delivered_is_not_taken_back_unseen(clocked: Clocked) -> None:
    clocked.write(1, (b"a", b"1"), (b"a", None))
    clocked.compact(9, delivered=1)
    assert clocked.held == [(0, b"a", b"1"), (1, b"a", None)]
    clocked.compact(9, delivered=2)
    assert clocked.held == []


def test_compaction_goes_by_slices_and_over_its_own_gaps(clocked: Clocked) -> None:
    for now in range(1, 4):
        clocked.write(now, *((b"%d" % n, b"x") for n in range(COMPACT_SLICE)))
    assert [clocked.compact(9) for _ in range(4)] == [True, True, True, False]
    assert [offset for offset, _, _ in clocked.held] == list(range(2 * COMPACT_SLICE, 3 * COMPACT_SLICE))
    clocked.writer.close()
    clocked.open()
    assert [clocked.compact(9) for _ in range(2)] == [True, False]
    assert len(clocked.held) == COMPACT_SLICE


async def test_topics_of_state_are_compacted_and_outlive_retention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "EXPIRE_EVERY_S", 0.05)
    source, sink = EmbeddedSource(tmp_path, retention_ms=1), RecordingSink()
    await source.start(sink, ["t"], 1, ["state"])
    await append(source, record("t", b"x"), *(record("state", b"%d" % n) for n in range(5)))
    await asyncio.sleep(1)
    await source.stop()
    source, sink = EmbeddedSource(tmp_path), RecordingSink()
    await source.start(sink, ["t"], HOUR_MS, ["state"])
    await eventually(lambda: sink.is_ready)
    await source.stop()
    assert (sink.values("t"), sink.values("state")) == ([], [b"4"])
