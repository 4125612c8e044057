"""The audit's links that end while they open: nothing is closed that by then is another's."""

import asyncio
import base64
import contextlib
import gc
import hashlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvloop

from fanout.audit.link import open_link
from fanout.audit.tcp_link import TcpLink, open_tcp

STEPS = 30  # turns; an opening takes fewer
PATIENCE_S = 20.0
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3


class EndedAtOnce:
    """An owner that ends its link as soon as it is there."""

    def opened(self, link: Any) -> None:
        link.end()

    def heard(self, link: Any, payload: bytes) -> None: ...

    def lost(self, link: Any) -> None: ...


class GivesUp(EndedAtOnce):
    """An owner whose opening is given up as soon as the link is there."""

    opening: "asyncio.Task[None]"
    link: TcpLink

    def opened(self, link: TcpLink) -> None:
        self.link = link
        self.opening.cancel()


async def tcp(port: int) -> None:
    await open_tcp(urlsplit(f"mqtt://127.0.0.1:{port}"), EndedAtOnce(), receive_buffer=4_096)


async def websocket(port: int) -> None:
    await open_link(f"ws://127.0.0.1:{port}/", EndedAtOnce(), receive_buffer=4_096)


Opens = Callable[[int], Awaitable[None]]


async def closed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server that says nothing, and closes soon."""
    await asyncio.sleep(0.005)
    writer.close()


def is_open(one: socket.socket) -> bool:
    try:
        return one.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
    except OSError:
        return False


async def given_up_after(steps: int, opening: "asyncio.Task[None]") -> None:
    for _ in range(steps):
        await asyncio.sleep(0)
    if steps < STEPS:
        opening.cancel()
    with contextlib.suppress(asyncio.CancelledError, OSError):
        await opening


async def given_up_at_every_step(opens: Opens) -> None:
    async with asyncio.timeout(PATIENCE_S), await asyncio.start_server(closed, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]

        async def opened() -> None:
            await opens(port)

        for steps in range(STEPS + 1):
            await given_up_after(steps, asyncio.create_task(opened()))
            others = [socket.socket() for _ in range(8)]
            await asyncio.sleep(0.001)
            gc.collect()
            assert all(map(is_open, others)), f"{steps} steps"
            for one in others:
                one.close()


@pytest.mark.parametrize("opens", [tcp, websocket])
def test_a_link_that_ends_while_it_opens_closes_nobody_elses(opens: Opens) -> None:
    uvloop.run(given_up_at_every_step(opens))


async def given_up_when_it_is_there() -> None:
    owner, over = GivesUp(), asyncio.Event()

    async def until_it_is_gone(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
            writer.close()
            await writer.wait_closed()
        over.set()

    async with asyncio.timeout(PATIENCE_S), await asyncio.start_server(until_it_is_gone, "127.0.0.1", 0) as server:
        node = urlsplit(f"mqtt://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        owner.opening = asyncio.create_task(open_tcp(node, owner))
        with contextlib.suppress(asyncio.CancelledError):
            await owner.opening
        owner.link.pause()
        owner.link.resume()
        owner.link.send(b"x")
        owner.link.end(reset=True)
        await over.wait()


def test_a_link_that_was_given_up_while_it_opened_can_suffer_no_more() -> None:
    uvloop.run(given_up_when_it_is_there())


class Heard(EndedAtOnce):
    """An owner that keeps what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def opened(self, link: Any) -> None:
        self.told.append("opened")

    def heard(self, link: Any, payload: bytes) -> None:
        self.told.append("heard")

    def lost(self, link: Any) -> None:
        self.told.append("lost")


async def answered_late() -> None:
    owner, asked, given_up, over = Heard(), asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        asked.set()
        await given_up.wait()
        key = next(line.split(": ")[1] for line in request.splitlines() if line.lower().startswith("sec-websocket-key"))
        accept = base64.b64encode(hashlib.sha1(f"{key}{GUID}".encode()).digest()).decode()
        writer.write(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n".encode()
            + b"\x81\x02{}"
        )
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()
        over.set()

    async with asyncio.timeout(PATIENCE_S), await asyncio.start_server(late, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        opening = asyncio.create_task(open_link(f"ws://127.0.0.1:{port}/", owner, receive_buffer=4_096))
        await asked.wait()
        opening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await opening
        given_up.set()
        await over.wait()
        assert owner.told == []


def test_a_server_that_answers_after_a_link_was_given_up_is_not_heard() -> None:
    uvloop.run(answered_late())
