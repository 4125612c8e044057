"""The other client: whatever somebody does to the server, this one must not notice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

from tests.unit.transports.front_door import FrontDoor, Wire, client_frame, native_front_door

PATIENCE_S = 2.0  # the machine is shared; on its own the answer takes less than a millisecond


@contextlib.asynccontextmanager
async def attacked_node() -> AsyncIterator[FrontDoor]:
    """A node with a bystander on it, who is served before, during and after; and no connection is left in the end."""
    async with native_front_door() as door:
        wire = await Wire.websocket(door)
        assert (await wire.message())["action"] == 4
        async with served_throughout(partial(_served, wire)):
            yield door
        after = await Wire.websocket(door)
        assert (await after.message())["action"] == 4
        await _served(after, b"after")
        for client in (wire, after):
            await client.close()


@contextlib.asynccontextmanager
async def served_throughout(served: Callable[[bytes], Awaitable[None]]) -> AsyncIterator[None]:
    """Somebody is served before the block and all the while. `served` asks for the bytes that it is given."""
    await served(b"before")
    over = asyncio.Event()

    async def keep_asking() -> None:
        number = 0
        while not over.is_set():
            await served(b"%d" % number)
            number += 1
            await asyncio.sleep(0.02)

    during = asyncio.create_task(keep_asking())
    yield
    over.set()
    await during


async def _served(wire: Wire, text: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await wire.say(client_frame(1, b'{"action":0,"id":"%s"}' % text))
        assert await wire.message() == {"action": 0, "id": text.decode()}
