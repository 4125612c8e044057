"""The audit's links, while they open: a client that is closed meanwhile is closed, nothing of it stays, and nothing is
closed that by then is another's.
"""

import asyncio
import base64
import contextlib
import hashlib
import os
import re
import socket
from collections.abc import Callable

import pytest
import uvloop

from fanout.audit.client import Client
from fanout.audit.link import Link
from fanout.audit.returning import Returning
from fanout.audit.stream import Stream
from fanout.audit.tcp_link import TcpLink

WEBSOCKET = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 §1.3
STEPS = 40  # turns; an opening takes fewer
PATIENCE_S = 20.0


def client(port: int, source: str | None) -> Client:
    return Client([f"http://127.0.0.1:{port}"], "app.key:secret", source=source)


def stream(port: int, source: str | None) -> Stream:
    return Stream(
        [f"http://127.0.0.1:{port}"],
        "app.key:secret",
        source=source,
        on_message=lambda channel, message: None,
        on_gap=lambda channel, code: None,
    )


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Accepts a WebSocket, and is silent until the client has gone."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
        head = await reader.readuntil(b"\r\n\r\n")
        if key := re.search(rb"sec-websocket-key: *(\S+)", head, re.IGNORECASE):
            accepted = base64.b64encode(hashlib.sha1(key[1] + WEBSOCKET).digest())
            upgrade = b"HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: "
            writer.write(upgrade + accepted + b"\r\n\r\n")
        await reader.read()
    writer.close()


def is_open(one: socket.socket) -> bool:
    try:
        return one.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    except OSError:
        return False


async def given_up_after(steps: int, one: Returning[Link] | Returning[TcpLink]) -> None:
    opening = asyncio.create_task(one.connect())
    for _ in range(steps):
        await asyncio.sleep(0)
    opening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await opening
    await one.close()


async def given_up_at_every_step(made: Callable[[int, str | None], Returning[Link] | Returning[TcpLink]]) -> None:
    async with asyncio.timeout(PATIENCE_S), await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        before = len(os.listdir("/proc/self/fd"))
        for source in (None, "127.0.0.2"):
            for steps in range(STEPS):
                try:
                    await given_up_after(steps, made(port, source))
                finally:
                    others = [socket.socket() for _ in range(8)]
                await asyncio.sleep(0.001)
                assert [one for one in others if not is_open(one)] == []
                for one in others:
                    one.close()
        while len(os.listdir("/proc/self/fd")) > before:  # noqa: ASYNC110  the transports close in turns of their own
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("loop", [asyncio.new_event_loop, uvloop.new_event_loop])
@pytest.mark.parametrize("made", [client, stream])
def test_a_client_that_is_closed_while_its_link_opens_leaves_nothing(
    made: Callable[[int, str | None], Returning[Link] | Returning[TcpLink]],
    loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        runner.run(given_up_at_every_step(made))
