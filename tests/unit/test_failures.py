"""Failing records: which are written to dead-letter topics, by whom, and what else is told of them."""

import asyncio
import logging
from collections.abc import Collection, Sequence
from typing import Any

import pytest

from fanout import failures as failures_module
from fanout.errors import SourceError, SourceTooLarge
from fanout.failures import Failures
from fanout.rules.route import Rule
from fanout.sources.base import Appended, Done, NewRecord, Slice
from fanout.types import Record

SKIPS = Rule("orders", "#{key}")
LETTERS = Rule("orders", "#{key}", on_failure="dead-letter", dead_letter="failed")
STOPS = Rule("orders", "#{key}", on_failure="stop")


class Log:
    """A log that every node reads at once; `refuses` are the errors of the next appends."""

    def __init__(self, *refuses: SourceError) -> None:
        self.refuses = list(refuses)
        self.unreadable: list[SourceError] = []
        self.letters: list[NewRecord] = []
        self.readers: list[Failures] = []

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        """As of `fanout.sources.base.Source`."""
        if self.refuses:
            return done(self.refuses.pop())
        first = len(self.letters)
        self.letters += records
        places = [Appended(record.topic, 0, first + index, 5) for index, record in enumerate(records)]
        for reader in self.readers:
            reader.read([read_back(record, place.offset) for record, place in zip(records, places, strict=True)])
        return done(places)

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        """As of `fanout.sources.base.Source`."""
        return {0: (0, len(self.letters))}

    async def since(self, topic: str, timestamp: int, partitions: Collection[int] | None = None) -> dict[int, int]:
        """As of `fanout.sources.base.Source`: all letters are of the time 5."""
        return {0: 0 if timestamp <= 5 else len(self.letters)}

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        """As of `fanout.sources.base.Source`, two records at most."""
        if self.unreadable:
            raise self.unreadable.pop()
        found = [read_back(self.letters[offset], offset) for offset in range(start, min(start + 2, stop))]
        return Slice(found, start + len(found))

    def node(
        self,
        rule: Rule,
        wait_s: tuple[float, float] = (0.0, 0.0),
        *,
        now_ms: int = 2_000,
        history_ms: int = 2_000,
    ) -> Failures:
        """A node of this log that begins at the time `now_ms`."""
        source: Any = self  # no more is asked of one
        failures = Failures([rule], source, wait_s, history_ms=history_ms, clock=lambda: now_ms)
        self.readers.append(failures)
        return failures


def read_back(letter: NewRecord, offset: int) -> Record:
    return Record(letter.topic, 0, offset, 0, 5, letter.key, letter.value, letter.headers)


def record(offset: int, time_ms: int = 1_000) -> Record:
    headers = [("h", b"x"), ("fanout.undecodable", b"")]
    return Record("orders", 1, offset, 0, time_ms + offset, b"k", b"v%d" % offset, headers)


def fail(failures: Failures, *offsets: int, time_ms: int = 1_000) -> None:
    batch = [record(offset, time_ms) for offset in (*offsets, 99)]
    failures.taken(batch, [(("orders", 1, offset), 0, "field", "its value has no field") for offset in offsets])


async def ran(*nodes: Failures, seconds: float = 0.35) -> None:
    ready = asyncio.Event()
    ready.set()
    tasks = [asyncio.ensure_future(node.run(ready)) for node in nodes]
    await asyncio.sleep(seconds)
    for task in tasks:
        task.cancel()


async def test_a_dead_letter_is_the_record_and_why_it_failed() -> None:
    log = Log()
    node = log.node(LETTERS)
    fail(node, 7)
    await ran(node)
    assert log.letters == [
        NewRecord(
            "failed",
            b"k",
            b"v7",
            [
                ("h", b"x"),
                ("fanout.failed.topic", b"orders"),
                ("fanout.failed.partition", b"1"),
                ("fanout.failed.offset", b"7"),
                ("fanout.failed.timestamp", b"1007"),
                ("fanout.failed.cause", b"field"),
                ("fanout.failed.reason", b"its value has no field"),
            ],
        )
    ]
    assert node.counts == {"dead_letters": 1, "dead_letters_lost": 0}


async def test_of_several_nodes_one_writes() -> None:
    log = Log()
    first, second = log.node(LETTERS), log.node(LETTERS, wait_s=(0.2, 0.2))
    fail(first, 1, 2)
    fail(second, 1, 2, 3)
    await ran(first, second, seconds=0.6)
    assert [letter.value for letter in log.letters] == [b"v1", b"v2", b"v3"]
    assert (first.counts["dead_letters"], second.counts["dead_letters"]) == (2, 1)


async def test_what_was_written_before_a_node_began_is_not_written_again() -> None:
    log = Log()
    before = log.node(LETTERS)
    fail(before, 1)
    await ran(before)
    after = log.node(LETTERS)
    after.read([read_back(log.letters[0], 0), record(5)])
    fail(after, 1)
    await ran(after)
    assert len(log.letters) == 1


