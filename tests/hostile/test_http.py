"""Attacks on the HTTP half of the port: each gets its documented answer, and nobody else notices."""

import asyncio

import pytest

from fanout.transports import front
from tests.hostile.bystander import attacked_node
from tests.unit.transports.front_door import Wire, upgrade


@pytest.mark.parametrize(
    ("attack", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * (17 << 10) + b"\r\n\r\n", 431, id="oversize head"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 200 + b"\r\n", 431, id="too many fields"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100), 400, id="TLS on the plain port"),
        pytest.param(bytes(range(256)) * 64, 400, id="garbage bytes"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="missing Host"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two Hosts"),
        pytest.param(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
            400,
            id="smuggling by length and chunks",
        ),
        pytest.param(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n",
            400,
            id="a chunk longer than a number",
        ),
        pytest.param(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n",
            400,
            id="a chunk longer than it says",
        ),
        pytest.param(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n", 413, id="oversize body"),
        pytest.param(upgrade(sec_websocket_version="8"), 426, id="an old WebSocket"),
        pytest.param(upgrade(sec_websocket_key="short"), 400, id="a key that is none"),
        pytest.param(upgrade(sec_websocket_key=""), 400, id="no key"),
        pytest.param(upgrade().replace(b"HTTP/1.1", b"HTTP/1.0"), 400, id="WebSocket over HTTP/1.0"),
    ],
)
async def test_it_is_refused_and_closed(attack: bytes, status: int) -> None:
    async with attacked_node() as door:
        wire = await Wire.open(door)
        await wire.say(attack)
        answered, fields, _ = await wire.response()
        assert (answered, fields["connection"]) == (status, "close")
        if status == 426:
            assert fields["sec-websocket-version"] == "13"
        assert await wire.end() == b""
        await wire.close()
        assert not door.handled


@pytest.mark.parametrize("connection", ["keep-alive, Upgrade", "Upgrade", "upgrade,keep-alive"])
async def test_a_legal_upgrade_in_another_spelling_is_no_attack(connection: str) -> None:
    async with attacked_node() as door:
        wire = await Wire.open(door)
        await wire.say(upgrade(connection=connection))
        assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
        assert (await wire.message())["action"] == 4
        await wire.close()


async def test_slow_heads_are_given_up_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_HEAD_SECONDS", 0.5)
    async with attacked_node() as door:
        wires = [await Wire.open(door) for _ in range(100)]

        async def drip(wire: Wire) -> bytes:
            for byte in b"GET / HTTP/1.1\r\nHost: x\r\nA: ":
                wire.writer.write(bytes([byte]))
                await asyncio.sleep(0.05)  # each byte in time, the head never
            return await wire.end()

        answers = await asyncio.gather(*(drip(wire) for wire in wires))
        assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
        for wire in wires:
            await wire.close()


async def test_ten_thousand_pipelined_requests_wait_their_turn() -> None:
    async with attacked_node() as door:
        wire = await Wire.open(door)
        asking = asyncio.create_task(wire.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 10_000))
        for _ in range(10_000):
            assert (await wire.response())[0] == 200
        await asking
        await wire.close()


async def test_pipelining_without_reading_the_answers_stops() -> None:
    async with attacked_node() as door:
        wire = await Wire.open(door)
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        wire.writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n" * 1_000_000)
        served = -1
        while served != len(door.handled):
            served = len(door.handled)
            await asyncio.sleep(0.5)
        assert served < 1_000_000
        wire.writer.transport.abort()


async def test_clients_that_connect_and_leave_cost_nothing() -> None:
    async with attacked_node() as door:
        for _ in range(300):
            wire = await Wire.open(door)
            wire.writer.transport.abort()
        await asyncio.sleep(0.2)
        assert door.front.open_connections == 1  # the bystander
