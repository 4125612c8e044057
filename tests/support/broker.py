"""A real Apache Kafka on loopback, for tests: one JVM a node, broker and controller in one.

    python -m tests.support.broker run --nodes 3

prints one line of JSON (`bootstrap`, `dir`, `listeners`) and then obeys lines on standard input: `kill N`, `pause N`,
`resume N`, `restart N ...` (of several nodes at once; which also starts dead ones), each answered by one line of JSON.
When standard input ends, all is killed and deleted.

Rules:

- Nothing outlives the run. The keeper (that command) ends when the pipe to it closes, however its owner died; each JVM
  asks the kernel to be killed when the keeper dies.
- Tests speak to the keeper through `running()`, from any thread, one call at a time.
- Jars come from Maven, once, into $FANOUT_KAFKA_HOME (`~/.cache/fanout-kafka`). Needs Linux, Java 17 and Maven.
"""

import argparse
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["BrokerError", "Kafka", "running"]

HOST = "127.0.0.1"
POM = Path(__file__).with_name("kafka-pom.xml")
START_S = 90  # until every node serves; a start takes 3 to 15 s
SERVES = b"Kafka Server started"  # what a node logs when it does

# Only what tests would otherwise have to wait for, or could get wrong without noticing.
SETTINGS = {
    "auto.create.topics.enable": "false",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.num.partitions": "1",
    "group.initial.rebalance.delay.ms": "0",
    "log.retention.ms": "-1",
    "log.retention.check.interval.ms": "1000",
    "log.initial.task.delay.ms": "1000",
    "log.cleaner.backoff.ms": "1000",
    "log.cleaner.dedupe.buffer.size": "4194304",  # 4 MiB of the heap in place of 128
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
}


class BrokerError(Exception):
    """Kafka could not be fetched or started. The text says why, and what to do."""


# -- the tests' side --


@dataclass(frozen=True)
class Kafka:
    """A running cluster. Nodes are numbered from 1."""

    bootstrap: str
    keeper: "subprocess.Popen[str]" = field(repr=False)
    listeners: Mapping[str, str] = field(default_factory=dict)
    """Bootstrap servers of the listeners that `running` was asked for, by their names."""

    @property
    def client(self) -> dict[str, Any]:
        """Settings for a librdkafka client."""
        return {"bootstrap.servers": self.bootstrap}

    def kill(self, node: int = 1) -> None:
        """SIGKILL; returns when the process is gone."""
        self._ask(f"kill {node}")

    def pause(self, node: int = 1) -> None:
        """SIGSTOP: its connections stay open and silent."""
        self._ask(f"pause {node}")

    def resume(self, node: int = 1) -> None:
        """SIGCONT."""
        self._ask(f"resume {node}")

    def restart(self, *nodes: int) -> None:
        """Kills the nodes (1 unless given) if they live, starts them on their data and ports at once, and returns when
        all serve: a cluster of which most are dead serves nobody before most are back.
        """
        self._ask(f"restart {' '.join(map(str, nodes or (1,)))}")

    def _ask(self, line: str) -> None:
        assert self.keeper.stdin
        self.keeper.stdin.write(line + "\n")
        self.keeper.stdin.flush()
        _answer(self.keeper)


def _answer(keeper: "subprocess.Popen[str]") -> dict[str, Any]:
    assert keeper.stdout
    line = keeper.stdout.readline()
    answer: dict[str, Any] = json.loads(line) if line else {"error": "the keeper of the Kafka nodes has died"}
    if "error" in answer:
        raise BrokerError(answer["error"])
    return answer


@contextmanager
def running(
    nodes: int = 1,
    settings: Mapping[str, str] | None = None,
    listeners: Mapping[str, str] | None = None,
    options: Sequence[str] = (),
) -> Iterator[Kafka]:
    """A fresh cluster for as long as the context lasts; `settings` are the broker's, over the ones above.

    `listeners` are more of them for clients: names, and the protocol spoken there (SSL, SASL_SSL, SASL_PLAINTEXT).
    `options` are the JVMs'. Raises BrokerError.
    """
    chosen = [f"--set={key}={value}" for key, value in (settings or {}).items()]
    chosen += [f"--listener={name}={protocol}" for name, protocol in (listeners or {}).items()]
    chosen += [f"--java={option}" for option in options]
    keeper = subprocess.Popen(
        [sys.executable, "-m", "tests.support.broker", "run", f"--nodes={nodes}", *chosen],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C is for the tests; the keeper ends after them
    )
    with keeper:
        started = _answer(keeper)
        yield Kafka(started["bootstrap"], keeper, started["listeners"])
        assert keeper.stdin
        keeper.stdin.close()


