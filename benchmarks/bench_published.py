"""What others have published of themselves, scaled to this machine, from a real Kafka topic.

Latency is from just before a record is handed to the producer until a client has read it, by one clock. The broker, the
producer and all clients share a core, the node has the other; they had machines of their own for each, and a network
between. The topics have one partition: each more is as many requests more for the broker, which shares its core here.
`their_…` are the figures that they print.

- Kafkorama, "Benchmarking Kafkorama": 10,000 keys, each a channel, a message of 512 bytes a second on each; 1 million
  clients of one channel each on one node of 36 vCPUs, mean under 5 ms.
- Lightstreamer, "Kafka Connector Benchmarking Tool", on 4 vCPUs, mean and standard deviation in ms. Scenario 1: 4
  messages of 1 KiB a second to everyone. Scenario 2: 100 a second, each with one of 40 keys; a client follows one key.
"""

import math
from collections.abc import Mapping
from statistics import median
from typing import Any, NamedTuple

import pytest

from benchmarks.conftest import FULL, Record
from benchmarks.harness import Crowd, Received, Tools, load, node, producer, settled
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic

pytestmark = pytest.mark.kafka

ROUNDS = 5 if FULL else 2
SECONDS = 10 if FULL else 1
BEHIND_MAX_MS = 100 if FULL else math.inf  # of the feeder; the short form has no figures to spoil
DESCRIPTORS = 19_700  # clients that one node and one load client hold with 20,000 descriptors each


class Scenario(NamedTuple):
    """`rate` records a second in all channels together, the channels in turn; each client follows one."""

    name: str
    clients: int
    channels: int
    rate: int
    payload: int
    theirs: Mapping[str, float]


KAFKORAMA = {"their_mean_ms": 5, "their_clients": 1_000_000, "their_deliveries_per_s": 1_000_000, "their_vcpus": 36}
SCENARIOS = (
    [
        Scenario("kafkorama", DESCRIPTORS, 10_000, 10_000, 512, KAFKORAMA),
        Scenario("lightstreamer-1", 8_000, 1, 4, 1024, {"their_mean_ms": 33, "their_stdev_ms": 21, "their_vcpus": 4}),
        Scenario("lightstreamer-1", 16_000, 1, 4, 1024, {"their_mean_ms": 91, "their_stdev_ms": 37, "their_vcpus": 4}),
        Scenario("lightstreamer-2", 8_000, 40, 100, 1024, {"their_mean_ms": 16, "their_stdev_ms": 8, "their_vcpus": 4}),
        Scenario("lightstreamer-2", 16_000, 40, 100, 1024, {"their_vcpus": 4}),  # they print 10,000: 19, 52,000: 24
    ]
    if FULL
    else [
        Scenario("kafkorama", 300, 200, 200, 512, KAFKORAMA),
        Scenario("lightstreamer-1", 200, 1, 4, 1024, {"their_vcpus": 4}),
        Scenario("lightstreamer-2", 200, 40, 100, 1024, {"their_vcpus": 4}),
    ]
)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: f"{scenario.name}-{scenario.clients}")
def bench_published(
    benchmark: Any, record: Record, tools: Tools, kafka: Kafka, kafka_topic: NewKafkaTopic, scenario: Scenario
) -> None:
    """At the published pace, some seconds a round."""
    topic = kafka_topic(1)
    messages = max(SECONDS * scenario.rate // scenario.channels, 1)  # to each client
    channels, payload = f"--channels={scenario.channels}", f"--payload={scenario.payload}"
    rounds: list[Received] = []
    with (
        node("--kafka", kafka.bootstrap, "--topic", topic) as (server, told),
        producer(kafka.bootstrap, topic, channels, payload) as feeder,
        load(tools, told["port"], scenario.clients, f"--key={told['key']}", channels) as clients,
    ):
        assert clients.hear()["attached"] == scenario.clients
        crowd = Crowd(server, clients, scenario.clients, is_node=True, feeder=feeder)
        crowd.fed(max(messages // 4, 1), scenario.rate)
        before = server.threads()
        benchmark.pedantic(lambda: rounds.append(crowd.fed(messages, scenario.rate, BEHIND_MAX_MS)), rounds=ROUNDS)
        spent = {name: seconds - before.get(name, 0.0) for name, seconds in server.threads().items()}
        settled(clients)
    wall_s = sum(r.cost.wall_s for r in rounds)
    cpu_us = median(r.cpu_us for r in rounds)
    record(
        clients=scenario.clients,
        channels=scenario.channels,
        records_per_s=scenario.rate,
        payload_bytes=scenario.payload,
        rounds=ROUNDS,
        seconds=SECONDS,
        mean_ms=median(r.report["mean_us"] for r in rounds) / 1000,
        stdev_ms=median(r.report["stdev_us"] for r in rounds) / 1000,
        p50_ms=median(r.report["p50_us"] for r in rounds) / 1000,
        p99_ms=median(r.report["p99_us"] for r in rounds) / 1000,
        max_ms=max(r.report["max_us"] for r in rounds) / 1000,
        feeder_behind_ms=max(r.behind_ms for r in rounds),
        cpu_us=cpu_us,
        deliveries_per_s=round(sum(r.deliveries for r in rounds) / wall_s),
        deliveries_per_cpu_s=round(1e6 / cpu_us),
        cores_used=sum(r.cost.cpu_s for r in rounds) / wall_s,
        kafka_library_share=sum(s for name, s in spent.items() if name.startswith("rdk:")) / sum(spent.values()),
        **scenario.theirs,
    )
