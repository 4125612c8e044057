"""WebSocket messages that begin and do not end: all clients' together have a bound."""

import pytest

from fanout.transports import _websocket
from tests.unit.transports.front_door import FrontDoor, Wire, client_frame, native_front_door

HEARTBEAT = b'{"action":0,"id":"h"}'


async def connected(door: FrontDoor) -> Wire:
    wire = await Wire.websocket(door)
    assert (await wire.message())["action"] == 4
    return wire


@pytest.mark.parametrize("fin", [True, False], ids=["a frame", "fragments"])
async def test_of_messages_that_do_not_end_the_oldest_makes_room(monkeypatch: pytest.MonkeyPatch, fin: bool) -> None:
    monkeypatch.setattr(_websocket, "INCOMPLETE_BYTES", 1 << 20)
    message = HEARTBEAT.ljust(400_000)
    first, rest = client_frame(1, message[:-1], fin=False), client_frame(0, message[-1:])
    begun, ended = (client_frame(1, message)[:-1], client_frame(1, message)[-1:]) if fin else (first, rest)
    async with native_front_door() as door:
        oldest, second, third = [await connected(door) for _ in range(3)]
        for wire in (oldest, second):
            for _ in range(3):
                await wire.say(begun + ended)
                assert await wire.message() == {"action": 0, "id": "h"}
            await wire.say(begun)
        for _ in range(3):  # what is gone holds nothing
            gone = await connected(door)
            await gone.say(begun[:100_000])
            await gone.close()
        await third.say(begun)
        assert await oldest.closed_with() == 1008
        for wire in (second, third):
            await wire.say(ended)
            assert await wire.message() == {"action": 0, "id": "h"}
        for wire in (oldest, second, third):
            await wire.close()
