"""Those who come all at once: all are let in, each in the time that a turn of the loop has for clients."""

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from fanout.transports import front
from fanout.transports.turns import TURN_S, Caller, Turns
from tests.unit.transports.front_door import FrontDoor, Wire, front_door, upgrade

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
CAME = 20


class Shut(Turns):
    """No turn has time for anybody, until it is opened."""

    def __init__(self) -> None:
        super().__init__()
        self.is_open = False
        self.has_come = asyncio.Event()

    def take(self, caller: Caller, *, brief: bool) -> bool:
        if self.is_open:
            return super().take(caller, brief=brief)
        self._line[caller] = None
        self.has_come.set()
        return False

    def open(self) -> None:
        self.is_open = True
        self._turn()


def shut(door: FrontDoor) -> Shut:
    """Has the door's connections wait, which are accepted all the same."""
    door.front.turns = turns = Shut()
    return turns


async def in_line(turns: Shut, count: int) -> None:
    async with asyncio.timeout(5):
        while len(turns._line) < count:
            turns.has_come.clear()
            await turns.has_come.wait()


async def asked(door: FrontDoor, said: bytes = GET) -> tuple[Shut, Wire]:
    """A client of a shut door that has said this, and waits for its turn."""
    turns = shut(door)
    wire = await Wire.open(door)
    await wire.say(said)
    await in_line(turns, 1)
    return turns, wire


class Clocked:
    """A clock that moves when something is done, and how often that was in each turn of the loop."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 1_000.0
        self.turn = 0
        self.done = Counter[int]()
        self._ticking = asyncio.get_running_loop().call_soon(self._tick)

    def _tick(self) -> None:
        self.turn += 1
        self._ticking = asyncio.get_running_loop().call_soon(self._tick)

    def stop(self) -> None:
        self._ticking.cancel()

    def counting(self, do: Callable[..., None]) -> Callable[..., None]:
        def counted(*arguments: Any) -> None:
            self.done[self.turn] += 1
            self.now += self.seconds
            do(*arguments)

        return counted


async def test_many_upgrades_at_once_are_spread_over_turns() -> None:
    async with front_door() as door:
        clock = Clocked(TURN_S / 2.5)
        door.front.turns._clock = lambda: clock.now
        door.front.upgrade = clock.counting(door.front.upgrade)
        wires = [await Wire.open(door) for _ in range(CAME)]
        await asyncio.sleep(0.05)
        for wire in wires:
            wire.writer.write(upgrade())
        for wire in wires:
            assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
            assert (await wire.message())["action"] == 4
        clock.stop()
        assert clock.done.total() == CAME
        assert max(clock.done.values()) <= 3, "a turn's time, and one more"
        for wire in wires:
            await wire.close()


async def test_those_who_were_held_are_spread_over_turns() -> None:
    async with front_door() as door:
        door.ready.clear()
        wires = [await Wire.websocket(door) for _ in range(CAME)]
        clock = Clocked(TURN_S / 2.5)
        door.front.turns._clock = lambda: clock.now
        for driver in door.connections._held:
            driver._node = Opening(driver._node, clock)
        door.ready.set()
        for wire in wires:
            assert (await wire.message())["action"] == 4
        clock.stop()
        assert clock.done.total() == CAME
        assert max(clock.done.values()) <= 3, "a turn's time, and one more"
        for wire in wires:
            await wire.close()


class Opening:
    """A node whose sessions take their time to open."""

    def __init__(self, node: Any, clock: Clocked) -> None:
        self._node = node
        self.entered = clock.counting(node.entered)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node, name)


async def test_what_comes_before_its_turn_is_heard_then_in_order() -> None:
    async with front_door() as door:
        turns, wire = await asked(door, b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\na")
        await wire.say(b"bc" + GET)
        await asyncio.sleep(0.05)
        assert not door.handled
        turns.open()
        assert (await wire.response())[2] == b"abc"
        assert (await wire.response())[2] == b"<p>page</p>"
        await wire.close()


async def test_the_time_until_its_turn_is_not_the_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_HEAD_SECONDS", 0.05)
    async with front_door() as door:
        turns, wire = await asked(door)
        await asyncio.sleep(0.2)
        turns.open()
        assert (await wire.response())[0] == 200
        await wire.close()


async def test_one_that_asked_and_says_no_more_is_answered() -> None:
    async with front_door() as door:
        turns = shut(door)
        wire = await Wire.open(door)
        await wire.say(GET)
        wire.writer.write_eof()
        await in_line(turns, 1)
        turns.open()
        assert (await wire.response())[0] == 200
        assert await wire.end() == b""
        await wire.close()


async def test_one_that_has_gone_before_its_turn_is_passed_over() -> None:
    async with front_door() as door:
        turns = shut(door)
        gone, stays = await Wire.open(door), await Wire.open(door)
        await gone.say(GET)
        await in_line(turns, 1)
        await stays.say(GET)
        await in_line(turns, 2)
        for connection in list(door.front._http):
            if connection in turns._line and next(iter(turns._line)) is connection:
                connection.abort()
        turns.open()
        assert (await stays.response())[0] == 200
        assert len(door.handled) == 1
        await gone.close()
        await stays.close()


async def test_draining_answers_what_waits_for_its_turn() -> None:
    async with front_door() as door:
        turns, wire = await asked(door)
        draining = asyncio.create_task(door.front.drain(5))
        await asyncio.sleep(0.05)
        turns.open()
        assert (await wire.response())[1]["connection"] == "close"
        await draining
        await wire.close()
