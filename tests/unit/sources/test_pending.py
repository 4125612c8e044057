"""What waits to be appended: counted, bounded, answered in turns."""

import asyncio
from functools import partial

import pytest

from fanout.errors import SourceBusy, SourceError
from fanout.sources.base import LIMITS, Appended, NewRecord
from fanout.sources.pending import TURN, Pending

Outcome = list[Appended] | SourceError


def ignore(_: Outcome) -> None:
    pass


def records(count: int, size: int = 0) -> list[NewRecord]:
    return [NewRecord("t", None, bytes(size), [])] * count


async def test_the_bound_counts_records_of_all_appends_until_they_are_answered() -> None:
    pending = Pending(asyncio.get_running_loop())
    first = pending.admit(records(LIMITS.append_records - 1), ignore)
    pending.admit(records(1), ignore)
    with pytest.raises(SourceBusy, match=str(LIMITS.append_records)):
        pending.admit(records(1), ignore)
    pending.settle(first, [])
    pending.wake()
    await asyncio.sleep(0)
    pending.admit(records(LIMITS.append_records - 1), ignore)
    with pytest.raises(SourceBusy):
        pending.admit(records(1), ignore)


async def test_the_bound_counts_keys_values_and_headers() -> None:
    third = LIMITS.append_bytes // 3
    pending = Pending(asyncio.get_running_loop())
    large = NewRecord("t", bytes(third), bytes(third), [("x" * (third // 2), bytes(third // 2)), ("", None)])
    pending.admit([large], ignore)
    pending.admit(records(1), ignore)
    with pytest.raises(SourceBusy):
        pending.admit(records(1, 8), ignore)


async def test_a_flood_of_confirmations_lets_others_run() -> None:
    loop = asyncio.get_running_loop()
    pending, answered = Pending(loop), list[int]()

    def note(number: int, _: Outcome) -> None:
        answered.append(number)

    for number in range(3 * TURN):
        pending.settle(pending.admit(records(1), partial(note, number)), [])
    pending.wake()
    turns = []
    while len(answered) < 3 * TURN:
        await asyncio.sleep(0)
        turns.append(len(answered))
    assert turns == [TURN, 2 * TURN, 3 * TURN]
    assert answered == list(range(3 * TURN))


async def test_large_appends_are_answered_one_in_a_turn() -> None:
    pending, answered = Pending(asyncio.get_running_loop()), list[Outcome]()
    for _ in range(3):
        pending.settle(pending.admit(records(TURN), answered.append), [])
    pending.wake()
    turns = []
    while len(answered) < 3:
        await asyncio.sleep(0)
        turns.append(len(answered))
    assert turns == [1, 2, 3]


async def test_drained_waits_for_answers_and_gives_up_in_time() -> None:
    pending = Pending(asyncio.get_running_loop())
    assert await pending.drained(0)
    ticket = pending.admit(records(1), ignore)
    assert not await pending.drained(0.01)
    pending.settle(ticket, SourceError("x"))
    pending.wake()
    assert await pending.drained(1)
