"""The interpreter's lock while a batch is walked: others have it when they ask."""

import sys
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from fanout._core import Engine
from fanout.types import Record

TOPIC = "letters"
RECORDS = 300_000  # a walk of 20 ms and more, of records that the engine itself is not given
TRIES = 50
TURNS = 5  # in one call; 3 are had at its beginning, at its end, and while the engine has it


@pytest.fixture
def often() -> Iterator[None]:
    """Who waits for the lock asks for it after a short time, as in a node."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(0.0005)
    yield
    sys.setswitchinterval(interval)


class Other(threading.Thread):
    """Somebody who wants the lock all the time, and only for a moment."""

    def __init__(self) -> None:
        super().__init__()
        self.turns = 0
        self.is_over = False

    def run(self) -> None:
        while not self.is_over:
            self.turns += 1
            time.sleep(0)


@pytest.mark.usefixtures("often")
def test_others_have_their_turns_while_a_batch_is_walked() -> None:
    engine, other = Engine(io_threads=0, secret=bytes(16)), Other()
    engine.partition("t", bytes(16), 0, 0)
    taken: list[Sequence[Any]] = []
    engine.dead_letters([TOPIC], taken.append)
    batch = [Record(TOPIC, 0, 0, -1, 0, b"k", b"v", None)] * RECORDS
    other.start()
    most = calls = 0
    while most <= TURNS and calls < TRIES:
        before, calls = other.turns, calls + 1
        engine.records(batch)
        most = max(most, other.turns - before)
    other.is_over = True
    other.join()
    engine.close()
    assert [len(letters) for letters in taken] == [RECORDS] * calls
    assert most > TURNS
