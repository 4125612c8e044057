"""One, two and four real nodes over one Kafka: measured here what the model of docs/scale.md says of them, also where
they read what their clients need.

`python -m benchmarks.scale` sets the figures beside the model's.
"""

import time
from contextlib import ExitStack
from statistics import mean
from typing import Any

import pytest
import uvloop

from benchmarks.conftest import FULL, Record
from benchmarks.harness import Tools, load, node
from benchmarks.scale.cluster import KEY, Node, Read, Writer, cluster
from benchmarks.scale.reconnect import Returned, follow_and_return
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic

NODES = [1, 2, 4] if FULL else [2]
PARTITIONS = 8
CHANNELS = 100
PAYLOAD = 128
CLIENTS = 2_000 if FULL else 200  # of all nodes together
BACKLOG = 200_000 if FULL else 10_000  # records
TICKS = 400 if FULL else 20
TICK_RECORDS = 20
TICK_S = 0.025
IDLE_S = 3.0 if FULL else 0.5
STORM_CLIENTS = 2_000 if FULL else 100
MISSED = 500 if FULL else 100  # records that nobody is connected for; a multiple of CHANNELS
HELD = 2_000 if FULL else 200  # connections whose memory is looked at
FURTHER = 10  # attachments of such a connection beside the first
NEEDING_NODES = [2, 4] if FULL else [2]
NEEDED_PARTITIONS = 64
LOG_CHANNELS = 256
LOG_RECORDS = LOG_CHANNELS * (1_000 if FULL else 40)
NEEDED_CHANNELS = 8  # by the clients of each node, others than those of the others; a client each
RING_MESSAGES = 2_000 if FULL else 100  # in each of CHANNELS channels


class Watch:
    """What a node has used between two looks, as the mean over all nodes: CPU seconds, bytes fetched, counters."""

    def __init__(self, nodes: list[Node]) -> None:
        self._nodes = nodes
        self._seen = self._see()

    def _see(self) -> list[dict[str, float]]:
        return [
            {**each.metrics(), "fetched_bytes": each.fetched_bytes(), "cpu_s": each.cost().cpu_s}
            for each in self._nodes
        ]

    def look(self) -> dict[str, float]:
        """Since the last look."""
        before, self._seen = self._seen, self._see()
        pairs = list(zip(self._seen, before, strict=True))
        return {name: mean(now[name] - then[name] for now, then in pairs) for name in self._seen[0]}


