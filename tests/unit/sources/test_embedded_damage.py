"""A file that is not as it was written is refused or reported, and nothing of what is wrong is given out."""

import os
import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from fanout.errors import SourceDamaged, SourceError
from fanout.sources import embedded_file
from fanout.sources.embedded import EmbeddedSource
from fanout.sources.embedded_store import DATABASE, Writer
from tests.support.sources import RecordingSink, append, eventually, record
from tests.unit.sources.conftest import HOUR_MS, Opener

COUNT = 300


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Of a log with records in `t`, all in its file."""
    writer = Writer(tmp_path)
    writer.topic("t")
    writer.write([[record("t", b"value %d " % number * 20, b"key") for number in range(COUNT)]])
    writer.close()
    return tmp_path


def change(directory: Path, statement: str) -> None:
    """Changes a record behind the log's back."""
    with closing(sqlite3.connect(directory / DATABASE, isolation_level=None)) as database:
        database.execute(statement)


async def test_a_broken_file_is_refused_when_it_is_opened(directory: Path) -> None:
    pages = (directory / DATABASE).stat().st_size // 4096
    with (directory / DATABASE).open("r+b") as file:
        file.seek(pages // 2 * 4096)
        file.write(os.urandom(4096))
    for _ in range(2):  # also the second time: nothing of the first is left
        with pytest.raises(SourceError, match=r"cannot open the log in .* (damaged|malformed)"):
            await EmbeddedSource(directory).start(RecordingSink(), ["t"], HOUR_MS)


async def test_a_file_without_its_end_is_refused(directory: Path) -> None:
    os.truncate(directory / DATABASE, (directory / DATABASE).stat().st_size // 2)
    with pytest.raises(SourceError, match="cannot open the log in"):
        await EmbeddedSource(directory).start(RecordingSink(), ["t"], HOUR_MS)


@pytest.mark.parametrize("column", ["next = 5", "name = 'u'", "id = x'00'", "checksum = 0"])
async def test_a_topic_that_is_not_as_it_was_written_is_refused(directory: Path, column: str) -> None:
    change(directory, f"UPDATE topic SET {column}")
    with pytest.raises(SourceError, match=r"topic '.' is damaged"):
        await EmbeddedSource(directory).start(RecordingSink(), ["t"], HOUR_MS)


@pytest.mark.parametrize(
    "column",
    ["value = x'00'", "value = NULL", "key = x'00'", "headers = x'90'", "timestamp = timestamp + 1", "checksum = 0"],
)
async def test_a_record_that_is_not_as_it_was_written_is_reported_and_never_given_out(
    directory: Path, opened: Opener, column: str
) -> None:
    change(directory, f"UPDATE record_1 SET {column} WHERE offset = 7")
    source, sink = await opened.reading(directory)
    await eventually(lambda: not source.health().ok)
    assert "record 7 of topic 't' is damaged" in source.health().reason
    assert not sink.is_ready
    assert sink.delivered == []
    assert [found.offset for found in (await source.read("t", 0, 0, COUNT)).records] == list(range(7))
    with pytest.raises(SourceDamaged, match="record 7 of topic 't' is damaged"):
        await source.read("t", 0, 7, COUNT)
    assert len((await source.read("t", 0, 8, COUNT)).records) == COUNT - 8


async def test_behind_what_is_damaged_the_log_begins_anew_and_health_says_so(directory: Path, opened: Opener) -> None:
    source, _ = await opened(directory)
    change(directory, "UPDATE record_1 SET value = x'00' WHERE offset IN (100, 101, 150)")
    given, begins = await read_all(source)
    assert given == [*range(100), *range(102, 150), *range(151, COUNT)]
    assert begins == [102, 151]
    assert await source.bounds("t") == {0: (151, COUNT)}
    assert await source.since("t", 0) == {0: 151}
    health = source.health()
    assert health.ok
    assert "record 150 of topic 't' is damaged" in health.reason
    change(directory, "DELETE FROM record_1 WHERE offset < 200")  # as retention does
    assert await source.bounds("t") == {0: (200, COUNT)}
    assert source.health().reason == ""


async def test_a_page_that_is_damaged_is_read_past(directory: Path, opened: Opener) -> None:
    source, sink = await opened(directory)
    for _ in range(2):  # whoever deletes what is old has looked
        await append(source, record("t", b"before"))
    with (directory / DATABASE).open("r+b") as file:
        file.seek((directory / DATABASE).stat().st_size // 8192 * 4096)
        file.write(os.urandom(4096))
    given, begins = await read_all(source)
    assert given == sorted(set(given))
    assert COUNT // 2 < len(given) < COUNT
    assert begins
    await append(source, record("t", b"live"))
    await eventually(lambda: sink.values("t")[-1] == b"live")
    assert source.health().ok


async def read_all(source: EmbeddedSource) -> tuple[list[int], list[int]]:
    """All offsets that can be read back, and where the log began, each time that something was damaged."""
    given: list[int] = []
    begins: list[int] = []
    place = 0
    while place < COUNT:
        try:
            part = await source.read("t", 0, place, COUNT)
        except SourceDamaged:
            (place, _) = (await source.bounds("t"))[0]
            begins.append(place)
        else:
            given += [found.offset for found in part.records]
            place = part.next
    return given, begins


async def test_damage_while_the_log_is_read_is_reported_and_what_is_written_refused_or_kept(
    directory: Path, opened: Opener
) -> None:
    source, sink = await opened(directory)
    sink.gate.clear()
    await append(source, record("t", b"before"))
    await eventually(lambda: len(sink.delivered) > COUNT)
    (place,) = await append(source, record("t", b"damaged"))
    change(directory, f"UPDATE record_1 SET value = x'00' WHERE offset = {place.offset}")
    sink.gate.set()
    await eventually(lambda: f"record {place.offset} of topic 't' is damaged" in source.health().reason)
    assert sink.values("t")[-1] == b"before"


def garbage(file: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(file))
    file[at] ^= 1 << chance.randrange(8)


def zeros(file: bytearray, chance: random.Random) -> None:
    at = chance.randrange(len(file) // 512) * 512
    file[at : at + 512] = bytes(512)


@pytest.mark.parametrize("harm", [garbage, zeros])
async def test_wherever_a_file_is_damaged_what_is_given_out_is_what_was_written(
    directory: Path, harm: Callable[[bytearray, random.Random], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_file, "LOOKED_THROUGH_BYTES", 0)  # as with a large file
    sound = (directory / DATABASE).read_bytes()
    for seed in range(60):
        file = bytearray(sound)
        harm(file, random.Random(seed))
        (directory / DATABASE).write_bytes(file)
        source, sink = EmbeddedSource(directory), RecordingSink()
        try:
            await source.start(sink, ["t"], HOUR_MS)
        except SourceError:
            continue
        await eventually(lambda: sink.is_ready or not source.health().ok)  # noqa: B023  it is awaited in this round
        for given in sink.delivered:
            assert (given.key, given.value) == (b"key", b"value %d " % given.offset * 20), seed
        await source.stop()
