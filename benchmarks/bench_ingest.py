"""From a real Kafka topic into the engine: plain records with keys, routed to channels by them; and where it goes.

CPU time of a record is that of the node's whole process, all of its threads on one core, in four parts:

- consume: a process that reads the same topic with the same settings and throws the records away (`discard.py`);
- route, message, dedup, append: `fanout-load ingest` over records of the same shape;
- bridge: what is left. Records out of Python's objects, the reading thread, the event loop that is watched meanwhile.

Parts are measured apart, so that the node carries no clocks; what they share, such as caches, counts where it falls.
"""

import sys
from statistics import median
from typing import Any

import pytest
from confluent_kafka import Producer

from benchmarks.conftest import FULL, Record
from benchmarks.harness import SERVER_CORE, Program, Tools, node
from fanout.sources.base import LIMITS
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic

pytestmark = pytest.mark.kafka

ROUNDS = 5 if FULL else 2
RECORDS = 400_000 if FULL else 100_000
PAYLOADS = [100, 1_024] if FULL else [100]
CHANNELS = 100
PARTITIONS = 4
STAGES = ("route", "message", "dedup", "append")


def fill(kafka: Kafka, topic: str, payload: int, records: int = RECORDS) -> None:
    """Writes so many records, and fails unless the broker has confirmed each."""
    confirmed = 0

    def on_delivery(error: object, _: object) -> None:
        nonlocal confirmed
        assert error is None
        confirmed += 1

    producer = Producer({**kafka.client, "linger.ms": 20, "queue.buffering.max.messages": 20_000})
    for number in range(records):
        value = b"%d " % number
        while True:
            try:
                producer.produce(
                    topic, value.ljust(payload, b"x"), b"load-%d" % (number % CHANNELS), on_delivery=on_delivery
                )
                break
            except BufferError:
                producer.poll(0.1)
        producer.poll(0)
    producer.flush(60)
    assert confirmed == records


def discarded(kafka: Kafka, topic: str) -> dict[str, float]:
    """The topic read by the client library alone."""
    command = (sys.executable, "-m", "benchmarks.discard", kafka.bootstrap, topic, PARTITIONS, RECORDS)
    with Program(*map(str, command), core=SERVER_CORE) as reader:
        answer = reader.hear()
    assert answer["records"] > 0
    return answer


def read_by_node(kafka: Kafka, topic: str, payload: int) -> dict[str, Any]:
    """The topic read by a node that starts on it; timed from the first records on, what comes before is not in it."""
    with node("--watch-loop", "--kafka", kafka.bootstrap, "--topic", topic) as (server, _):
        answer = server.ask(f"read {RECORDS}")
        stall = server.ask("stall")
    counts = answer["stats"]
    # The topics of state are read whole, and may have records and channels of others who use the cluster; no messages.
    assert counts["messages"] == RECORDS
    assert counts["bytes_in"] >= RECORDS * payload
    assert counts["channels"] >= CHANNELS
    return answer | {"stall": stall}


def engine_ns(tools: Tools, payload: int) -> dict[str, float]:
    """What such a record costs the engine, in ns for each stage: medians of rounds after a first."""
    options = (f"--payload={payload}", f"--channels={CHANNELS}")
    with Program(tools.load, "ingest", *options, core=SERVER_CORE) as engine:
        engine.hear()
        rounds = [engine.ask(f"round {RECORDS} {LIMITS.read_batch}") for _ in range(ROUNDS + 1)]
    assert all(done["appended"] == RECORDS for done in rounds)
    return {stage: median(done["ns"][stage] / RECORDS for done in rounds[1:]) for stage in rounds[0]["ns"]}


@pytest.mark.parametrize("payload", PAYLOADS)
def bench_ingest__from_kafka(
    benchmark: Any, record: Record, tools: Tools, kafka: Kafka, kafka_topic: NewKafkaTopic, payload: int
) -> None:
    """A full topic, in turns read by a node and by the client library alone; the engine's stages beside them."""
    topic = kafka_topic(PARTITIONS)
    fill(kafka, topic, payload)
    answers: list[dict[str, Any]] = []
    alone: list[dict[str, float]] = []

    def read_all() -> None:
        answers.append(read_by_node(kafka, topic, payload))
        alone.append(discarded(kafka, topic))

    benchmark.pedantic(read_all, rounds=ROUNDS)
    whole, consume = (median(a["cpu_s"] / a["records"] * 1e6 for a in reads) for reads in (answers, alone))
    engine = engine_ns(tools, payload)
    spent = {
        "consume": consume,
        "bridge": whole - consume - engine["whole"] / 1000,
        **{stage: engine[stage] / 1000 for stage in STAGES},
    }
    stalls = [answer["stall"] for answer in answers if answer["stall"]["looks"]]
    assert stalls
    record(
        records=RECORDS,
        payload_bytes=payload,
        channels=CHANNELS,
        partitions=PARTITIONS,
        rounds=ROUNDS,
        records_per_s=round(median(a["records"] / a["wall_s"] for a in answers)),
        records_per_cpu_s=round(1e6 / whole),
        cpu_us_per_record=whole,
        **{f"{stage}_us": us for stage, us in spent.items()},
        **{f"{stage}_share": us / whole for stage, us in spent.items()},
        loop_stall_p99_ms=median(stall["p99_ms"] for stall in stalls),
        loop_stall_max_ms=max(stall["max_ms"] for stall in stalls),
    )