@pytest.mark.kafka
@pytest.mark.parametrize("nodes", NODES)
def bench_scale__nodes(
    benchmark: Any, record: Record, tools: Tools, kafka: Kafka, kafka_topic: NewKafkaTopic, nodes: int
) -> None:
    """Idle; a backlog; small batches of records; clients who attach; small batches that they are sent.

    Each figure is the mean over the nodes; clients are spread evenly over them.
    """
    topic = kafka_topic(PARTITIONS)
    to_nobody = Writer(kafka, topic, "quiet", CHANNELS, PAYLOAD)
    to_clients = Writer(kafka, topic, "load", CHANNELS, PAYLOAD)
    clients = CLIENTS // nodes
    figures: dict[str, float] = {}

    def measure() -> None:
        with cluster(kafka, topic, nodes) as running, ExitStack() as crowds:
            watch = Watch(running)
            time.sleep(IDLE_S)
            figures["idle_cores"] = watch.look()["cpu_s"] / IDLE_S

            with ExitStack() as pauses:
                for each in running:
                    pauses.enter_context(each.paused())
                to_nobody.write(BACKLOG)
            _await_all(running, BACKLOG)
            backlog = watch.look()
            assert backlog["messages_total"] == BACKLOG  # topics of state are everybody's

            reading_s = to_nobody.tick(TICKS, TICK_RECORDS, TICK_S)
            _await_all(running, to_nobody.written)
            reading = watch.look()

            empty_bytes = mean(each.memory() for each in running)
            options = (f"--key={KEY}", f"--channels={CHANNELS}")
            attached = [crowds.enter_context(load(tools, each.port, clients, *options)) for each in running]
            assert [crowd.hear()["attached"] for crowd in attached] == [clients] * nodes
            connecting = watch.look()
            held_bytes = mean(each.memory() for each in running)

            sending_s = to_clients.tick(TICKS, TICK_RECORDS, TICK_S)
            for crowd in attached:
                assert crowd.ask(f"until {to_clients.written // CHANNELS}")["reached"]
                report = crowd.ask("report")
                assert report["deliveries"] == clients * to_clients.written // CHANNELS
                assert [report[what] for what in ("lost", "doubled", "reordered", "closed")] == [0, 0, 0, 0]
            sending = watch.look()

            figures.update(
                backlog_cpu_s=backlog["cpu_s"],
                backlog_fetched_bytes=backlog["fetched_bytes"],
                reading_s=reading_s,
                reading_cpu_s=reading["cpu_s"],
                connecting_cpu_s=connecting["cpu_s"],
                clients_bytes=held_bytes - empty_bytes,
                sending_s=sending_s,
                sending_cpu_s=sending["cpu_s"],
                sending_fetched_bytes=sending["fetched_bytes"],
                deliveries=sending["deliveries_total"],
                writes=sending["writes_total"],
                sent_bytes=sending["bytes_out_total"],
            )

    benchmark.pedantic(measure, rounds=1)
    batch_cpu_s = figures["reading_cpu_s"] - figures["idle_cores"] * figures["reading_s"]
    record(
        nodes=nodes,
        clients=CLIENTS,
        channels=CHANNELS,
        partitions=PARTITIONS,
        payload_bytes=PAYLOAD,
        backlog_records=BACKLOG,
        ticks=TICKS,
        tick_records=TICK_RECORDS,
        tick_us=batch_cpu_s / TICKS * 1e6,
        record_overhead_bytes=figures["backlog_fetched_bytes"] / BACKLOG - PAYLOAD,
        delivery_overhead_bytes=figures["sent_bytes"] / figures["deliveries"] - PAYLOAD,
        **figures,
    )


@pytest.mark.kafka
@pytest.mark.parametrize("nodes", NEEDING_NODES)
def bench_scale__needed(
    benchmark: Any, record: Record, tools: Tools, kafka: Kafka, kafka_topic: NewKafkaTopic, nodes: int
) -> None:
    """A backlog of many channels, few of which the clients of each node follow: read as a whole, and as needed.

    Each figure is the mean over the nodes.
    """
    figures: dict[str, float] = {}

    def measure(read: Read) -> None:
        topic = kafka_topic(NEEDED_PARTITIONS)
        writer = Writer(kafka, topic, "load", LOG_CHANNELS, PAYLOAD)
        with cluster(kafka, topic, nodes, read) as running, ExitStack() as crowds:
            attached = []
            for number, each in enumerate(running):
                own = (f"--channels={NEEDED_CHANNELS}", f"--first-channel={number * NEEDED_CHANNELS}")
                attached.append(crowds.enter_context(load(tools, each.port, NEEDED_CHANNELS, f"--key={KEY}", *own)))
            assert [crowd.hear()["attached"] for crowd in attached] == [NEEDED_CHANNELS] * nodes
            watch = Watch(running)
            with ExitStack() as pauses:
                for each in running:
                    pauses.enter_context(each.paused())
                writer.write(LOG_RECORDS)
            for crowd in attached:
                assert crowd.ask(f"until {LOG_RECORDS // LOG_CHANNELS}")["reached"]
                report = crowd.ask("report")
                assert report["deliveries"] == LOG_RECORDS // LOG_CHANNELS * NEEDED_CHANNELS
                assert [report[what] for what in ("lost", "doubled", "reordered", "closed")] == [0, 0, 0, 0]
            if read == "all":
                _await_all(running, LOG_RECORDS)
            time.sleep(IDLE_S)  # others lie beside those that were waited for
            used = watch.look()
        figures[f"{read}_share"] = used["messages_total"] / LOG_RECORDS
        figures[f"{read}_cpu_s"] = used["cpu_s"]
        figures[f"{read}_fetched_bytes"] = used["fetched_bytes"]

    def both() -> None:
        measure("all")
        measure("needed")

    benchmark.pedantic(both, rounds=1)
    assert figures["needed_share"] < figures["all_share"] == 1
    record(
        nodes=nodes,
        partitions=NEEDED_PARTITIONS,
        channels=LOG_CHANNELS,
        needed_channels=NEEDED_CHANNELS,
        payload_bytes=PAYLOAD,
        records=LOG_RECORDS,
        deliveries=LOG_RECORDS // LOG_CHANNELS * NEEDED_CHANNELS,
        **figures,
    )


