"""The interpreter's lock while a topic is read at full speed: how long a call may hold it, how late others have it.

Two things make an event loop late beside a thread that reads: the lock, which is measured here with the one who waits
on a core of its own, and one core for both, which `bench_ingest.py` has as well.
"""

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Consumer, TopicPartition

from benchmarks.bench_ingest import PAYLOADS, RECORDS, fill
from benchmarks.conftest import Record
from benchmarks.harness import LOAD_CORE, SERVER_CORE
from fanout._core import Engine
from fanout.cli.foreground import tune_interpreter
from fanout.rules.route import Rule
from fanout.sources.base import LIMITS
from fanout.sources.kafka import CLIENT, CONSUMER, FIXED
from fanout.sources.kafka_batch import PIECE_RECORDS, whole_batch
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic

if TYPE_CHECKING:
    from confluent_kafka import Message

pytestmark = pytest.mark.kafka

LARGE = 16_384
MOST_BYTES = 200 << 20  # of the large records whose batches are timed
TICK_S = 0.0003
IDLE_S = 0.5
SHARE = 0.7  # of the CPU time of a whole batch that one piece may take; a quarter as a rule


@pytest.fixture
def tuned() -> Iterator[None]:
    """An interpreter like a node's."""
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    tune_interpreter()
    yield
    gc.unfreeze()
    gc.set_threshold(*thresholds)
    sys.setswitchinterval(interval)


class Timed:
    """A consumer that keeps how much CPU time each of its calls takes, in ms; `whole` makes one call of a batch."""

    def __init__(self, consumer: Consumer) -> None:
        self._consumer = consumer
        self.calls: list[float] = []
        self.most = 0

    def consume(self, num_messages: int, timeout: float, /) -> "list[Message[bytes, bytes]]":
        begun = time.thread_time()
        piece = self._consumer.consume(num_messages, timeout)
        if piece:
            self.calls.append((time.thread_time() - begun) * 1000)
            self.most = max(self.most, len(piece))
        return piece


class Ticker(threading.Thread):
    """Wants the interpreter's lock every 0.3 ms, on a core of its own; keeps how late it had it, in ms."""

    def __init__(self) -> None:
        super().__init__()
        self.late: list[float] = []
        self.is_over = False

    def run(self) -> None:
        os.sched_setaffinity(threading.get_native_id(), {LOAD_CORE})
        while not self.is_over:
            begun = time.perf_counter()
            time.sleep(TICK_S)
            self.late.append((time.perf_counter() - begun - TICK_S) * 1000)


@contextmanager
def ticking() -> Iterator[Ticker]:
    ticker = Ticker()
    ticker.start()
    try:
        yield ticker
    finally:
        ticker.is_over = True
        ticker.join()


@contextmanager
def on_server_core() -> Iterator[None]:
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(threading.get_native_id(), {SERVER_CORE})
    yield
    os.sched_setaffinity(threading.get_native_id(), before)


def p99(values: Sequence[float]) -> float:
    return sorted(values)[len(values) * 99 // 100]


def high(values: Sequence[float]) -> float:
    """What the long ones take, of which not every call is one: there may be less than is asked for."""
    return sorted(values)[len(values) * 9 // 10]


@pytest.mark.usefixtures("tuned")
@pytest.mark.parametrize("payload", [*PAYLOADS, LARGE])
def bench_lock__reading_kafka(
    benchmark: Any, record: Record, kafka: Kafka, kafka_topic: NewKafkaTopic, payload: int
) -> None:
    """CPU time of the reading thread for one call: to get a batch from the client library, whole and as a node does it,
    and to hand one over. And how late somebody on another core has the interpreter's lock meanwhile.

    The lock is free in parts of each call, so it is held for less at a time than any takes.
    """
    topic, records = kafka_topic(1), min(RECORDS, MOST_BYTES // payload)
    fill(kafka, topic, payload, records)
    consumer = Consumer({**CLIENT, **CONSUMER, **FIXED, **kafka.client})
    bridge: list[float] = []  # ms

    def read_all(next_batch: Callable[[], "list[Message[bytes, bytes]]"]) -> None:
        engine = Engine(secret=bytes(16))
        engine.rules([Rule(topic, "#{key}")])
        engine.partition(topic, bytes(16), 0, 0)
        consumer.assign([TopicPartition(topic, 0, 0)])
        read = 0
        while read < records:
            batch = next_batch()
            begun = time.thread_time()
            engine.records(batch)
            if len(batch) == LIMITS.read_batch:
                bridge.append((time.thread_time() - begun) * 1000)
            read += len(batch)
        assert engine.stats()["messages"] == records
        engine.close()

    whole, pieces = Timed(consumer), Timed(consumer)

    def batch_in_pieces() -> "list[Message[bytes, bytes]]":
        first = consumer.poll(0.1)
        return [] if first is None else whole_batch(first, pieces)

    with on_server_core(), ticking() as idle:
        time.sleep(IDLE_S)
    with on_server_core(), ticking() as reading:
        benchmark.pedantic(read_all, (batch_in_pieces,), rounds=1)
    with on_server_core():
        read_all(lambda: whole.consume(LIMITS.read_batch, 0.1))
    consumer.close()
    assert pieces.most <= PIECE_RECORDS
    assert high(pieces.calls) <= high(whole.calls) * SHARE, "what is asked for is a part of what there is"
    record(
        payload_bytes=payload,
        records=records,
        piece_ms=median(pieces.calls),
        piece_p99_ms=p99(pieces.calls),
        whole_ms=median(whole.calls),
        whole_p99_ms=p99(whole.calls),
        bridge_ms=median(bridge) if bridge else None,
        bridge_p99_ms=p99(bridge) if bridge else None,
        lock_late_ms=median(reading.late),
        lock_late_p99_ms=p99(reading.late),
        idle_late_ms=median(idle.late),
        idle_late_p99_ms=p99(idle.late),
    )
