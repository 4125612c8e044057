"""A TCP proxy on loopback whose connections a test can cut: for clients that must survive the network.

`cut` resets both sides of every connection at once (RST, not a polite end). `refuse` closes new ones until `accept` is
called, `refuse_upgrades` only those that ask for a WebSocket. Bytes are passed on as they come, in bounded pieces, with
the backpressure of the slower side.
"""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Proxy", "proxy_to"]

_PIECE = 64 << 10
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s


class Proxy:
    """Made by `proxy_to`; clients connect to `port`."""

    def __init__(self, target_port: int, scheme: str) -> None:
        self._target_port = target_port
        self._scheme = scheme
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._accepts_any = True
        self._accepts_upgrades = True
        self.port = 0
        self.connections = 0  # passed on, ever

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    def cut(self) -> None:
        """Resets every connection that is open now."""
        for writer in tuple(self._writers):
            raw = writer.get_extra_info("socket")
            if raw.fileno() >= 0:  # else it was reset by its own side a moment ago
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            writer.transport.abort()

    def refuse(self) -> None:
        """From now on connections are closed as soon as they come."""
        self._accepts_any = False

    def refuse_upgrades(self) -> None:
        """From now on WebSockets are refused; other requests are passed on."""
        self._accepts_upgrades = False

    def accept(self) -> None:
        """New connections are passed on again."""
        self._accepts_any = self._accepts_upgrades = True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        try:
            if self._accepts_any:
                await self._relay(reader, writer)
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = await reader.read(_PIECE)
            if not self._accepts_upgrades and b"upgrade: websocket" in head.lower():
                return
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
        except OSError:
            return
        self.connections += 1
        far_writer.write(head)
        self._writers.add(far_writer)
        try:
            async with asyncio.TaskGroup() as both:
                both.create_task(_copy(reader, far_writer))
                both.create_task(_copy(far_reader, writer))
        finally:
            self._writers.discard(far_writer)
            far_writer.close()

    async def _close(self) -> None:
        self.refuse()
        self.cut()
        await asyncio.gather(*self._tasks)


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        writer.write_eof()
    except OSError:
        writer.transport.abort()  # one side was reset: the other must not believe that it lives


@asynccontextmanager
async def proxy_to(port: int, scheme: str = "http") -> AsyncIterator[Proxy]:
    """A proxy to a port of 127.0.0.1 for the length of the block; `scheme` is what its URL begins with."""
    proxy = Proxy(port, scheme)
    server = await asyncio.start_server(proxy._serve, "127.0.0.1", 0)
    proxy.port = server.sockets[0].getsockname()[1]
    try:
        yield proxy
    finally:
        server.close()
        await proxy._close()
