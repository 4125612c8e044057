"""Attacks on the WebSocket half of the port: each gets its documented answer, and nobody else notices."""

import asyncio
import socket
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.hostile.bystander import attacked_node
from tests.unit.transports.front_door import KEY, FrontDoor, Wire, client_frame, frame, upgrade

HEARTBEAT = b'{"action":0}'
FLAT_BYTES = 24 << 20  # what the process may grow by: one connection's buffers, and noise


async def connected(door: FrontDoor) -> Wire:
    wire = await Wire.websocket(door)
    assert (await wire.message())["action"] == 4
    return wire


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


async def pour(wire: Wire, data: bytes) -> None:
    for _ in range(256):
        await wire.say(data)
        await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("attack", "code"),
    [
        pytest.param(client_frame(1, b"{", fin=False) + client_frame(0, b"", fin=False) * 5000, 1008, id="fragments"),
        pytest.param(client_frame(1, b"x" * 60_000, fin=False) + client_frame(0, b"x" * 60_000, fin=False) * 9, 1009,
                     id="fragments that add up"),
        pytest.param(client_frame(1, b'"\xed\xa0\x80"'), 1007, id="a surrogate in UTF-8"),
        pytest.param(client_frame(1, b'"\xf0\x90', fin=False) + client_frame(0, b'\xc3"'), 1007, id="broken UTF-8"),
        pytest.param(client_frame(1, HEARTBEAT, rsv=4), 1002, id="compressed without agreement"),
        pytest.param(client_frame(1, HEARTBEAT, rsv=2), 1002, id="reserved bits"),
        pytest.param(client_frame(1, b"x" * 600_000), 1009, id="an oversize frame"),
        pytest.param(b"\x81\xff" + struct.pack("!Q", 1 << 62) + bytes(4), 1009, id="a frame of four exabytes"),
        pytest.param(b"\x81\xff" + struct.pack("!Q", 1 << 63) + bytes(4), 1002, id="a negative length"),
        pytest.param(client_frame(9, b"x" * 200), 1002, id="an oversize control frame"),
        pytest.param(frame(1, HEARTBEAT), 1002, id="an unmasked frame"),
        pytest.param(client_frame(7, b""), 1002, id="an unknown opcode"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", 1002, id="HTTP after the handshake"),
    ],
)  # fmt: skip
async def test_it_is_closed_with_its_code(attack: bytes, code: int) -> None:
    async with attacked_node() as door:
        wire = await connected(door)
        await wire.say(attack)
        assert await wire.closed_with() == code
        await wire.close()


async def test_pings_from_a_client_that_never_reads_fill_no_memory() -> None:
    async with attacked_node() as door:
        wire = await connected(door)
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        pings = client_frame(9, b"x" * 125) * 4096
        before = resident()
        for _ in range(64):  # 34 MiB
            await wire.say(pings)
        await wire.say(client_frame(9, b"last"))
        assert resident() - before < FLAT_BYTES
        wire.reader._transport.resume_reading()  # type: ignore[attr-defined]
        pongs = 1
        while (await wire.frame())[1] != b"last":
            pongs += 1
        assert pongs < 64 * 4096 / 10  # one for what was read together
        await wire.close()


async def test_asking_without_reading_the_answers_ends_the_connection() -> None:
    async with attacked_node() as door:
        wire = await connected(door)
        raw: Any = wire.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        before = resident()
        asking = client_frame(1, b'{"action":0,"id":"' + b"x" * 1000 + b'"}') * 256
        with pytest.raises(ConnectionError):
            await pour(wire, asking)  # 64 MiB of answers
        assert resident() - before < FLAT_BYTES
        wire.writer.transport.abort()


async def test_large_frames_that_never_end_cost_one_frame_each() -> None:
    async with attacked_node() as door:
        wires = [await connected(door) for _ in range(8)]
        before = resident()
        for wire in wires:
            await wire.say(client_frame(1, b"x" * 524_288)[:-1])
        await asyncio.sleep(0.2)
        assert resident() - before < FLAT_BYTES + len(wires) * (2 << 20)
        for wire in wires:
            await wire.close()


async def test_half_frames_cost_what_was_sent() -> None:
    async with attacked_node() as door:
        wires = [await connected(door) for _ in range(300)]
        before = resident()
        for wire in wires:
            await wire.say(client_frame(1, b"x" * 500_000)[:2_000])  # announced, and never sent
        await asyncio.sleep(0.2)
        assert resident() - before < 300 * 8_192
        for wire in wires:
            await wire.close()


async def test_data_poured_into_a_closing_connection_is_cut_off() -> None:
    async with attacked_node() as door:
        wire = await connected(door)
        await wire.say(client_frame(8, struct.pack("!H", 1000)))
        with pytest.raises(ConnectionError):
            await pour(wire, bytes(1 << 20))
        wire.writer.transport.abort()


async def test_a_client_that_shuts_its_side_is_gone() -> None:
    async with attacked_node() as door:
        wire = await connected(door)
        wire.writer.write_eof()
        assert await wire.end() == b""
        await wire.close()
        assert door.front.open_connections == 1  # the bystander


async def test_a_client_that_resets_is_gone() -> None:
    async with attacked_node() as door:
        for _ in range(50):
            wire = await connected(door)
            raw: Any = wire.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            wire.writer.transport.abort()
        await asyncio.sleep(0.3)
        assert door.front.open_connections == 1  # the bystander


async def test_a_storm_of_wrong_keys() -> None:
    async with attacked_node() as door:

        async def knock() -> int:
            wire = await Wire.websocket(door, "v=6&key=app.key:guess")
            code = int((await wire.message())["error"]["code"])
            await wire.closed_with()
            await wire.close()
            return code

        assert set(await asyncio.gather(*(knock() for _ in range(100)))) == {40101}


async def test_a_query_of_nonsense_is_refused_in_band() -> None:
    async with attacked_node() as door:
        for query in ("%ff%00=%", f"key={KEY}&v=%ff", "v=6&key=" + "x" * 10_000, f"key={KEY}&v=6&resume=%00"):
            wire = await Wire.open(door)
            await wire.say(upgrade(query))
            assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
            message = await wire.message()
            assert (message["action"] == 9) == ("resume" not in query)
            assert message["error"]["code"] in (40017, 40101, 80018)
            await wire.close()
