"""Reading back: who waits for whom, and for how long."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from fanout.errors import SourceBusy, SourceTimeout
from fanout.sources import reads
from fanout.sources.base import LIMITS
from fanout.sources.reads import Errand, Reads

DEAD, WELL = ("t", 0), ("t", 1)


class Handle:
    """Counts those that there are."""

    open = 0

    def __init__(self) -> None:
        Handle.open += 1

    def close(self) -> None:
        Handle.open -= 1


@pytest.fixture
async def reading(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reads[Handle]]:
    monkeypatch.setattr(reads, "PATIENCE_S", 0.1)
    Handle.open = 0
    reading = Reads("test-back", Handle)
    yield reading
    await reading.stop()
    assert Handle.open == 0


class Partition:
    """Answers once it is led."""

    def __init__(self) -> None:
        self.led = threading.Event()
        self.threads: list[str] = []
        """By name, those on which it was begun to be read."""

    def read(self, handle: Handle, errand: Errand) -> str:
        self.threads.append(threading.current_thread().name)
        errand.asks(DEAD)
        while not self.led.wait(0.01):
            errand.check()
        return "read"


def quick(handle: Handle, errand: Errand) -> str:
    errand.asks(WELL)
    errand.check()
    return "at once"


async def test_a_partition_that_does_not_answer_holds_up_who_asks_for_it_alone(reading: Reads[Handle]) -> None:
    dead = Partition()
    stuck = [asyncio.ensure_future(reading.run(dead.read, [DEAD])) for _ in range(20)]
    await asyncio.sleep(0)  # they are in line
    for _ in range(20):
        assert await reading.run(quick, [WELL]) == "at once"
    assert not any(one.done() for one in stuck)
    assert sum("slow" not in name for name in dead.threads) <= reads.READERS, "each thread has found out once"
    dead.led.set()
    assert await asyncio.gather(*stuck) == ["read"] * 20


async def test_one_that_answers_again_has_all_threads_again(reading: Reads[Handle]) -> None:
    dead = Partition()
    stuck = asyncio.ensure_future(reading.run(dead.read, [DEAD]))
    await asyncio.sleep(0.3)
    dead.led.set()
    assert await stuck == "read"
    together = threading.Barrier(reads.READERS)

    def meet(handle: Handle, errand: Errand) -> int:
        return together.wait(5)

    assert sorted(await asyncio.gather(*(reading.run(meet, [DEAD]) for _ in range(reads.READERS)))) == [0, 1]


async def test_one_that_never_answers_ends_in_a_timeout(
    reading: Reads[Handle], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reads, "READ_S", 1.0)
    dead = Partition()
    with pytest.raises(SourceTimeout):
        await reading.run(dead.read, [DEAD])
    assert 2 <= len(dead.threads) <= 4, "each time it is borne with for longer"


async def test_what_waits_is_bounded_for_those_that_do_not_answer_by_themselves(reading: Reads[Handle]) -> None:
    dead = Partition()
    first = asyncio.ensure_future(reading.run(dead.read, [DEAD]))
    await asyncio.sleep(0.3)
    others = [asyncio.ensure_future(reading.run(dead.read, [DEAD])) for _ in range(LIMITS.reads)]
    await asyncio.sleep(0)
    refused = [one for one in others if one.done()]
    assert {type(one.exception()) for one in refused} == {SourceBusy}
    assert len(refused) == 1
    assert await reading.run(quick, [WELL]) == "at once"
    dead.led.set()
    await asyncio.gather(first, *(one for one in others if one not in refused))


async def test_who_gives_up_frees_the_thread(reading: Reads[Handle]) -> None:
    dead = Partition()
    stuck = [asyncio.ensure_future(reading.run(dead.read, [DEAD])) for _ in range(reads.READERS)]
    await asyncio.sleep(0.01)
    for one in stuck:
        one.cancel()
    await asyncio.wait(stuck)
    assert await asyncio.wait_for(reading.run(quick, [WELL]), 0.5) == "at once"
