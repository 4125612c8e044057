"""From a real Kafka topic to the sockets of one channel, with more messages under way than the node keeps up with.

The broker, the producer and the clients share the other core. CPU time is the node's whole process, the Kafka client
library's threads included: what a delivery costs who runs it.
"""

from statistics import median
from typing import Any

import pytest

from benchmarks.conftest import FULL, Record
from benchmarks.harness import Crowd, Received, Tools, load, node, producer, settled
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic

pytestmark = pytest.mark.kafka

PAYLOAD = 128
ROUNDS = 7 if FULL else 3
DELIVERIES = 5_000_000 if FULL else 200_000  # a round
CASES = [(1_000, 64), (1_000, 256), (10_000, 16), (10_000, 64)] if FULL else [(200, 64)]


@pytest.mark.parametrize(("subscribers", "window"), CASES)
def bench_saturation__from_kafka(
    benchmark: Any,
    record: Record,
    tools: Tools,
    kafka: Kafka,
    kafka_topic: NewKafkaTopic,
    subscribers: int,
    window: int,
) -> None:
    """`window` messages are under way at a time: as soon as all subscribers have half of them, as many follow."""
    topic = kafka_topic(1)
    rounds: list[Received] = []
    with (
        node("--kafka", kafka.bootstrap, "--topic", topic) as (server, told),
        producer(kafka.bootstrap, topic, f"--payload={PAYLOAD}") as feeder,
        load(tools, told["port"], subscribers, f"--key={told['key']}") as clients,
    ):
        assert clients.hear()["attached"] == subscribers
        crowd = Crowd(server, clients, subscribers, is_node=True, feeder=feeder)
        crowd.windowed(2 * window, window)
        before = server.threads()
        benchmark.pedantic(
            lambda: rounds.append(crowd.windowed(DELIVERIES // subscribers, window)), rounds=ROUNDS, iterations=1
        )
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in server.threads().items()}
        settled(clients)
    kafka_s = sum(seconds for name, seconds in spent.items() if name.startswith("rdk:"))
    cpu_us = median(r.cpu_us for r in rounds)
    record(
        subscribers=subscribers,
        window=window,
        payload_bytes=PAYLOAD,
        rounds=ROUNDS,
        cpu_us=cpu_us,
        deliveries_per_cpu_s=round(1e6 / cpu_us),
        messages_per_frame=sum(r.deliveries for r in rounds) / sum(r.report["frames"] for r in rounds),
        kafka_library_share=kafka_s / sum(spent.values()),
        writing_share=sum(s for name, s in spent.items() if name.startswith("fanout-io")) / sum(spent.values()),
        p50_ms=median(r.report["p50_us"] for r in rounds) / 1000,
        p99_ms=median(r.report["p99_us"] for r in rounds) / 1000,
    )
