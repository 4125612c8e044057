"""Clients of many channels come back at once: the log is read and asked once, whatever the number of channels."""

import asyncio
from collections.abc import Collection, Iterator
from typing import Any

import pytest

from fanout._core import RESUMED
from fanout.replay.bounds import Bounds
from fanout.replay.doubts import Doubts
from tests.unit.history.memory_log import TOPIC, LogNode, MemoryLog
from tests.unit.replay.bed import Bed

CHANNELS = [f"c{number}" for number in range(40)]


@pytest.fixture
def bed() -> Iterator[Bed]:
    """A node that memory of 200 messages of each channel, side by side, has passed."""
    log = MemoryLog()
    for number in range(200):
        for channel in CHANNELS:
            log.put(channel, f"{number}")
    made = Bed(log)
    yield made
    made.close()


async def test_channels_side_by_side_are_one_reading(bed: Bed) -> None:
    clients = []
    for number, channel in enumerate(CHANNELS):
        clients.append(bed.client())
        clients[-1].resume(bed.engine.position_at(channel, [(TOPIC, 0, 40 * number)]), channel)
    await bed.until(lambda: bed.engine.stats()["replays_handed_over"] == 40)
    for channel in CHANNELS:
        bed.log.put(channel, "200")
    bed.node.read_on()
    await bed.until(lambda: all(client.values[-1:] == ["200"] for client in clients))
    for number, client in enumerate(clients):
        assert [int(value) for value in client.values] == list(range(number, 201)), CHANNELS[number]
    assert bed.log.reads <= 8 + 8, "eight slices, and one more at most for each that reads at a time"


async def test_all_ask_the_log_once_what_it_has(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    bounds, asked, answers = bed.log.bounds, 0, list[Any]()

    async def slow(topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.05)
        return await bounds(topic, partitions)

    monkeypatch.setattr(bed.log, "bounds", slow)
    for channel in CHANNELS:
        bed.replays.resume(channel, bed.engine.position_at(channel, [(TOPIC, 0, 0)]), answers.append)
    await bed.until(lambda: len(answers) == len(CHANNELS))
    assert {plan.outcome for plan in answers} == {RESUMED}
    assert asked == 1


async def test_one_record_settles_the_doubts_of_all() -> None:
    log, positions = MemoryLog(), []
    former = LogNode(log, starts={0: 0})
    for number, channel in enumerate(CHANNELS):
        log.put(channel, f"{number}", epoch=3)
        former.read_on()
        positions.append(former.engine.position(channel))
    former.engine.close()
    bed = Bed(log)
    source: Any = log
    doubts = Doubts(bed.engine, source, Bounds(source))
    assert all(map(bed.engine.doubts, CHANNELS, positions))
    await asyncio.gather(*map(doubts.settle, CHANNELS, positions))
    assert not any(map(bed.engine.doubts, CHANNELS, positions))
    bed.close()
    assert log.reads == 1
