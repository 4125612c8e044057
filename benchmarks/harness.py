"""The programs that a benchmark consists of, each a process on its own core, and what they cost.

- A program is spoken to in lines and answers each with one line of JSON; none outlives its block.
- Cost is CPU time, user and system, of the server's whole process, read from outside by the kernel's own clock.
- A server runs on the first core, whoever loads it on the last: with one core they share it, and figures mean little.
"""

import json
import math
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Self

__all__ = [
    "FIRST",
    "LAST",
    "LOAD_CORE",
    "ROOT",
    "SERVER_CORE",
    "Cost",
    "Crowd",
    "Program",
    "Received",
    "Tools",
    "build_tools",
    "complete",
    "load",
    "node",
    "node_frame_bytes",
    "producer",
    "settled",
    "wait_until",
]

ROOT = Path(__file__).parent.parent
CORES = sorted(os.sched_getaffinity(0))
SERVER_CORE, LOAD_CORE = CORES[0], CORES[-1]
FIRST = ("chrt", "--fifo", "1") if os.geteuid() == 0 else ()
"""Whose turn it is before everybody else's on the core, as soon as it wants; only root may ask for that."""
LAST = ("nice", "-n", "19")
"""Whose turn it is when nobody else wants the core, or nearly so."""
ANSWER_S = 90
SETTLE_S = 0.2
WAIT_S = 30
LOOK_S = 0.01
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Cost:
    """What a process has used so far; subtract two. `user_s` has the grain of the kernel's ticks, 10 ms."""

    cpu_s: float
    user_s: float
    wall_s: float

    def __sub__(self, earlier: "Cost") -> "Cost":
        return Cost(self.cpu_s - earlier.cpu_s, self.user_s - earlier.user_s, self.wall_s - earlier.wall_s)


class Program:
    """A running program; a context that kills it. It ends with the driver, and does not hear of its Ctrl-C."""

    def __init__(self, *command: str | Path, core: int, folder: Path = ROOT, turn: tuple[str, ...] = ()) -> None:
        """Its `turn` may be FIRST or LAST."""
        pinned = ["setpriv", "--pdeathsig=KILL", "taskset", "--cpu-list", str(core), *turn, *map(str, command)]
        self._process = subprocess.Popen(
            pinned, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0, process_group=0
        )
        self._name = Path(command[0]).name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def hear(self) -> dict[str, Any]:
        """The next line that it prints. Fails if there is none within 90 s."""
        assert self._process.stdout is not None
        poll = select.poll()  # unlike select.select, for descriptors of any number
        poll.register(self._process.stdout, select.POLLIN)
        readable = poll.poll(ANSWER_S * 1000)
        line = self._process.stdout.readline() if readable else b""
        if not line:
            raise AssertionError(f"{self._name} {'has ended' if readable else 'does not answer'}; see its error output")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def ask(self, line: str) -> dict[str, Any]:
        """Says a line and returns the answer. Fails if the program has ended, or has no answer within 90 s."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
        except BrokenPipeError:
            raise AssertionError(f"{self._name} has ended; see its error output") from None
        return self.hear()

    def cost(self) -> Cost:
        """CPU time of all its threads, and the time of day."""
        clock = (~self.pid << 3) | 2  # the kernel's name for another process's CPU clock: clock_getcpuclockid(3)
        ticks = int(Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[11])
        return Cost(time.clock_gettime(clock), ticks * TICK_S, time.perf_counter())

    def threads(self) -> dict[str, float]:
        """CPU time in s of its threads by name, digits left out; that of the first one is `main`."""
        seconds: dict[str, float] = {}
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            name = (task / "comm").read_text().strip().rstrip("0123456789")
            name = "main" if int(task.name) == self.pid else name
            seconds[name] = seconds.get(name, 0.0) + int((task / "schedstat").read_text().split()[0]) / 1e9
        return seconds

    def memory(self) -> int:
        """Bytes of its own memory that are resident: not the kernel's for its sockets, not files."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("RssAnon:"))


@dataclass(frozen=True)
class Tools:
    """What is compiled for the benchmarks."""

    load: Path
    control: Path


def build_tools(directory: Path) -> Tools:
    """Compiles the load client, and the control into `directory`."""
    cargo = ["cargo", "build", "--quiet", "--release", "--manifest-path", "rust/Cargo.toml", "--package", "fanout-load"]
    subprocess.run(cargo, cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "rust/target"))
    control = directory / "control"
    sources = ["benchmarks/control.c", "benchmarks/control_uring.c"]
    subprocess.run([shutil.which("cc") or "gcc", "-O2", "-o", control, *sources], cwd=ROOT, check=True)
    return Tools(target / "release/fanout-load", control)


@contextmanager
def node(*arguments: str) -> Iterator[tuple[Program, dict[str, Any]]]:
    """A node as `benchmarks/node.py` runs it, and what it says of itself."""
    with Program(sys.executable, "-m", "benchmarks.node", *arguments, core=SERVER_CORE) as server:
        yield server, server.hear()


def load(tools: Tools, port: int, connections: int, *arguments: str, turn: tuple[str, ...] = ()) -> Program:
    """A load client; the first thing that it says is that all are attached."""
    count = f"--connections={connections}"
    command: tuple[str | Path, ...] = (tools.load, "receive", f"127.0.0.1:{port}", count, *arguments)
    return Program(*command, core=LOAD_CORE, turn=turn)


