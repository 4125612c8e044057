"""A descriptor belongs to whoever opened it last: no byte and no shutdown of the server's reaches a later owner.

The server runs in the test's own process, so what the test opens gets the descriptors that the server has just closed.
One thread connects clients that do not read, and resets them while the server writes; another opens pairs of sockets
and looks whether anything but its own bytes comes out of them; readers on the same channel check what they are given.
"""

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from fanout import Config, Server
from tests.support.node import KEY
from tests.support.wsclient import ATTACH, RawClient
from tests.unit.transports.front_door import client_frame

READERS = 3
PAYLOAD = "x" * 20_000
STRANGERS = 32  # pairs that are open at a time
BRIEF, LONG = 16, 32  # connections that are open at a time; the long ones' sockets are full when they go
HANDSHAKE = (
    f"GET /?v=5&key={KEY} HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
).encode()
ATTACH_BUSY = client_frame(1, json.dumps({"action": ATTACH, "channel": "busy"}).encode())
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Strangers:
    """Pairs of sockets that nobody but their opener knows."""

    def __init__(self, served: set[int]) -> None:
        self._served = served  # descriptors that were connections of the server's
        self._pairs: deque[tuple[socket.socket, socket.socket]] = deque()
        self.opened = 0
        self.reused = 0

    def turn(self) -> None:
        """Opens a pair, and closes the oldest when there are many."""
        pair = socket.socketpair()
        self.opened += 1
        self.reused += any(end.fileno() in self._served for end in pair)
        for end in pair:
            end.setblocking(False)
        self._pairs.append(pair)
        if len(self._pairs) > STRANGERS:
            oldest = self._pairs.popleft()
            with oldest[0], oldest[1]:
                self._check(*oldest)
                self._check(*reversed(oldest))

    def close(self) -> None:
        for pair in self._pairs:
            for end in pair:
                end.close()

    def _check(self, writer: socket.socket, reader: socket.socket) -> None:
        writer.send(b"own")
        assert reader.recv(64) == b"own", "nothing but what its owner wrote"
        with pytest.raises(BlockingIOError):
            reader.recv(64)


class Churn:
    """Clients that attach, read nothing, and are gone without a word."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._brief: deque[socket.socket] = deque()
        self._long: deque[socket.socket] = deque()
        self.count = 0

    def turn(self) -> None:
        client = socket.socket()
        kept, most = (self._brief, BRIEF) if self.count % 8 else (self._long, LONG)
        kept.append(client)
        client.settimeout(10)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        client.connect(("127.0.0.1", self._port))
        client.sendall(HANDSHAKE)
        assert client.recv(12) == b"HTTP/1.1 101"
        client.sendall(ATTACH_BUSY)
        self.count += 1
        if len(kept) > most:
            kept.popleft().close()

    def close(self) -> None:
        for client in (*self._brief, *self._long):
            client.close()


@contextlib.asynccontextmanager
async def again_and_again(turn: Callable[[], None], close: Callable[[], None]) -> AsyncIterator[None]:
    """Runs `turn` in a thread for the length of the block, then `close`; raises what they raised."""
    stop = threading.Event()
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while not stop.wait(0.0005):  # the others need the interpreter too
                turn()
        except BaseException as failure:
            failures.append(failure)
        finally:
            close()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)  # the loop goes on: the server is what the thread may be waiting for
    if failures:
        raise failures[0]


@pytest.mark.every_loop
@pytest.mark.parametrize("io_threads", [0, 1, 2])
@pytest.mark.parametrize(
    "seconds", [3, pytest.param(60, marks=[pytest.mark.slow, pytest.mark.timeout(150)])], ids=["short", "full"]
)
async def test_reused_descriptors_get_nothing_of_the_server(seconds: int, io_threads: int, tmp_path: Path) -> None:
    async with Server(Config(port=0, data=tmp_path, key=(KEY,), io_threads=io_threads)) as server:
        await server.ready()
        served = remember_descriptors(server)
        readers = [await RawClient(server.port, KEY, ("json", "msgpack")[n % 2]).connect() for n in range(READERS)]
        for reader in readers:
            await reader.attach("busy")
        strangers, churn = Strangers(served), Churn(server.port)
        texts = []
        async with again_and_again(strangers.turn, strangers.close), again_and_again(churn.turn, churn.close):
            deadline = asyncio.get_running_loop().time() + seconds
            for number in itertools.count():
                texts.append(f"{number} {PAYLOAD}")
                await server.publish("busy", texts[-1])
                if asyncio.get_running_loop().time() > deadline:
                    break
                await asyncio.sleep(0)
        for reader in readers:
            await reader.until(lambda r=reader: len(r.received["busy"]) >= len(texts))  # type: ignore[misc]
            assert [message.text for message in reader.received["busy"]] == texts
            assert reader.connections == 1
            await reader.close()
        assert server.stats()["short_writes"] > 0, "sockets were full when they were reset"
        assert churn.count > 20 * seconds
        assert strangers.reused > strangers.opened / 10


def remember_descriptors(server: Server) -> set[int]:
    """The descriptors of all connections that the server accepts from now on."""
    served: set[int] = set()
    take = server._node.doors.listener._take

    def remember(accepted: socket.socket) -> None:
        served.add(accepted.fileno())
        take(accepted)

    server._node.doors.listener._take = remember
    return served