# -- the keeper's side --


def jars() -> Path:
    """The directory of Kafka's jars, fetched if it is not there. Raises BrokerError."""
    for program, package in (("java", "a Java runtime, 17 or newer"), ("setpriv", "util-linux")):
        if not shutil.which(program):
            raise BrokerError(f"the tests with Kafka need {package}; FANOUT_TESTS_WITHOUT_KAFKA=1 leaves them out")
    home = Path(os.environ.get("FANOUT_KAFKA_HOME") or Path.home() / ".cache" / "fanout-kafka")
    complete = home / hashlib.sha256(POM.read_bytes()).hexdigest()[:16]
    home.mkdir(parents=True, exist_ok=True)
    with (home / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.is_dir():
            _fetch(home, complete)
    return complete


def _fetch(home: Path, complete: Path) -> None:
    if not shutil.which("mvn"):
        raise BrokerError("Kafka is fetched by Maven (mvn); FANOUT_TESTS_WITHOUT_KAFKA=1 leaves its tests out")
    with tempfile.TemporaryDirectory(dir=home) as scratch:
        target = Path(scratch, "jars")
        goal = ("dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={target}")
        _call("mvn", "--batch-mode", "--quiet", f"--file={POM}", *goal)
        target.rename(complete)


def _call(*command: str) -> None:
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise BrokerError(f"{command[0]} failed: {(ended.stdout + ended.stderr).strip()[-2000:]}")


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on, from below the kernel's range for outgoing connections.

    So a node that is down finds its port free again, whatever the tests have connected meanwhile.
    """
    lowest_outgoing = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found: list[int] = []
    for port in random.sample(range(11_000, lowest_outgoing), 500):
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)):
                found.append(port)
        if len(found) == count:
            return found
    raise BrokerError("no free ports")


@dataclass
class Node:
    """One JVM, with a directory and ports of its own."""

    number: int
    directory: Path
    ports: tuple[int, int, int]  # clients, other nodes, controllers
    listeners: Mapping[str, tuple[str, int]]  # more for clients: name -> protocol, port
    options: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def address(self) -> str:
        return f"{HOST}:{self.ports[0]}"

    @property
    def controller(self) -> str:
        return f"{self.number}@{HOST}:{self.ports[2]}"

    def configure(self, cluster: "list[Node]", settings: Mapping[str, str]) -> None:
        copies, in_sync = str(min(3, len(cluster))), str(min(2, len(cluster)))
        ports = dict(zip(("CLIENTS", "NODES", "CONTROLLERS"), self.ports, strict=True))
        protocols = dict.fromkeys(ports, "PLAINTEXT") | {name: spoken for name, (spoken, _) in self.listeners.items()}
        ports |= {name: port for name, (_, port) in self.listeners.items()}
        properties = {
            "process.roles": "broker,controller",
            "node.id": str(self.number),
            "controller.quorum.voters": ",".join(node.controller for node in cluster),
            "controller.listener.names": "CONTROLLERS",
            "inter.broker.listener.name": "NODES",
            "listeners": ",".join(f"{name}://{HOST}:{port}" for name, port in ports.items()),
            "listener.security.protocol.map": ",".join(f"{name}:{spoken}" for name, spoken in protocols.items()),
            "log.dirs": str(self.directory / "data"),
            "default.replication.factor": copies,
            "min.insync.replicas": in_sync,
            "offsets.topic.replication.factor": copies,
            "transaction.state.log.replication.factor": copies,
            "transaction.state.log.min.isr": in_sync,
            **SETTINGS,
            **settings,
        }
        self.directory.mkdir()
        lines = [f"{key}={value}\n" for key, value in properties.items()]
        (self.directory / "properties").write_text("".join(lines))

    def java(self, classes: Path, *arguments: str) -> list[str]:
        options = (
            f"-Djava.io.tmpdir={self.directory}",
            "-XX:-UsePerfData",
            "-XX:TieredStopAtLevel=1",
            "-Xmx512m",
            *self.options,
        )
        return ["java", "-cp", f"{classes}/*", *options, *arguments, str(self.directory / "properties")]

    def start(self, classes: Path) -> None:
        """Starts the JVM; `wait` tells when it serves."""
        with (self.directory / "log").open("wb") as log:
            command = ["setpriv", "--pdeathsig", "KILL", *self.java(classes, "kafka.Kafka")]
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> None:
        assert self.process
        deadline = time.monotonic() + START_S
        while SERVES not in (log := (self.directory / "log").read_bytes()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise BrokerError(f"Kafka node {self.number} did not start: {log[-3000:].decode(errors='replace')}")
            time.sleep(0.05)

    def signal(self, number: signal.Signals) -> None:
        if self.process:
            self.process.send_signal(number)
            if number is signal.SIGKILL:
                self.process.wait()


def _run(
    count: int, settings: Mapping[str, str], listeners: Mapping[str, str], options: Sequence[str], directory: Path
) -> None:
    """Starts a cluster in `directory`, obeys standard input until it ends, and kills the cluster."""
    classes = jars()
    ports = iter(free_ports((3 + len(listeners)) * count))
    nodes = [
        Node(
            number,
            directory / str(number),
            (next(ports), next(ports), next(ports)),
            {name: (protocol, next(ports)) for name, protocol in listeners.items()},
            options,
        )
        for number in range(1, count + 1)
    ]
    identity = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    try:
        for node in nodes:
            node.configure(nodes, settings)
            _call(*node.java(classes, "kafka.tools.StorageTool", "format", f"--cluster-id={identity}", "--config"))
            node.start(classes)
        for node in nodes:
            node.wait()
        also = {name: ",".join(f"{HOST}:{node.listeners[name][1]}" for node in nodes) for name in listeners}
        _say(bootstrap=",".join(node.address for node in nodes), dir=str(directory), listeners=also)
        for line in sys.stdin:
            try:
                _obey(line, nodes, classes)
                _say(ok=line.strip())
            except BrokerError as error:
                _say(error=str(error))
    finally:
        for node in nodes:
            node.signal(signal.SIGKILL)


def _obey(line: str, nodes: list[Node], classes: Path) -> None:
    verb, *numbers = line.split()
    chosen = [node for node in nodes if str(node.number) in numbers]
    if len(chosen) != len(numbers) or verb not in ("kill", "pause", "resume", "restart"):
        raise BrokerError(f"not a command of this cluster: {line.strip()!r}")
    signals = {"pause": signal.SIGSTOP, "resume": signal.SIGCONT}
    for node in chosen:
        node.signal(signals.get(verb, signal.SIGKILL))
    if verb == "restart":
        for node in chosen:
            node.start(classes)
        for node in chosen:
            node.wait()


def _say(**answer: str | Mapping[str, str]) -> None:
    print(json.dumps(answer), flush=True)  # noqa: T201  the keeper's protocol


def _main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.broker", description="A real Kafka for tests.")
    parser.add_argument("verb", choices=["run"], help="start a cluster and hold it until standard input ends")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="how many nodes (1)")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a setting of the broker")
    parser.add_argument("--listener", action="append", default=[], metavar="NAME=PROTOCOL", help="one more for clients")
    parser.add_argument("--java", action="append", default=[], metavar="OPTION", help="an option of the JVM")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both ways to end it run the clean-up
    with tempfile.TemporaryDirectory(prefix="fanout-kafka-") as directory:
        try:
            settings, listeners = (
                dict(pair.split("=", 1) for pair in pairs) for pairs in (arguments.set, arguments.listener)
            )
            _run(arguments.nodes, settings, listeners, arguments.java, Path(directory))
        except BrokerError as error:
            _say(error=str(error))
            sys.exit(1)
        except KeyboardInterrupt:
            sys.exit(0)


if __name__ == "__main__":
    _main()