@contextmanager
def producer(kafka: str, topic: str, *arguments: str, turn: tuple[str, ...] = ()) -> Iterator[Program]:
    """A producer to a topic, as `benchmarks/producer.py` runs it: it obeys `send` like the node and the control."""
    command = (sys.executable, "-m", "benchmarks.producer", kafka, topic, *arguments)
    with Program(*command, core=LOAD_CORE, turn=turn) as feeder:
        yield feeder


class Crowd:
    """A server with subscribers, who receive `send`: one message in each channel, and each follows one channel."""

    def __init__(
        self,
        server: Program,
        clients: Program,
        connections: int,
        *,
        is_node: bool,
        batch: int = 1,
        feeder: Program | None = None,
    ) -> None:
        """A node is handed `batch` records at a time. A `feeder` is who obeys `send` in the server's place."""
        self.server = server
        self.clients = clients
        self.connections = connections
        self._feeder = feeder or server
        self._batch = f" {batch}" if is_node and feeder is None else ""
        self._sent = 0

    def _send(self, count: int) -> None:
        self._sent = int(self._feeder.ask(f"send {count}{self._batch}")["sent"])

    def _await(self, target: int) -> None:
        answer = self.clients.ask(f"until {target}")
        if not answer["reached"]:
            raise AssertionError(f"{answer['missing']} subscribers still lack messages up to {target}")

    def one_at_a_time(self, messages: int) -> "Received":
        """Each message is sent when all have the one before."""
        return self.windowed(messages, window=1)

    def windowed(self, messages: int, window: int) -> "Received":
        """So many are under way at a time: as soon as all have half of them, as many follow."""

        def send_all() -> float:
            end = self._sent + messages
            self._send(min(window, messages))
            while self._sent < end:
                self._await(self._sent - window // 2)
                self._send(min(max(window // 2, 1), end - self._sent))
            return 0.0

        return self._received(messages, send_all)

    def paced(self, messages: int, per_second: float) -> "Received":
        """A message each so often, whether or not the one before has arrived."""
        begun = time.monotonic()

        def send_all() -> float:
            behind_s = 0.0
            for number in range(messages):
                due = begun + number / per_second
                time.sleep(max(due - time.monotonic(), 0))
                behind_s = max(behind_s, time.monotonic() - due)
                self._send(1)
            return behind_s * 1000

        return self._received(messages, send_all)

    def fed(self, messages: int, rate: int, behind_max_ms: float = math.inf) -> "Received":
        """So many in each channel, `rate` a second in all channels together; the feeder keeps the time.

        Fails if it was further behind than `behind_max_ms`: messages are stamped when they are produced, so that a
        slow feeder makes latencies look better than they are.
        """

        def send_all() -> float:
            behind_ms = float(self._feeder.ask(f"pace {messages} {rate}")["behind_ms"])
            if behind_ms > behind_max_ms:
                raise AssertionError(
                    f"the feeder was {behind_ms:.0f} ms behind; at most {behind_max_ms:.0f} are allowed"
                )
            self._sent += messages
            return behind_ms

        return self._received(messages, send_all)

    def frame_bytes(self) -> int:
        """How long a frame of one message is."""
        return int(self.one_at_a_time(5).report["bytes"]) // (5 * self.connections)

    def _received(self, messages: int, send_all: Callable[[], float]) -> "Received":
        """`send_all` returns by how much the feeder was ever behind its schedule, in ms."""
        target = self._sent + messages
        deliveries = messages * self.connections
        before = self.server.cost()
        behind_ms = send_all()
        self._await(target)
        cost = self.server.cost() - before
        return Received(deliveries, cost, complete(self.clients.ask("report"), deliveries), behind_ms)


@cache
def node_frame_bytes(tools: Tools, payload: int) -> int:
    """How long the node's JSON frame of one message is: what a control's frames are as long as."""
    with node(f"--payload={payload}") as (server, told), load(tools, told["port"], 1, f"--key={told['key']}") as client:
        assert client.hear()["attached"] == 1
        return Crowd(server, client, 1, is_node=True).frame_bytes()


def settled(*clients: Program) -> None:
    """Fails if anything comes to load clients that was not sent, since their last reports."""
    time.sleep(SETTLE_S)
    for each in clients:
        complete(each.ask("report"), 0)


def wait_until(holds: Callable[[], bool], what: str, seconds: float = WAIT_S) -> None:
    """Looks again and again. Fails, saying `what` did not come about, if it does not hold in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} has not come about within {seconds} s")
        time.sleep(LOOK_S)


def complete(report: dict[str, Any], deliveries: int) -> dict[str, Any]:
    """The load client's report, which is checked to be one of so many deliveries, and of nothing gone wrong."""
    expected = {"lost": 0, "doubled": 0, "reordered": 0, "closed": 0, "deliveries": deliveries}
    if (found := {what: report[what] for what in expected}) != expected:
        raise AssertionError(f"subscribers received {found}, and should have {expected}")
    return report


@dataclass(frozen=True)
class Received:
    """What arrived in one round, all of it in order, and what it cost the server."""

    deliveries: int
    cost: Cost
    report: dict[str, Any]
    behind_ms: float

    @property
    def cpu_us(self) -> float:
        """CPU time per delivery in µs."""
        return self.cost.cpu_s / self.deliveries * 1e6