def bench_scale__memory(benchmark: Any, record: Record, tools: Tools) -> None:
    """What a further attachment takes, and a message in a ring."""
    figures: dict[str, int] = {}

    def measure() -> None:
        with node(f"--channels={CHANNELS}", f"--payload={PAYLOAD}") as (server, _):
            server.ask("send 1 1")
            before = server.memory()
            server.ask(f"send {RING_MESSAGES} 100")
            messages = RING_MESSAGES * CHANNELS
            assert server.ask("stats")["messages"] == messages + CHANNELS
            figures["message_overhead_bytes"] = (server.memory() - before) // messages - PAYLOAD
        held = [_held_bytes(tools, follow) for follow in (1, 1 + FURTHER)]
        figures["attachment_bytes"] = (held[1] - held[0]) // (HELD * FURTHER)

    benchmark.pedantic(measure, rounds=1)
    record(payload_bytes=PAYLOAD, connections=HELD, **figures)


@pytest.mark.kafka
def bench_scale__killed_node(benchmark: Any, record: Record, kafka: Kafka, kafka_topic: NewKafkaTopic) -> None:
    """One of two nodes is killed; its clients resume on the other, which also has to give them what they missed."""
    topic = kafka_topic(PARTITIONS)
    writer = Writer(kafka, topic, "load", CHANNELS, PAYLOAD)
    outcome: list[Returned] = []

    def storm() -> None:
        with cluster(kafka, topic, 2) as (doomed, other):
            outcome.append(
                uvloop.run(
                    follow_and_return(doomed, other, writer, channels=CHANNELS, clients=STORM_CLIENTS, missed=MISSED)
                )
            )
            counted = other.metrics()
            assert counted["connections_opened_total"] == counted["resumes_total"] == STORM_CLIENTS

    benchmark.pedantic(storm, rounds=1)
    (returned,) = outcome
    assert (returned.resumed, returned.complete) == (STORM_CLIENTS, STORM_CLIENTS)
    back_s = sorted(returned.back_s)
    record(
        clients=STORM_CLIENTS,
        missed_records=MISSED,
        resumed=returned.resumed,
        complete=returned.complete,
        p50_s=back_s[len(back_s) // 2],
        p99_s=back_s[len(back_s) * 99 // 100],
        last_s=back_s[-1],
        clients_cpu_s=returned.clients_cpu_s,
        cpu_us=returned.cpu_s / STORM_CLIENTS * 1e6,
    )


def _held_bytes(tools: Tools, follow: int) -> int:
    """Memory of a node for HELD connections that follow so many channels each."""
    options = (f"--key={KEY}", f"--channels={CHANNELS}", f"--follow={follow}")
    with node(f"--channels={CHANNELS}") as (server, told), load(tools, told["port"], 10, *options) as first:
        first.hear()  # what the first connection makes, the others share
        before = server.memory()
        with load(tools, told["port"], HELD, *options) as clients:
            assert clients.hear()["attached"] == HELD
            return server.memory() - before


def _await_all(nodes: list[Node], records: int) -> None:
    for each in nodes:
        each.await_records(records)
