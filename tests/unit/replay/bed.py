"""Clients of a node whose memory begins late, over a log in memory: without sockets."""

import asyncio
import re
from collections.abc import Callable
from typing import Any

from fanout import _core
from fanout.checkpoints import Checkpoints
from fanout.errors import ErrorInfo
from fanout.replay import Replays
from tests.unit.history.memory_log import TOPIC, LogNode, MemoryLog

ATTACHED = b"<attached>"


class Client:
    """One connection with one attachment at most, whose outgoing bytes wait in a pipe until they are taken."""

    def __init__(self, bed: "Bed") -> None:
        self._bed = bed
        self.handle = bed.engine.register_pipe(_core.JSON, f"client{len(bed.clients)}", False)
        self.answer: Any = ...
        """What became of its position: ..., until that is known."""
        self.is_left = False
        self.places: list[str | None] = []
        """Where it stood when memory passed it, each time; None where that is not known."""
        self.reads = True
        self._bytes = b""

    def attach(self) -> None:
        """With what comes next."""
        self._attach(self._bed.engine.locate("c", None, 0, 0, 0))

    def resume(self, serial: str, channel: str = "c") -> None:
        self._bed.replays.resume(channel, serial, self._attach)

    def go_on(self, place: str) -> None:
        """As a session does for an attachment that memory has passed."""
        self._bed.replays.resume("c", place, self._regrant)

    def _regrant(self, answer: _core.Plan | ErrorInfo | None) -> None:
        self.answer = answer
        assert isinstance(answer, _core.Plan)
        self._bed.engine.regrant(self.handle, 1, answer, "c", _core.KIND_MESSAGES, True)

    def _attach(self, answer: _core.Plan | ErrorInfo | None) -> None:
        self.answer = answer
        if isinstance(answer, _core.Plan):
            self._bed.engine.attach(self.handle, 1, answer, "c", _core.KIND_MESSAGES, True, ATTACHED)

    def take(self) -> bool:
        """Reads what waits; whether something did."""
        before = len(self._bytes)
        while self.reads and (taken := self._bed.engine.take(self.handle, 1 << 20)):
            self._bytes += taken
        return len(self._bytes) > before

    @property
    def values(self) -> list[str]:
        """What it was given, in order."""
        return [value.decode() for value in re.findall(rb'"data":"([^"]*)"', self._bytes)]


class Bed:
    """The node, its replays, and its clients."""

    def __init__(self, log: MemoryLog, *, start: int | None = None, partitions: int = 1, **options: Any) -> None:
        """The node has read each partition from `start` on; from its end, unless told."""
        self.log = log
        starts = {number: log.ends.get(number, 0) if start is None else start for number in range(partitions)}
        self.node = LogNode(log, starts=starts, **options)
        self.engine = self.node.engine
        self.node.read_on()
        source: Any = log
        checkpoints = Checkpoints(self.engine.checkpoints("checkpoints"), source, "checkpoints")
        self.replays = Replays(self.engine, source, lambda topic, channel: topic == TOPIC, checkpoints.whole)
        self.clients: list[Client] = []
        self.events: list[tuple[str, int, int]] = []
        """Those of the last turn."""

    def position(self, *offsets: int) -> str:
        """That of these offsets of the partitions."""
        return self.engine.position_at("c", [(TOPIC, number, offset) for number, offset in enumerate(offsets)])

    def client(self) -> Client:
        self.clients.append(Client(self))
        return self.clients[-1]

    def resumed(self, *offsets: int) -> Client:
        """A client that comes back with that position."""
        client = self.client()
        client.resume(self.position(*offsets))
        return client

    def turn(self) -> bool:
        """What a driver and a node do in a turn of the loop; whether clients were given something."""
        self.engine.run_shards()
        self.events = self.engine.events()
        for kind, number, argument in self.events:
            if kind == "lost":
                (client,) = (client for client in self.clients if client.handle == number)
                client.places.append(self.engine.lost_at(number, argument))
            if kind == "replayed":
                self.replays.look(number)
            elif kind == "left":
                for client in self.clients:
                    client.is_left |= client.handle == number
        given = [client.take() for client in self.clients]
        return any(given)

    async def until(self, holds: Callable[[], object], seconds: float = 20) -> None:
        """Goes on until that holds, and everything that there is for clients then has been given."""
        async with asyncio.timeout(seconds):
            while True:
                if not self.turn() and holds():
                    return
                await asyncio.sleep(0.001)

    async def begun(self, client: Client) -> None:
        """Goes on until the client has been given something."""
        async with asyncio.timeout(20):
            while True:
                if client.values:
                    return
                self.turn()
                await asyncio.sleep(0.001)

    def close(self) -> None:
        self.replays.close()
        self.engine.close()
