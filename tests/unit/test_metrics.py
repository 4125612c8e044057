"""Metrics: what a scrape shows of a node, and that nodes do not mix."""

import asyncio
import time
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from fanout.observe.metrics import COUNTERS, FAMILIES, GAUGES, MQTT_GAUGES, WILLS, Metrics, Readings

MQTT = {name: number for number, name in enumerate([*MQTT_GAUGES, *WILLS.members.values()], 100)}


def engine_counters() -> dict[str, int]:
    """Every counter that the metrics know, each with another value."""
    names = [*COUNTERS, *GAUGES, *(member for family in FAMILIES for member in family.members.values())]
    return {name: number for number, name in enumerate(names, 1)}


def metrics_of(engine: Mapping[str, int], *, connections: int = 0, ready: bool = True) -> Metrics:
    return Metrics(
        Readings(
            engine=lambda: engine,
            publisher=lambda: {"published": 7, "repeated": 8, "failed": 9},
            presence=lambda: {"entered": 1, "left": 2, "removed": 3, "repaired": 4, "failed": 5},
            failures=lambda: {"dead_letters": 3, "dead_letters_lost": 1},
            mqtt=lambda: dict(MQTT),
            unconfirmed=lambda: 12,
            on_demand=lambda: {"read_on_demand": 3, "catching_up": 1},
            lag=lambda: {("orders", 0): 5, ("orders", 1): 6},
            held=lambda: {("orders", 1): 7.5},
            connections=lambda: connections,
            opened=lambda: 9,
            refused=lambda: 4,
            tasks_failed=lambda: 2,
            ready=lambda: ready,
        )
    )


def scrape(metrics: Metrics) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(metrics.render().decode())
        for sample in family.samples
    }


def test_every_counter_of_the_engine_is_shown_with_its_value() -> None:
    engine = engine_counters()
    values = scrape(metrics_of(engine))
    for counter, (name, _) in COUNTERS.items():
        assert values[f"fanout_{name}_total", frozenset()] == engine[counter]
    for gauge, (name, _) in GAUGES.items():
        assert values[f"fanout_{name}", frozenset()] == engine[gauge]
    for family in FAMILIES:
        for value, counter in family.members.items():
            assert values[f"fanout_{family.name}_total", frozenset({(family.label, value)})] == engine[counter]


def test_what_is_kept_of_mqtt_clients_is_shown() -> None:
    values = scrape(metrics_of(engine_counters()))
    for gauge, (name, _) in MQTT_GAUGES.items():
        assert values[f"fanout_{name}", frozenset()] == MQTT[gauge]
    for outcome, counter in WILLS.members.items():
        assert values["fanout_mqtt_wills_total", frozenset({("outcome", outcome)})] == MQTT[counter]


def test_publishes_lag_and_connections_are_shown() -> None:
    values = scrape(metrics_of(engine_counters(), connections=3, ready=False))
    assert values["fanout_publishes_total", frozenset({("outcome", "repeated")})] == 8
    assert values["fanout_presence_writes_total", frozenset({("outcome", "removed")})] == 3
    assert values["fanout_publish_unconfirmed", frozenset()] == 12
    assert values["fanout_partitions_on_demand", frozenset()] == 3
    assert values["fanout_partitions_catching_up", frozenset()] == 1
    assert values["fanout_lag_records", frozenset({("topic", "orders"), ("partition", "1")})] == 6
    assert [(dict(labels), value) for (name, labels), value in values.items() if name == "fanout_held_seconds"] == [
        ({"topic": "orders", "partition": "1"}, 7.5)
    ]
    assert values["fanout_connections", frozenset()] == 3
    assert values["fanout_connections_opened_total", frozenset()] == 9
    assert values["fanout_connections_refused_total", frozenset()] == 4
    assert values["fanout_ready", frozenset()] == 0


def test_two_nodes_in_one_process_do_not_mix() -> None:
    one, two = metrics_of(engine_counters(), connections=1), metrics_of(engine_counters(), connections=2)
    one.publish_seconds.observe(0.003)
    assert scrape(one)["fanout_connections", frozenset()] == 1
    assert scrape(two)["fanout_connections", frozenset()] == 2
    assert scrape(one)["fanout_publish_seconds_count", frozenset()] == 1
    assert scrape(two)["fanout_publish_seconds_count", frozenset()] == 0


async def test_stalled_loop_is_seen() -> None:
    metrics = metrics_of(engine_counters())
    watch = asyncio.create_task(metrics.watch_loop())
    await asyncio.sleep(0)
    time.sleep(0.4)  # noqa: ASYNC251  the stall
    await asyncio.sleep(0.01)
    watch.cancel()
    assert scrape(metrics)["fanout_loop_stall_seconds_sum", frozenset()] > 0.25
