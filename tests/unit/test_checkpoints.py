"""Checkpoints as a node writes and reads them back, over an engine's that is made up."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from fanout import checkpoints
from fanout.checkpoints import Checkpoints
from fanout.errors import ErrorInfo, SourceBusy, SourceTimeout
from fanout.sources.base import Slice
from fanout.types import Record
from tests.support.sources import eventually

TOPIC = "checkpoints"


class Known:
    """Positions are numbers of checkpoints, as text; `read_to` are read, and those from `kept` on in memory."""

    def __init__(self, kept: int = 100, read_to: int = 200) -> None:
        self.kept, self.read_to = kept, read_to
        self.recalled: list[int] = []
        self.due: list[bytes] = []

    def next(self) -> bytes | None:
        return self.due.pop() if self.due else None

    def whole(self, channel: str, position: str) -> str | int:
        number = int(position)  # raises ValueError for what is none
        if number >= self.read_to:
            raise LookupError
        if number >= self.kept or number in self.recalled:
            return f"whole {number} of {channel}"
        return number

    def recall(self, number: int, epoch: int, value: bytes) -> None:
        assert (epoch, value) == (3, b"v")
        self.recalled = [*self.recalled, number][-checkpoints.AHEAD :]


class Log:
    """Has checkpoints from an offset on."""

    def __init__(self, earliest: int = 0) -> None:
        self.earliest = earliest
        self.reads: list[tuple[int, int]] = []
        self.failure: Exception | None = None
        self.appended: list[bytes] = []

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        assert (topic, partition) == (TOPIC, 0)
        self.reads.append((start, stop))
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        there = range(max(start, self.earliest), stop)
        return Slice([Record(TOPIC, 0, offset, 3, 0, None, b"v", None) for offset in there], stop)

    def append(self, records: Any, done: Any) -> None:
        if self.failure:
            raise self.failure
        self.appended += [record.value for record in records]
        done([])


def whole(known: Known, log: Log) -> tuple[Checkpoints, dict[str, str | ErrorInfo | None], Any]:
    """The checkpoints, what was answered, and a function that asks."""
    source: Any = log
    made = Checkpoints(known, source, TOPIC)
    answers: dict[str, str | ErrorInfo | None] = {}

    def ask(position: str, channel: str = "c") -> None:
        made.whole(channel, position, lambda answer: answers.__setitem__(f"{position} {channel}", answer))

    return made, answers, ask


@asynccontextmanager
async def running(known: Known, log: Log) -> AsyncIterator[None]:
    source: Any = log
    ready = asyncio.Event()
    task = asyncio.create_task(Checkpoints(known, source, TOPIC).run(ready))
    ready.set()
    yield
    task.cancel()


def code(answer: str | ErrorInfo | None) -> int:
    assert isinstance(answer, ErrorInfo)
    return answer.code


async def test_what_memory_knows_is_answered_at_once() -> None:
    known, log = Known(), Log()
    _, answers, ask = whole(known, log)
    ask("150")
    ask("none")
    assert answers == {"150 c": "whole 150 of c", "none c": None}
    assert log.reads == []


async def test_many_that_need_the_same_are_one_reading() -> None:
    known, log = Known(), Log()
    _, answers, ask = whole(known, log)
    for channel in range(100):
        ask("7", str(channel))
        ask("8", str(channel))
    await eventually(lambda: len(answers) == 200)
    assert log.reads == [(7, 7 + checkpoints.AHEAD), (8, 8 + checkpoints.AHEAD)]
    assert answers["7 3"] == "whole 7 of 3"
    ask("20")
    assert answers["20 c"] == "whole 20 of c", "it came with them"


async def test_one_that_was_forgotten_again_meanwhile_is_known_to_all_who_waited() -> None:
    known, log = Known(), Log()
    _, answers, ask = whole(known, log)

    def forget(_: Any) -> None:
        known.recalled = []

    made = whole(known, log)[0]
    for _ in range(3 * checkpoints.ANSWERS_PER_TURN):
        made.whole("x", "7", forget)
    ask("7")
    await eventually(lambda: answers)
    assert answers == {"7 c": "whole 7 of c"}


async def test_one_that_the_log_has_no_more_is_refused() -> None:
    known, log = Known(), Log(earliest=20)
    _, answers, ask = whole(known, log)
    ask("7")
    await eventually(lambda: answers)
    assert answers == {"7 c": None}


@pytest.mark.parametrize("failure", [SourceBusy("much to do"), SourceTimeout("no answer")])
async def test_a_log_that_does_not_answer_is_told_and_asked_again(failure: Exception) -> None:
    known, log = Known(), Log()
    _, answers, ask = whole(known, log)
    log.failure = failure
    ask("7")
    await eventually(lambda: answers)
    assert code(answers.pop("7 c")) == 50003
    log.failure = None
    ask("7")
    await eventually(lambda: answers)
    assert answers == {"7 c": "whole 7 of c"}


async def test_one_that_is_yet_to_be_read_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "BEHIND_EVERY_S", 0.001)
    monkeypatch.setattr(checkpoints, "BEHIND_S", 0.1)
    known, log = Known(kept=0, read_to=10), Log()
    _, answers, ask = whole(known, log)
    ask("10")
    ask("11")
    await asyncio.sleep(0.01)
    assert answers == {}
    known.read_to = 11
    await eventually(lambda: len(answers) == 2)
    assert answers["10 c"] == "whole 10 of c"
    assert code(answers["11 c"]) == 50003, "not for ever"


async def test_many_that_are_yet_to_be_read_are_looked_after_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each position once; and nobody's error is the others'."""
    monkeypatch.setattr(checkpoints, "BEHIND_EVERY_S", 0.01)
    looked = list[str]()

    class Counted(Known):
        def whole(self, channel: str, position: str) -> str | int:
            looked.append(position)
            return super().whole(channel, position)

    def fails(_: object) -> None:
        raise RuntimeError("of this client's alone")

    known, tasks = Counted(kept=0, read_to=10), len(asyncio.all_tasks())
    made, answers, _ = whole(known, Log())
    made.whole("c", "10", fails)
    for client in range(1_000):
        made.whole("c", "10", lambda answer, client=client: answers.__setitem__(f"{client}", answer))  # type: ignore[misc]
    assert len(asyncio.all_tasks()) == tasks + 1
    looked.clear()
    await asyncio.sleep(0.1)
    assert answers == {}
    assert 0 < len(looked) <= 10, "all of them are one look"
    known.read_to = 11
    await eventually(lambda: len(answers) == 1_000)
    made.whole("c", "11", lambda answer: answers.__setitem__("later", answer))
    known.read_to = 12
    await eventually(lambda: answers.get("later") == "whole 11 of c")


