"""Accepting: bounded, and never spinning."""

import asyncio
import errno
import os
import resource
import socket
from typing import Any

import pytest

from fanout.transports import listener as module
from fanout.transports.listener import Listener, connection_limit
from fanout.transports.turns import TURN_S, Turns
from tests.unit.transports.front_door import Wire, front_door


async def test_above_the_limit_a_client_is_told_and_closed() -> None:
    async with front_door(limit=2) as door:
        held = [await Wire.open(door) for _ in range(2)]
        await asyncio.sleep(0.05)
        extra = await Wire.open(door)
        status, fields, _ = await extra.response()
        assert (status, fields["connection"]) == (503, "close")
        assert await extra.end() == b""
        assert door.listener.refused == 1
        await held[0].close()
        await asyncio.sleep(0.05)
        again = await Wire.open(door)
        await again.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await again.response())[0] == 200
        for wire in (*held, extra, again):
            await wire.close()


def test_the_limit_stays_below_the_descriptors() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert 0 < connection_limit() < soft
    assert Listener(lambda _: None, lambda: 0, Turns(), limit=soft * 2)._limit == connection_limit()


class Scripted:
    """A listening socket that fails as told before it accepts."""

    def __init__(self, real: socket.socket, failures: list[int]) -> None:
        self._real = real
        self.failures = failures
        self.calls = 0

    def accept(self) -> Any:
        self.calls += 1
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, os.strerror(number))
        return self._real.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM])
async def test_without_descriptors_accepting_rests(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    monkeypatch.setattr(module, "_REST_SECONDS", 0.2)
    async with front_door() as door:
        assert door.listener._socket is not None
        scripted = Scripted(door.listener._socket, [number])
        monkeypatch.setattr(door.listener, "_socket", scripted)
        wire = await Wire.open(door)
        await asyncio.sleep(0.1)
        assert scripted.calls == 1  # readable all the time, and yet left alone
        await wire.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.response())[0] == 200
        await wire.close()


async def test_a_client_that_left_before_it_was_accepted_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with front_door() as door:
        assert door.listener._socket is not None
        scripted = Scripted(door.listener._socket, [errno.ECONNABORTED])
        monkeypatch.setattr(door.listener, "_socket", scripted)
        wire = await Wire.open(door)
        await wire.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await wire.response())[0] == 200
        await wire.close()


class Storm:
    """Many who connect at once, and a clock that only accepting moves."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.now = 1_000.0
        self.turns = Turns(clock=lambda: self.now)
        self.taken: list[socket.socket] = []
        self.portions: list[int] = []  # accepted in each turn of the loop

    def take(self, accepted: socket.socket) -> None:
        self.now += self.seconds
        self.taken.append(accepted)

    async def connect(self, count: int) -> None:
        listener = Listener(self.take, lambda: len(self.taken), self.turns)
        port = await listener.start("127.0.0.1", 0)
        clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(count)]
        while len(self.taken) < count:
            before = len(self.taken)
            await asyncio.sleep(0)
            self.portions.append(len(self.taken) - before)
        listener.stop()
        listener.stop()
        listener.go_on()  # its place in the line may come when it is over
        for held in (*self.taken, *clients):
            held.close()


async def test_a_storm_is_accepted_in_portions() -> None:
    storm = Storm(0)
    await storm.connect(100)
    assert max(storm.portions) == 16


async def test_a_portion_ends_with_the_time_that_a_turn_has_for_clients() -> None:
    storm = Storm(TURN_S / 2.5)
    await storm.connect(20)
    assert max(storm.portions) == 3


async def test_nobody_is_accepted_while_others_stand_in_line() -> None:
    class Other:
        def go_on(self) -> None:
            if storm.turns.take(self, brief=False):
                order.append(len(storm.taken))
                storm.now += TURN_S

    storm, order = Storm(TURN_S), list[int]()
    others = [Other() for _ in range(5)]
    for other in others:
        other.go_on()
    await storm.connect(2)
    assert order == [0] * 5, "all of them came first"


async def test_a_port_in_use_is_an_oserror() -> None:
    first, second = (Listener(lambda s: s.close(), lambda: 0, Turns()) for _ in range(2))
    port = await first.start("127.0.0.1", 0)
    with pytest.raises(OSError, match="in use"):
        await second.start("127.0.0.1", port)
    first.stop()
