"""Nodes as users run them, `fanout serve` as processes of their own over one Kafka, and what can be seen of each."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.harness import SERVER_CORE, Program
from tests.support.broker import Kafka
from tests.support.node import free_port

__all__ = ["KEY", "Node", "Read", "Writer", "cluster"]

KEY = "bench.key:secret"
SECRET = "one secret for all nodes of a log"
Read = Literal["all", "needed"]
READY_S = 60.0
READ_S = 120.0
LOOK_S = 0.2  # a scrape takes a node one or two milliseconds


class Node(Program):
    """One node, on the servers' core."""

    def __init__(self, kafka: Kafka, topic: str, data: Path, read: Read | None) -> None:
        self.port = free_port()
        route = f'topic = "{topic}"\nchannel = "#{{key}}"\n'
        if read is not None:
            route += f'partitioner = "murmur2"\nread = "{read}"\n'
        rules = data.with_suffix(".toml")
        rules.write_text(f"[[route]]\n{route}")
        self._brokers = kafka.bootstrap.split(",")
        super().__init__(
            *("setpriv", "--pdeathsig", "KILL"),  # a node outlives no test run, however that ends
            *(sys.executable, "-m", "fanout", "serve", "--port", str(self.port), "--data", data, "--key", KEY),
            *("--kafka", kafka.bootstrap, "--rules", rules, "--publish-topic", topic),
            *("--secret", SECRET, "--log-level", "warning"),
            core=SERVER_CORE,
        )

    def await_ready(self) -> None:
        """Fails unless the node says within a minute that it has caught up."""
        deadline = time.monotonic() + READY_S
        while not self._answers("/ready"):
            assert time.monotonic() < deadline, f"the node on port {self.port} is not ready"
            time.sleep(LOOK_S)

    def _answers(self, path: str) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5):
                return True
        except (OSError, urllib.error.HTTPError):
            return False

    def metrics(self) -> dict[str, float]:
        """What /metrics says, without the prefix of the names; labels are left out and their values added up."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            text = answer.read().decode()
        totals: defaultdict[str, float] = defaultdict(float)
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                totals[sample.name.removeprefix("fanout_")] += sample.value
        return totals

    def await_records(self, count: float) -> None:
        """Fails unless the node has read so many records, ever, within two minutes."""
        deadline = time.monotonic() + READ_S
        while (read := self.metrics()["records_in_total"]) < count:
            assert time.monotonic() < deadline, f"{read:.0f} of {count:.0f} records were read"
            time.sleep(LOOK_S)

    def fetched_bytes(self) -> int:
        """What its open connections to brokers have received, by the kernel's count. Needs `ss` of iproute2."""
        brokers = " or ".join(f"dst {broker}" for broker in self._brokers)
        listed = subprocess.run(["ss", "-tinpH", brokers], capture_output=True, text=True, check=True).stdout
        own = re.findall(rf"pid={self.pid},.*\n.*\bbytes_received:(\d+)", listed)
        return sum(map(int, own))

    def kill(self) -> None:
        """SIGKILL: nothing of it is given the time to say goodbye."""
        os.kill(self.pid, signal.SIGKILL)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stands still for the length of the block, so that it finds all that is written meanwhile at once."""
        os.kill(self.pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(self.pid, signal.SIGCONT)


class Writer:
    """Writes records to channels `NAME-0`, `NAME-1`, …: values `SEQUENCE SENT_US xxx`, as `fanout-load` checks them."""

    def __init__(self, kafka: Kafka, topic: str, name: str, channels: int, payload: int) -> None:
        settings = {"linger.ms": 2, "queue.buffering.max.messages": 1_000_000, "partitioner": "murmur2"}
        self._producer = Producer({**kafka.client, **settings})
        self._topic = topic
        self._name = name.encode()
        self._channels = channels
        self._payload = payload
        self.written = 0
        self._confirmed = 0

    def write(self, count: int) -> None:
        """Writes so many records, channels taking turns, and returns when the log has them."""
        for number in range(self.written, self.written + count):
            sequence, channel = divmod(number, self._channels)
            value = b"%d %d " % (sequence, time.monotonic_ns() // 1000)
            self._producer.produce(
                self._topic,
                value.ljust(self._payload, b"x"),
                b"%b-%d" % (self._name, channel),
                on_delivery=self._is_written,
            )
            if number % 1000 == 0:
                self._producer.poll(0)
        self.written += count
        self._producer.flush(60)
        assert self._confirmed == self.written

    def _is_written(self, error: object, _: object) -> None:
        assert error is None
        self._confirmed += 1

    def tick(self, ticks: int, records: int, period_s: float) -> float:
        """Writes `records` every `period_s`, so often; returns how long that took."""
        begun = time.perf_counter()
        for tick in range(ticks):
            time.sleep(max(begun + tick * period_s - time.perf_counter(), 0))
            self.write(records)
        return time.perf_counter() - begun


@contextmanager
def cluster(kafka: Kafka, topic: str, nodes: int, read: Read | None = None) -> Iterator[list[Node]]:
    """So many nodes over one topic, all ready; with `read` they know where its keys lie."""
    with TemporaryDirectory(prefix="fanout-scale-") as directory, ExitStack() as stack:
        places = [Path(directory, str(number)) for number in range(nodes)]
        running = [stack.enter_context(Node(kafka, topic, place, read)) for place in places]
        for node in running:
            node.await_ready()
        yield running
