"""Retained messages that wait until their client takes more."""

import asyncio

import pytest
from msgspec.structs import replace

from fanout._core import mqtt_encode
from fanout.packets import Properties, Publish
from fanout.transports.mqtt_retained import Giving


class Engine:
    """A window with so many places left; the identifiers are 1, 2 and so on."""

    def __init__(self, places: int) -> None:
        self.places = places
        self.taken = 0
        self.sent: list[bytes] = []
        self.is_free = False

    def packet_id(self, connection: int) -> int:
        if self.taken == self.places:
            return 0
        self.taken += 1
        return self.taken

    def send(self, connection: int, packet: bytes) -> None:
        self.sent.append(packet)

    def window_free(self, connection: int) -> None:
        self.is_free = True


def publish(payload: bytes, *, qos: int = 1, expiry: int | None = None) -> Publish:
    return Publish("t", payload, qos, False, True, 0, 0, Properties(expiry=expiry))


def encoded(one: Publish, packet_id: int) -> bytes:
    return mqtt_encode(replace(one, packet_id=packet_id), 5)


async def test_what_there_is_no_place_for_waits_and_what_needs_none_does_not() -> None:
    engine = Engine(1)
    giving = Giving(engine, 5)
    one, two, three, plain = publish(b"1"), publish(b"2"), publish(b"3"), publish(b"0", qos=0)
    assert giving.give(9, "t", [one, two, plain, three]) == encoded(one, 1) + encoded(plain, 0)
    assert giving.bytes == giving.size(two) + giving.size(three)
    giving.go_on(9)
    assert (engine.sent, engine.is_free) == ([], False)
    engine.places = 2
    giving.go_on(9)
    assert (engine.sent, engine.is_free) == ([encoded(two, 2)], False)
    engine.places = 3
    giving.go_on(9)
    assert (engine.sent[1:], engine.is_free, giving.bytes) == ([encoded(three, 3)], True, 0)


async def test_what_is_left_leaves_the_window_to_others() -> None:
    engine = Engine(0)
    giving = Giving(engine, 5)
    giving.give(9, "t", [publish(b"1")])
    giving.give(9, "u", [publish(b"2")])
    giving.leave(9, ["t"])
    assert (engine.is_free, giving.bytes) == (False, giving.size(publish(b"2")))
    giving.leave(9, ["u"])
    assert (engine.is_free, giving.bytes) == (True, 0)


async def test_what_expires_while_it_waits_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(0)
    giving = Giving(engine, 5)
    loop, now = asyncio.get_running_loop(), 0.0
    monkeypatch.setattr(loop, "time", lambda: now, raising=False)
    giving.give(9, "t", [publish(b"1", expiry=2), publish(b"2", expiry=9)])
    now, engine.places = 3.5, 1
    giving.go_on(9)
    assert (engine.sent, engine.is_free) == ([encoded(publish(b"2", expiry=6), 1)], True)
