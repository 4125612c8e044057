"""Channels that wait until the log can be asked, over a real socket: their client is heard all the same."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from fanout.errors import error
from fanout.session import attach
from fanout.session.ports import Outcome
from fanout.transports import driver
from tests.support.sources import eventually
from tests.unit.transports.front_door import KEY, Plan, Wire, client_frame, front_door

HEARTBEAT = b'{"action":0,"id":"h"}'


async def test_channels_that_wait_for_the_log_do_not_keep_a_client_from_being_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(driver, "_PENDING_MAX", 8)
    monkeypatch.setattr(attach, "AGAIN_MS", (10, 20))
    asked: list[Callable[[Any], None]] = []

    def resume(_channel: str, _serial: str, answer: Callable[[Any], None]) -> None:
        asked.append(answer)

    async with front_door() as door:
        door.connections.replays.resume = resume  # type: ignore[method-assign,assignment]
        wire = await Wire.websocket(door, f"key={KEY}&v=6&format=json")
        assert (await wire.message())["action"] == 4
        for number in range(8):
            door.fake.plans.append(Plan(outcome=Outcome.GAP))
            await wire.tell({"action": 10, "channel": f"room{number}", "channelSerial": "old"})
        await eventually(lambda: len(asked) == 8)
        await wire.say(client_frame(1, HEARTBEAT))
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(wire.message(), 0.05)  # until each question has had one answer
        door.fake.plans.extend([Plan(outcome=Outcome.GAP)] * 1_000)
        for answer in asked[:8]:
            answer(error(50003))
        assert (await wire.message())["action"] == 0
        await eventually(lambda: len(asked) == 16)  # and is asked again
        await wire.say(client_frame(1, HEARTBEAT))
        assert (await wire.message())["action"] == 0
        for answer in asked[8:]:
            answer(Plan(outcome=Outcome.RESUMED))
        assert {(await wire.message())["channel"] for _ in range(8)} == {f"room{number}" for number in range(8)}
        await wire.close()
