"""The end of a node, and of connections that cannot go on: over real sockets, on a stand-in for the engine."""

import asyncio
import logging
from typing import Any

import pytest

from fanout.transports import connections
from tests.unit.transports.front_door import (
    KEY,
    Wire,
    front_door,
    native_front_door,
)
from tests.unit.transports.test_websocket import alive, connected


@pytest.mark.parametrize("io_threads", [0, 1])
async def test_draining_spreads_the_clients_over_the_window(io_threads: int) -> None:
    async with native_front_door(io_threads=io_threads) as door:
        wires = [await connected(door) for _ in range(10)]
        loop = asyncio.get_running_loop()
        begun = loop.time()

        async def sent_away(wire: Wire) -> float:
            message = await wire.message()
            assert (message["action"], message["error"]["code"]) == (6, 80003)
            when = loop.time() - begun
            await wire.closed_with()
            await wire.close()
            return when

        draining = asyncio.create_task(door.connections.drain(0.5))
        times = await asyncio.gather(*(sent_away(wire) for wire in wires))
        await draining
        assert len(door.connections) == 0
        assert max(times) > 0.4
        assert max(times) - min(times) > 0.1  # 0.45 on a machine that is not busy


async def test_draining_sends_held_clients_away_too() -> None:
    async with native_front_door() as door:
        door.ready.clear()
        wire = await Wire.websocket(door)
        draining = asyncio.create_task(door.connections.drain(0))
        assert (await wire.message())["action"] == 6
        await wire.closed_with()
        await wire.close()
        await draining


async def test_draining_cuts_who_does_not_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_CLOSE_SECONDS", 0.2)
    async with native_front_door() as door:
        wire = await connected(door)
        await door.connections.drain(0)  # the client answers nothing
        await door.gone()
        await wire.close()


async def test_the_clients_of_an_app_that_is_no_more_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "_DISMISSED_PER_TURN", 2)
    async with native_front_door() as door:
        wires = [await connected(door) for _ in range(5)]
        refused = await Wire.websocket(door, "key=nobody.knows:this&v=6&format=json")
        door.connections.dismiss("another")
        await alive(wires[0])
        door.connections.dismiss(KEY.partition(".")[0])
        for wire in wires:
            message = await wire.message()
            assert (message["action"], message["error"]["code"]) == (6, 40101)
            await wire.closed_with()
            await wire.close()
        await refused.close()


@pytest.mark.parametrize("step", ["drain", "unauthorized", "cut"])
async def test_one_that_cannot_be_ended_keeps_no_other_from_its_end(
    step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(connections, "_CLOSE_SECONDS", 0.2)
    async with native_front_door() as door:
        wires = [await connected(door) for _ in range(3)]
        broken, *_ = door.connections._by_handle.values()
        act = getattr(type(broken), step)

        def fails(driver: Any, *reason: Any) -> None:
            if driver is broken:
                raise OverflowError("broken")
            act(driver, *reason)

        with monkeypatch.context() as patched:
            patched.setattr(type(broken), step, fails)
            if step == "drain":
                await asyncio.gather(door.connections.drain(0), *(wire.closed_with() for wire in wires[1:]))
            elif step == "unauthorized":
                door.connections.dismiss(KEY.partition(".")[0])
                await asyncio.gather(*(wire.closed_with() for wire in wires[1:]))
            else:
                door.connections.abort_all()
                assert [await wire.end() for wire in wires[1:]] == [b"", b""]
            assert "a connection could not be ended" in caplog.text
        for wire in wires:
            await wire.close()


async def test_a_failure_to_open_is_logged_and_ends_the_connection(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with front_door() as door:

        def fails(*_: Any) -> int:
            raise OverflowError("no room")

        monkeypatch.setattr(door.engine, "register", fails)
        wire = await Wire.websocket(door)
        assert await wire.end() == b""
        assert [record.levelno for record in caplog.records] == [logging.ERROR]
        await wire.close()
