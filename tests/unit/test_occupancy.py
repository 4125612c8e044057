"""Telling watchers how many use a channel, without an engine."""

import asyncio
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from fanout.occupancy import CHANNELS_PER_TURN, Occupancy
from fanout.session.modes import METRICS


class Engine:
    def __init__(self) -> None:
        self.counts: dict[str, dict[str, int]] = {}
        self.injected: list[tuple[str, str, Any]] = []

    def occupancy(self, channel: str) -> Mapping[str, int]:
        return self.counts.get(channel, {})

    def inject(self, channel: str, name: str, data: str) -> None:
        self.injected.append((channel, name, orjson.loads(data)))

    def told(self) -> list[int]:
        taken, self.injected = self.injected, []
        return [data["metrics"]["subscribers"] for _, _, data in taken]


@pytest.fixture
def engine() -> Engine:
    return Engine()


async def test_a_watcher_is_told_and_then_only_what_changes(engine: Engine) -> None:
    occupancy = Occupancy(engine)
    engine.counts["room"] = {"subscribers": 1, "watchers": 1}
    occupancy.watch("room")
    await occupancy.tell()
    ((channel, name, data),) = engine.injected
    assert (channel, name, set(data["metrics"])) == ("room", "[meta]occupancy", set(METRICS))
    assert engine.told() == [1]
    await occupancy.tell()
    assert engine.told() == []
    engine.counts["room"]["subscribers"] = 3
    await occupancy.tell()
    assert engine.told() == [3]


async def test_the_next_watcher_is_told_though_nothing_has_changed(engine: Engine) -> None:
    occupancy = Occupancy(engine)
    engine.counts["room"] = {"subscribers": 1, "watchers": 2}
    for _ in range(2):
        occupancy.watch("room")
        await occupancy.tell()
    assert engine.told() == [1, 1]


async def test_a_channel_without_watchers_is_forgotten(engine: Engine) -> None:
    occupancy = Occupancy(engine)
    engine.counts["room"] = {"watchers": 1}
    occupancy.watch("room")
    await occupancy.tell()
    engine.counts["room"] = {"subscribers": 5}
    await occupancy.tell()
    engine.counts["room"] = {"subscribers": 6, "watchers": 1}
    await occupancy.tell()
    assert engine.told() == [0]


async def test_others_get_their_turn_between_many_channels(engine: Engine) -> None:
    occupancy, seen = Occupancy(engine), []
    for number in range(2 * CHANNELS_PER_TURN):
        engine.counts[str(number)] = {"watchers": 1}
        occupancy.watch(str(number))
    asyncio.get_running_loop().call_soon(lambda: seen.append(len(engine.injected)))
    await occupancy.tell()
    assert seen == [CHANNELS_PER_TURN]
    assert len(engine.injected) == 2 * CHANNELS_PER_TURN


async def test_somebody_who_comes_while_others_are_told(engine: Engine) -> None:
    occupancy = Occupancy(engine)
    engine.counts["room"] = engine.counts["late"] = {"watchers": 1}
    occupancy.watch("room")
    asyncio.get_running_loop().call_soon(occupancy.watch, "late")
    await occupancy.tell()
    await occupancy.tell()
    assert [channel for channel, _, _ in engine.injected] == ["room", "late"]
