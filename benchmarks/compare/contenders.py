"""Who takes part: the node, the bare kernel, and peers, each started and joined alike."""

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.compare.peers import Peer, start
from benchmarks.harness import LOAD_CORE, SERVER_CORE, Crowd, Program, Tools, load, node, node_frame_bytes

__all__ = ["CONTROLS", "Contender", "Running", "control", "fanout", "peer"]

# How the bare kernel may be asked to write, and how many messages at most in a write.
CONTROLS = {
    "control": ("send", 1),
    "control-16": ("send", 16),
    "control-32": ("send", 32),
    "control-sendmsg-16": ("sendmsg", 16),
    "control-uring": ("uring", 1),
    "control-uring-16": ("uring", 16),
}


@dataclass(frozen=True)
class Running:
    """A server that is up."""

    server: Program
    feeder: Program | None
    port: int
    load: tuple[str, ...]
    is_node: bool = False
    tells_accepted: bool = False

    def clients(self, tools: Tools, connections: int) -> Program:
        """Load clients that have begun to connect; `joined` waits for them."""
        return load(tools, self.port, connections, *self.load)

    def joined(self, clients: Program, connections: int) -> float:
        """Waits until all are subscribed; returns the seconds that it took."""
        told = clients.hear()
        if told["attached"] != connections or (self.tells_accepted and self.server.hear()["accepted"] != connections):
            raise AssertionError(f"{told['attached']} of {connections} connections were made")
        return float(told["seconds"])

    def crowd(self, clients: Program, connections: int) -> Crowd:
        """The subscribers, and who sends to them."""
        return Crowd(self.server, clients, connections, is_node=self.is_node, feeder=self.feeder)


@dataclass(frozen=True)
class Contender:
    """A server that can be started; for so many connections in all, and messages of so many bytes."""

    name: str
    version: str
    start: Callable[[int, int], AbstractContextManager[Running]]


def fanout(commit: str) -> Contender:
    """The node, whole, over a source that makes its records up."""

    @contextmanager
    def run(_: int, payload: int) -> Iterator[Running]:
        with node(f"--payload={payload}") as (server, told):
            yield Running(server, None, told["port"], (f"--key={told['key']}",), is_node=True)

    return Contender("fanout", commit, run)


def control(tools: Tools, name: str, kernel: str) -> Contender:
    """The bare kernel: one of `CONTROLS`. Its frames are as long as the node's for one message."""
    how, joined = CONTROLS[name]

    @contextmanager
    def run(connections: int, payload: int) -> Iterator[Running]:
        command = (tools.control, str(connections), str(node_frame_bytes(tools, payload)), "load-0", how, str(joined))
        with Program(*command, core=SERVER_CORE) as server:
            yield Running(server, None, server.hear()["port"], ("--raw",), tells_accepted=True)

    return Contender(name, f"Linux {kernel}", run)


def peer(which: Peer, place: Path) -> Contender:
    """Another server, from where it was fetched to."""

    @contextmanager
    def run(_: int, payload: int) -> Iterator[Running]:
        with start(which, place) as (server, port, feed):
            command = (sys.executable, "-m", "benchmarks.publisher", which.feed, str(feed), str(payload))
            with Program(*command, core=LOAD_CORE) as feeder:
                yield Running(server, feeder, port, which.load)

    return Contender(which.name, f"{which.package} {which.version}", run)
