"""What is on its way to the log: counted until it is answered, and those who wait for it to become less."""

import asyncio
from collections.abc import Sequence

import pytest

from fanout import backlog
from fanout.backlog import GROUP, HIGH, LOW, Backlog
from fanout.errors import SourceBusy, SourceError, SourceTimeout
from fanout.sources.base import LIMITS, Done, NewRecord


class Log:
    """Answers when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Done] = []
        self.busy = False

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        if self.busy:
            raise SourceBusy("full")
        self.waiting.append(done)


class Speaker:
    """Remembers who went on, in which order; may publish when it does."""

    def __init__(self, name: str, order: list[str]) -> None:
        self.name = name
        self.order = order

    def go_on(self) -> None:
        self.order.append(self.name)
        if self.name == "rude":
            raise RuntimeError(self.name)


def record(size: int = 1) -> NewRecord:
    return NewRecord("t", None, bytes(size), [])


@pytest.fixture
def log() -> Log:
    return Log()


@pytest.fixture
def waiting(log: Log) -> Backlog:
    return Backlog(log)


def test_there_is_as_much_room_above_the_mark_as_below() -> None:
    assert (HIGH[0] * 2, HIGH[1] * 2) == (LIMITS.append_records, LIMITS.append_bytes)
    assert LOW < HIGH


@pytest.mark.parametrize(
    ("count", "size", "answered"),
    [(HIGH[0], 1, HIGH[0] - LOW[0]), (8, HIGH[1] // 8, 4)],
    ids=["in records", "in bytes"],
)
async def test_it_is_full_from_the_high_mark_down_to_the_low_one(
    waiting: Backlog, log: Log, count: int, size: int, answered: int
) -> None:
    for _ in range(count - 1):
        waiting.append([record(size)], lambda _: None)
    assert not waiting.is_full
    waiting.append([record(size)], lambda _: None)
    assert waiting.is_full
    for _ in range(answered - 1):
        log.waiting.pop()([])
    assert waiting.is_full
    log.waiting.pop()(SourceTimeout("late"))
    assert not waiting.is_full
    assert waiting.records == count - answered


async def test_an_answer_goes_to_whom_it_is_for(waiting: Backlog, log: Log) -> None:
    answers: list[object] = []
    waiting.append([record()], answers.append)
    problem = SourceError("no")
    log.waiting.pop()(problem)
    assert answers == [problem]


def test_what_is_refused_is_not_counted(waiting: Backlog, log: Log) -> None:
    log.busy = True
    with pytest.raises(SourceBusy):
        waiting.append([record()], lambda _: None)
    assert waiting.records == 0


async def test_all_go_on_in_their_order_a_few_in_each_turn(waiting: Backlog, log: Log) -> None:
    order: list[str] = []
    waiting.append([record(HIGH[1])], lambda _: None)
    speakers = [Speaker("rude" if number == 3 else str(number), order) for number in range(2 * GROUP)]
    for speaker in speakers:
        waiting.wait(speaker)
    waiting.leave(speakers[5])
    asyncio.get_running_loop().set_exception_handler(lambda *_: None)
    log.waiting.pop()([])
    assert order == []
    await asyncio.sleep(0)
    assert 0 < len(order) <= GROUP
    await asyncio.sleep(0.01)
    assert order == [speaker.name for speaker in speakers if speaker is not speakers[5]]


async def test_they_go_on_only_as_long_as_there_is_room(
    waiting: Backlog, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "HIGH", (2, 1_000))
    monkeypatch.setattr(backlog, "LOW", (0, 500))

    class Publishes(Speaker):
        def go_on(self) -> None:
            super().go_on()
            waiting.append([record()], lambda _: None)

    order: list[str] = []
    waiting.append([record(), record()], lambda _: None)
    for number in range(5):
        waiting.wait(Publishes(str(number), order))
    for expected in ("01", "0123", "01234"):
        for done in log.waiting[:]:
            log.waiting.remove(done)
            done([])
        await asyncio.sleep(0.01)
        assert "".join(order) == expected
