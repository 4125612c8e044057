"""From a real Kafka topic into the engine: plain records with keys, routed to channels by them."""

from statistics import median
from typing import Any

import pytest
from confluent_kafka import Producer

from benchmarks.conftest import FULL, Record
from benchmarks.harness import node
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic

pytestmark = pytest.mark.kafka

ROUNDS = 5 if FULL else 2
RECORDS = 400_000 if FULL else 50_000
PAYLOADS = [100, 1_024] if FULL else [100]
CHANNELS = 100
PARTITIONS = 4


def fill(kafka: Kafka, topic: str, payload: int) -> None:
    """Writes RECORDS records, and fails unless the broker has confirmed each."""
    confirmed = 0

    def on_delivery(error: object, _: object) -> None:
        nonlocal confirmed
        assert error is None
        confirmed += 1

    producer = Producer({**kafka.client, "linger.ms": 20, "queue.buffering.max.messages": 20_000})
    for number in range(RECORDS):
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
    assert confirmed == RECORDS


@pytest.mark.parametrize("payload", PAYLOADS)
def bench_ingest__from_kafka(
    benchmark: Any, record: Record, kafka: Kafka, kafka_topic: NewKafkaTopic, payload: int
) -> None:
    """A node starts on a full topic and reads it all; timed from the first records on, start-up is not in it."""
    topic = kafka_topic(PARTITIONS)
    fill(kafka, topic, payload)
    answers: list[dict[str, Any]] = []

    def read_all() -> None:
        with node("--kafka", kafka.bootstrap, "--topic", topic) as (server, _):
            answers.append(server.ask(f"read {RECORDS}"))

    benchmark.pedantic(read_all, rounds=ROUNDS)
    for answer in answers:
        counts = answer["stats"]
        assert counts["records_in"] == counts["messages"] == RECORDS
        assert counts["bytes_in"] == RECORDS * payload
        assert counts["channels"] == CHANNELS
    record(
        records=RECORDS,
        payload_bytes=payload,
        channels=CHANNELS,
        partitions=PARTITIONS,
        rounds=ROUNDS,
        records_per_s=round(median(a["records"] / a["wall_s"] for a in answers)),
        cpu_us_per_record=median(a["cpu_s"] / a["records"] * 1e6 for a in answers),
    )
