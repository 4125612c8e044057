"""Everybody of many channels comes back at once to a node that has just started, and memory holds nothing of what they
missed: how soon all are current, what the log is asked for that, and what it costs the node.

The channels' messages lie side by side in every partition, and each channel's clients left at another place. More is
sent meanwhile, so they go on live while the others are still replayed. Every message is checked to arrive once and in
order. The broker, the producer and the clients share the other core; the clients have it when nobody else wants it.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.conftest import FULL, Record
from benchmarks.harness import LAST, Program, Tools, complete, load, node, producer, settled, wait_until
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic

pytestmark = pytest.mark.kafka

PARTITIONS = 12
CHANNELS = 200 if FULL else 24
RETURNING = 2_000 if FULL else 96
PARTS = 10 if FULL else 4  # of the channels, each of which left a little later
STEP = 5  # messages to each channel between those
MISSED = 500 if FULL else 50  # messages to each channel while the node is away
RATE = 20_000  # records a second, while nobody is there
LIVE_RATE = 1_000 if FULL else 200  # and while they come back
FORGOTTEN_S = 2.5  # more than the node remembers


def bench_resume_channels(
    benchmark: Any, record: Record, tools: Tools, kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    """All clients of all channels come back from the log."""
    topic = kafka_topic(PARTITIONS)
    started = ("--kafka", kafka.bootstrap, "--topic", topic, "--history", "1s", "--watch-loop")
    with producer(kafka.bootstrap, topic, f"--channels={CHANNELS}") as feeder:
        with node(*started) as (former, _):
            places = leave(former, feeder)
        feeder.ask(f"pace {MISSED} {RATE}")
        time.sleep(FORGOTTEN_S)
        with node(*started) as (server, told):
            lines = tmp_path / "places"
            lines.write_text("".join(f"{position} {number}\n" for position, number in places))
            options = (f"--key={told['key']}", f"--channels={CHANNELS}", "--since", str(lines), "--pace=1024")
            time.sleep(FORGOTTEN_S)
            server.ask("stall")

            def come_back() -> tuple[float, float, dict[str, Any]]:
                before, begun = server.cost(), time.perf_counter()
                with (
                    load(tools, told["port"], RETURNING, *options, turn=LAST) as clients,
                    ThreadPoolExecutor(1) as waiting,
                ):
                    current = waiting.submit(all_current, clients)
                    while not current.done():
                        sent = int(feeder.ask(f"pace 1 {LIVE_RATE}")["sent"])
                    sent = int(feeder.ask(f"pace 1 {LIVE_RATE}")["sent"])
                    seconds, cost = current.result() - begun, server.cost() - before
                    all_have(clients, sent)
                    owed = sum(sent - places[number % CHANNELS][1] for number in range(RETURNING))
                    complete(clients.ask("report"), owed)
                    settled(clients)
                return seconds, cost.cpu_s, server.ask("stall")

            seconds, cpu_s, late = benchmark.pedantic(come_back, rounds=1)
            stats = server.ask("stats")
    assert stats["resumed_from_log"] == RETURNING
    record(
        returning=RETURNING,
        channels=CHANNELS,
        partitions=PARTITIONS,
        missed_each=MISSED,
        seconds=seconds,
        cpu_s=cpu_s,
        reads=stats["reads"],
        questions=stats["questions"],
        loop_late_p99_ms=late["p99_ms"],
        loop_late_max_ms=late["max_ms"],
    )


def leave(server: Program, feeder: Program) -> list[tuple[str, int]]:
    """Where the clients of each channel leave: the position, and the number of the first message behind it."""
    places = [("", 0)] * CHANNELS
    for part in range(PARTS):
        sent = int(feeder.ask(f"pace {STEP} {RATE}")["sent"])
        wait_until(partial(has_read, server, sent * CHANNELS), "all that was sent")
        for channel in range(part, CHANNELS, PARTS):
            places[channel] = server.ask(f"position load-{channel}")["position"], sent
    return places


def has_read(server: Program, messages: int) -> bool:
    """Whether a node has read so many."""
    return bool(server.ask("stats")["messages"] == messages)


def all_current(clients: Program) -> float:
    """Waits until all are back and have what they missed; the time then."""
    assert clients.hear()["attached"] == RETURNING
    all_have(clients, PARTS * STEP + MISSED)
    return time.perf_counter()


def all_have(clients: Program, number: int) -> None:
    """Waits until all have what comes below that number."""
    assert clients.ask(f"until {number}") == {"reached": True, "missing": 0}
