"""After a restart: how soon a node is ready, and what it takes until all who come back have what they missed.

The node has a core of its own. On the other, who produces for those who are there already and those themselves come
first, whatever else wants the core, and those who come back have it when nobody else does: so the latency from produce
to receipt is the node's, and the broker's. Every message is checked to arrive once and in order, by those who come back
as by those who are there already.
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conftest import FULL, Record
from benchmarks.harness import FIRST, LAST, Program, Tools, complete, load, node, producer, settled, wait_until
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic

pytestmark = pytest.mark.kafka

PARTITIONS = 4
BEFORE = 100  # messages that all have when the node goes
MISSED = 1_000 if FULL else 100  # messages while it is away
RETURNING = 10_000 if FULL else 200
AT_ONCE = 1_024  # connections being opened at any time
THERE = 50  # subscribers of another channel
RATE = 100 if FULL else 20  # messages a second on that one
STEP = RATE // 5 if FULL else RATE // 10  # sent before looking whether it is over
FORGOTTEN_S = 2.0  # more than the shorter of the two histories
QUIET = 40 if FULL else 3  # steps before anybody comes back
FILLED = 600_000 if FULL else 20_000  # two minutes at 5,000 a second
FILLED_CHANNELS = 1_000
FILL_RATE = 100_000  # records a second: what the broker takes from one producer without its queue running over
READ_BACK = "2m"


@pytest.mark.parametrize("history", ["2m", "1s"], ids=["from-memory", "from-the-log"])
def bench_resume__all_at_once(
    benchmark: Any,
    record: Record,
    tools: Tools,
    kafka: Kafka,
    kafka_topic: NewKafkaTopic,
    tmp_path: Path,
    history: str,
) -> None:
    """All subscribers of a channel come back to a node that has just started, while it serves another channel."""
    topic = kafka_topic(PARTITIONS)
    started = ("--kafka", kafka.bootstrap, "--topic", topic, "--history", history)
    with (
        producer(kafka.bootstrap, topic) as missed,
        producer(kafka.bootstrap, topic, "--first-channel=1", turn=FIRST) as stream,
    ):
        with node(*started) as (former, _):
            missed.ask(f"pace {BEFORE} 1000")
            wait_until(lambda: former.ask("stats")["messages"] == BEFORE, "all that was sent")
            position = former.ask("position load-0")["position"]
        missed.ask(f"pace {MISSED} 10000")
        with (
            node(*started, "--watch-loop") as (server, told),
            load(tools, told["port"], THERE, f"--key={told['key']}", "--first-channel=1", turn=FIRST) as there,
        ):
            assert there.hear()["attached"] == THERE
            steady = Stream(stream, there)
            steady.step()  # and memory that reaches back for a second holds nothing of what was missed
            steady.report()
            time.sleep(FORGOTTEN_S)
            server.ask("stall")
            begun = server.cost()
            for _ in range(QUIET):
                steady.step()
            before, quiet, late_before = steady.report(), server.cost() - begun, server.ask("stall")
            places = tmp_path / "places"
            places.write_text(f"{position} {BEFORE}\n")
            options = (f"--key={told['key']}", f"--pace={AT_ONCE}", "--since", str(places))

            def come_back() -> tuple[float, dict[str, Any], float]:
                begun = server.cost()
                clients = load(tools, told["port"], RETURNING, *options, turn=LAST)
                with clients, ThreadPoolExecutor(1) as waiting:
                    current = waiting.submit(all_current, clients)
                    while not current.done():
                        steady.step()
                    cost = server.cost() - begun
                    complete(clients.ask("report"), MISSED * RETURNING)
                return current.result(), steady.report(), cost.cpu_s - quiet.cpu_s * cost.wall_s / quiet.wall_s

            seconds, during, cpu_s = benchmark.pedantic(come_back, rounds=1)
            late_during = server.ask("stall")
            settled(there)
            resumed, from_log = (int(server.ask("stats")[name]) for name in ("resumed", "resumed_from_log"))
    assert (resumed, from_log) == ((RETURNING, 0) if history == "2m" else (0, RETURNING))
    record(
        returning=RETURNING,
        missed=MISSED,
        seconds=seconds,
        cpu_s=cpu_s,
        cpu_us_per_client=cpu_s / RETURNING * 1e6,
        subscribers=THERE,
        p50_before_ms=before["p50_us"] / 1000,
        p99_before_ms=before["p99_us"] / 1000,
        p50_during_ms=during["p50_us"] / 1000,
        p99_during_ms=during["p99_us"] / 1000,
        max_during_ms=during["max_us"] / 1000,
        loop_late_p99_before_ms=late_before["p99_ms"],
        loop_late_p99_during_ms=late_during["p99_ms"],
        loop_late_max_during_ms=late_during["max_ms"],
    )


class Stream:
    """Messages on the channel of those who are there, and what they say of them."""

    def __init__(self, producer: Program, subscribers: Program) -> None:
        self._producer = producer
        self._subscribers = subscribers
        self._sent = 0
        self._told = 0

    def step(self) -> None:
        """Sends some, as fast as its pace."""
        self._sent = int(self._producer.ask(f"pace {STEP} {RATE}")["sent"])

    def report(self) -> dict[str, Any]:
        """Of all since the last report, once all have all of it."""
        assert self._subscribers.ask(f"until {self._sent}") == {"reached": True, "missing": 0}
        new, self._told = self._sent - self._told, self._sent
        return complete(self._subscribers.ask("report"), new * THERE)


def all_current(clients: Program) -> float:
    """Waits until all have what they missed; the seconds since the first connected."""
    begun = time.perf_counter()
    assert clients.hear()["attached"] == RETURNING
    assert clients.ask(f"until {BEFORE + MISSED}") == {"reached": True, "missing": 0}
    return time.perf_counter() - begun


def bench_resume__start(benchmark: Any, record: Record, kafka: Kafka, kafka_topic: NewKafkaTopic) -> None:
    """A node starts on a topic with a history window full of messages."""
    topic = kafka_topic(PARTITIONS)
    with producer(kafka.bootstrap, topic, f"--channels={FILLED_CHANNELS}", "--payload=128") as feeder:
        feeder.ask(f"pace {FILLED // FILLED_CHANNELS} {FILL_RATE}")
    started = ("--kafka", kafka.bootstrap, "--topic", topic, "--history", READ_BACK)
    found: list[tuple[float, float, int]] = []

    def start() -> None:
        begun = time.perf_counter()
        with node(*started) as (server, _):
            listening = time.perf_counter() - begun
            is_there: Callable[[], bool] = lambda: server.ask("stats")["messages"] == FILLED  # noqa: E731
            wait_until(is_there, "the whole window")
            found.append((time.perf_counter() - begun, listening, server.memory()))

    benchmark.pedantic(start, rounds=3 if FULL else 1)
    seconds, listening, memory = sorted(found)[len(found) // 2]
    record(
        messages=FILLED,
        payload_bytes=128,
        partitions=PARTITIONS,
        seconds=seconds,
        of_that_until_listening_seconds=listening,
        resident_mib=memory / (1 << 20),
    )
