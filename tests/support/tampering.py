"""A broken server: a proxy in front of a real one that spoils one MESSAGE on its way to a client.

Bytes of the client, and of the server's answer to the handshake, pass as they are; what the server sends after it is
taken apart into WebSocket frames (RFC 6455 §5.2, unmasked and whole, as this server sends them).
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import orjson

from fanout.wire import Action

__all__ = ["FAULTS", "Fault", "tampering_proxy"]

Fault = Callable[[list[bytes]], list[bytes]]
"""Two frames, next to each other in one channel, the first with one message: what the client gets in their place."""

FAULTS: dict[str, Fault] = {
    "dropped": lambda pair: pair[1:],
    "repeated": lambda pair: [pair[0], *pair],
    "swapped": lambda pair: pair[::-1],
}


class _Tampering:
    """Spoils one pair of messages, of whichever connection has one first, after so many that pass."""

    def __init__(self, fault: Fault | None, after: int) -> None:
        self._fault = fault
        self._after = after
        self.is_done = False

    def pass_on(self, held: dict[str, bytes], frame: bytes, message: dict[str, Any] | None) -> list[bytes]:
        """The frames to send now; `held` is what waits, on this connection, for the next one of its channel."""
        if self._fault is None or message is None:
            return [frame]
        channel = message["channel"]
        if channel in held:
            first = held.pop(channel)
            if self.is_done:
                return [first, frame]
            self.is_done = True
            return self._fault([first, frame])
        self._after -= 1
        if self.is_done or held or self._after > 0 or len(message["messages"]) != 1:
            return [frame]
        held[channel] = frame
        return []


def _message(payload: bytes, is_text: bool) -> dict[str, Any] | None:
    """The protocol message, if it is a MESSAGE."""
    frame: dict[str, Any] = orjson.loads(payload) if is_text else msgspec.msgpack.decode(payload)
    return frame if frame["action"] == Action.MESSAGE else None


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[tuple[bytes, int, bytes]]:
    """Each frame as it came, its opcode and its payload."""
    while True:
        head = await reader.readexactly(2)
        size = head[1]
        if size >= 126:
            more = await reader.readexactly(2 if size == 126 else 8)
            head, size = head + more, int.from_bytes(more, "big")
        payload = await reader.readexactly(size)
        yield head + payload, head[0] & 0x0F, payload


@asynccontextmanager
async def tampering_proxy(port: int, fault: Fault | None, after: int = 20) -> AsyncIterator[int]:
    """The port of a proxy to `port`, for the length of the block; without a fault it only passes on."""
    tampering = _Tampering(fault, after)
    relays: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        relays.add(task)
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, far_writer))
                both.create_task(down(far_reader, writer))
        except* (OSError, asyncio.IncompleteReadError):
            pass  # one side has gone
        finally:
            writer.close()
            far_writer.close()
            relays.discard(task)

    async def down(far_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await far_reader.readuntil(b"\r\n\r\n"))
        held: dict[str, bytes] = {}
        async for frame, opcode, payload in _frames(far_reader):
            is_data = opcode in (1, 2)
            for piece in tampering.pass_on(held, frame, _message(payload, opcode == 1) if is_data else None):
                writer.write(piece)
            await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for relay in relays:
            relay.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
        assert tampering.is_done == (fault is not None), "the fault never came about"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(65_536):
        writer.write(piece)
        await writer.drain()
    raise ConnectionResetError("the client has gone")
