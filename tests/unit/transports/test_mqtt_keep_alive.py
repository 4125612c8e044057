"""Clients that promised to be heard: who is silent is told so in time, and who is gone is forgotten."""

import asyncio

import pytest

from fanout.transports import mqtt_keep_alive
from fanout.transports.mqtt_keep_alive import KeepAlive
from tests.support.sources import eventually


class Client:
    def __init__(self, until: float) -> None:
        self.until = until
        self.is_silent = False

    def silent_from(self, now: float) -> float:
        return self.until

    def silent(self) -> None:
        self.is_silent = True


@pytest.fixture(autouse=True)
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_keep_alive, "GRAIN_S", 0.01)


async def test_who_is_silent_is_told_and_who_speaks_is_looked_at_again() -> None:
    now = asyncio.get_running_loop().time()
    clients = {1: Client(now), 2: Client(now + 3600)}
    watched = KeepAlive(clients.get)
    for number in clients:
        watched.watch(number, now)
    await eventually(lambda: clients[1].is_silent)
    assert (clients[2].is_silent, len(watched)) == (False, 1)


async def test_one_whose_end_fails_keeps_no_other_from_being_told() -> None:
    class Broken(Client):
        def silent(self) -> None:
            raise OverflowError

    now = asyncio.get_running_loop().time()
    clients = {1: Client(now), 2: Broken(now), 3: Client(now)}
    watched = KeepAlive(clients.get)
    for number in clients:
        watched.watch(number, now)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    await eventually(lambda: clients[1].is_silent and clients[3].is_silent)


async def test_who_is_gone_is_in_no_list_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_keep_alive, "AHEAD_S", 0.02)
    now = asyncio.get_running_loop().time()
    client = Client(now + 3600)
    clients = {1: client, 2: client}
    watched = KeepAlive(clients.get)
    for number in clients:
        watched.watch(number, now + 3600)
    del clients[1]
    await eventually(lambda: len(watched) == 1)
    clients.clear()
    await eventually(lambda: len(watched) == 0)


async def test_many_are_looked_at_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_keep_alive, "AT_ONCE", 10)
    now = asyncio.get_running_loop().time()
    clients = {number: Client(now) for number in range(25)}
    watched = KeepAlive(clients.get)
    for number in clients:
        watched.watch(number, now)
    counts = [0]
    while counts[-1] < 25:
        await asyncio.sleep(0)
        told = sum(client.is_silent for client in clients.values())
        if told != counts[-1]:
            counts.append(told)
    assert counts == [0, 10, 20, 25]
    await eventually(lambda: len(watched) == 0)
