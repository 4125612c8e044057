"""Facts between nodes: what is written, what is read back, and what is no fact."""

import asyncio
from collections.abc import Sequence

import pytest

from fanout.control import Control, Fact
from fanout.errors import SourceBusy, SourceError
from fanout.sources.base import Appended, Done, NewRecord
from tests.support.sources import NeverStarted


class Log(NeverStarted):
    """A source that answers each append with what the test put there."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []
        self.failure: SourceError | None = None
        self.busy = False

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        if self.busy:
            raise SourceBusy("full")
        self.records.extend(records)
        done(self.failure or [Appended(record.topic, 0, 0, 1) for record in records])


class Bed:
    def __init__(self) -> None:
        self.log = Log()
        self.control = Control(self.log, "facts")
        self.heard: list[tuple[str, Fact]] = []
        self.control.listen("node", lambda name, fact: self.heard.append((name, fact)))

    async def read(self, *facts: tuple[bytes | None, bytes | None]) -> None:
        """The node reads these records, on another thread."""
        await asyncio.to_thread(self.control.taken, facts)
        await asyncio.sleep(0)


@pytest.fixture
async def bed() -> Bed:
    return Bed()


async def test_a_fact_is_a_record_under_its_key(bed: Bed) -> None:
    told: list[SourceError | None] = []
    bed.control.tell("node", "a:b", {"n": 1}, told.append)
    bed.control.tell("node", "a:b", None)
    assert bed.log.records == [
        NewRecord("facts", b"node:a:b", b'{"n":1}', ()),
        NewRecord("facts", b"node:a:b", None, ()),
    ]
    assert told == [None]


async def test_a_fact_that_the_log_has_not_is_told(bed: Bed) -> None:
    told: list[SourceError | None] = []
    bed.log.failure = SourceError("gone")
    bed.control.tell("node", "a", {}, told.append)
    bed.log.busy = True
    bed.control.tell("node", "a", {}, told.append)
    assert [type(problem) for problem in told] == [SourceError, SourceBusy]


async def test_facts_are_heard_in_order_by_who_listens_to_their_kind(bed: Bed) -> None:
    await bed.read((b"node:a", b'{"n":1}'), (b"other:a", b"{}"), (b"node:a", None), (b"node:b:c", b"{}"))
    assert bed.heard == [("a", {"n": 1}), ("a", None), ("b:c", {})]


async def test_what_is_no_fact_is_skipped(bed: Bed) -> None:
    await bed.read((None, b"{}"), (b"node:\xff", b"{}"), (b"node:a", b"{"), (b"node:a", b"[]"), (b"node:z", b"{}"))
    assert bed.heard == [("z", {})]


async def test_who_fails_to_understand_a_fact_keeps_no_other_from_being_heard(
    bed: Bed, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(name: str, fact: Fact) -> None:
        raise KeyError(name)

    bed.control.listen("odd", fail)
    await bed.read((b"odd:a", b"{}"), (b"node:z", b"{}"))
    assert bed.heard == [("z", {})]
    assert "'odd' was not understood" in caplog.text