async def test_who_waits_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "WAITING_MAX", 2)
    known, log = Known(), Log()
    _, answers, ask = whole(known, log)
    for position in "123":
        ask(position)
    assert list(answers) == ["3 c"]
    assert code(answers["3 c"]) == 50003
    await eventually(lambda: len(answers) == 3)
    answers.clear()
    ask("1")
    ask("90")
    await eventually(lambda: len(answers) == 2)
    assert answers["90 c"] == "whole 90 of c", "those are done with"


async def test_nobody_is_answered_after_the_end() -> None:
    known, log = Known(), Log()
    made, answers, ask = whole(known, log)
    ask("7")
    made.close()
    await asyncio.sleep(0.01)
    assert answers == {}


async def test_what_is_due_is_written_and_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoints, "LOOK_S", (0.001, 0.002))
    monkeypatch.setattr(checkpoints, "EVERY_S", 0)
    known, log = Known(), Log()
    async with running(known, log):
        known.due = [b"second", b"first"]
        await eventually(lambda: len(log.appended) == 2)
        log.failure = SourceBusy("much to do")
        known.due = [b"lost"]
        await eventually(lambda: not known.due)
        log.failure = None
        known.due = [b"third"]
        await eventually(lambda: len(log.appended) == 3)
    assert log.appended == [b"first", b"second", b"third"]


async def test_what_was_just_written_is_not_written_again_before_it_can_have_been_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checkpoints, "LOOK_S", (0.001, 0.002))
    known, log = Known(), Log()
    async with running(known, log):
        known.due = [b"again", b"first"]
        await eventually(lambda: not known.due)
    assert log.appended == [b"first"]