@pytest.mark.parametrize("time_ms", [-1, 0, 9_000_000])
async def test_of_old_records_and_of_those_to_come_nothing_is_written_that_was_longer_ago(time_ms: int) -> None:
    log = Log()
    log.letters = [NewRecord("failed", b"no", b"letter", [])]
    before = log.node(LETTERS)
    fail(before, 1, 2, 3, time_ms=time_ms)
    await ran(before, seconds=0.5)
    assert len(log.letters) == 4
    after = log.node(LETTERS, now_ms=1_000_000, history_ms=1_000)
    fail(after, 1, 2, 3, 4, time_ms=time_ms)
    await ran(after, seconds=0.5)
    assert [letter.value for letter in log.letters[1:]] == [b"v1", b"v2", b"v3", b"v4"]
    assert after.counts == {"dead_letters": 1, "dead_letters_lost": 0}


async def test_while_old_dead_letters_cannot_be_read_others_are_written() -> None:
    log = Log()
    log.letters = [NewRecord("failed", b"no", b"letter", [])]
    log.unreadable = [SourceError("away")] * 2
    node = log.node(LETTERS, now_ms=1_000_000, history_ms=1_000)
    fail(node, 1, time_ms=0)
    fail(node, 2, time_ms=999_500)
    await ran(node, seconds=0.25)
    assert [letter.value for letter in log.letters[1:]] == [b"v2"]
    await ran(node, seconds=0.5)
    assert [letter.value for letter in log.letters[1:]] == [b"v2", b"v1"]


async def test_what_the_log_refuses_is_written_later() -> None:
    log = Log(SourceError("away"))
    node = log.node(LETTERS)
    fail(node, 1)
    await ran(node, seconds=0.5)
    assert [letter.value for letter in log.letters] == [b"v1"]


async def test_one_that_is_too_large_keeps_no_other_waiting(caplog: pytest.LogCaptureFixture) -> None:
    class Narrow(Log):
        def append(self, records: Sequence[NewRecord], done: Done) -> None:
            if any(record.value == b"v2" for record in records):
                return done(SourceTooLarge("1 MB"))
            return super().append(records, done)

    log = Narrow()
    node = log.node(LETTERS)
    fail(node, 1, 2, 3)
    await ran(node, seconds=0.6)
    assert [letter.value for letter in log.letters] == [b"v1", b"v3"]
    assert node.counts == {"dead_letters": 2, "dead_letters_lost": 1}
    assert "'failed' takes no dead letter of" in caplog.text


async def test_a_topic_that_takes_none_keeps_no_other_waiting() -> None:
    class Closed(Log):
        def append(self, records: Sequence[NewRecord], done: Done) -> None:
            if any(record.topic == "failed" for record in records):
                return done(SourceError("not authorized"))
            return super().append(records, done)

    log = Closed()
    source: Any = log
    other = Rule("news", "#{key}", on_failure="dead-letter", dead_letter="failed-news")
    node = Failures([LETTERS, other], source, (0.0, 0.0))
    batch = [record(1), record(2)._replace(topic="news")]
    node.taken(batch, [(("orders", 1, 1), 0, "field", "no"), (("news", 1, 2), 1, "field", "no")])
    await ran(node)
    assert [letter.topic for letter in log.letters] == ["failed-news"]


async def test_nothing_is_written_before_the_node_has_caught_up() -> None:
    log = Log()
    node = log.node(LETTERS)
    fail(node, 1)
    waiting = asyncio.ensure_future(node.run(asyncio.Event()))
    await asyncio.sleep(0.3)
    waiting.cancel()
    assert log.letters == []


@pytest.mark.parametrize("bound", ["WAITING_MAX", "WAITING_BYTES"])
async def test_what_waits_is_bounded_and_the_rest_counted(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log()
    node = log.node(LETTERS)
    monkeypatch.setattr(failures_module, bound, {"WAITING_MAX": 2, "WAITING_BYTES": 400}[bound])
    fail(node, 1, 2, 3, 4)
    await ran(node)
    assert (len(log.letters), node.counts["dead_letters_lost"]) == (2, 2)


async def test_what_is_remembered_as_written_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(failures_module, "WRITTEN_MAX", 2)
    log = Log()
    node = log.node(LETTERS)
    fail(node, 1, 2, 3)
    await ran(node)
    fail(node, 1, 3)
    await ran(node)
    assert [letter.value for letter in log.letters] == [b"v1", b"v2", b"v3", b"v1"]


async def test_a_rule_that_stops_says_why() -> None:
    node = Log().node(STOPS)
    fail(node, 7)
    await asyncio.sleep(0)
    where = "offset 7 of partition 1 of 'orders'"
    assert node.stopped == f"the rule for 'orders' has stopped at {where}: its value has no field"


async def test_failures_that_are_skipped_are_told(caplog: pytest.LogCaptureFixture) -> None:
    node = Log().node(SKIPS)
    with caplog.at_level(logging.WARNING):
        fail(node, 7)
        await asyncio.sleep(0)
    assert "offset 7 of partition 1 of 'orders' fails its rule: its value has no field" in caplog.text
