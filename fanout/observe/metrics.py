"""Prometheus metrics of one node, gathered when they are asked for.

The counters live where the counting is done, most of them in the engine; a scrape reads them. So a metric costs nothing
on the way of a message, and two nodes in one process have a registry each. Only distributions are kept here: they need
every single value. Everything belongs to the event loop.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

__all__ = ["CONTENT_TYPE", "Metrics", "Readings"]

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
STALL_PERIOD_S: Final = 0.1  # ten timers a second; a stall is seen to the millisecond, and in full if it is longer
LATENCY_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class Readings(NamedTuple):
    """Where a scrape finds its numbers."""

    engine: Callable[[], Mapping[str, int]]
    publisher: Callable[[], Mapping[str, int]]
    presence: Callable[[], Mapping[str, int]]
    failures: Callable[[], Mapping[str, int]]
    mqtt: Callable[[], Mapping[str, int]]
    unconfirmed: Callable[[], int]
    on_demand: Callable[[], Mapping[str, int]]
    lag: Callable[[], Mapping[tuple[str, int], int]]
    held: Callable[[], Mapping[tuple[str, int], float]]
    connections: Callable[[], int]
    opened: Callable[[], int]
    refused: Callable[[], int]
    tasks_failed: Callable[[], int]
    ready: Callable[[], bool]


class Family(NamedTuple):
    """One metric made of several counters: each stands under its own value of `label`."""

    name: str
    help: str
    label: str
    members: Mapping[str, str]  # label's value -> the counter's name


COUNTERS: Final = {
    "records_in": ("records_in", "Records read from the log."),
    "bytes_in": ("bytes_in", "Bytes of their values."),
    "headers_unreadable": (
        "records_headers_unreadable",
        "Records that went on without their headers: the name of one is not UTF-8.",
    ),
    "failures_untold": ("failures_untold", "Failing records that were neither told nor became dead letters: too many."),
    "ids_forgotten": (
        "dedup_forgotten",
        "Message ids that were forgotten within two minutes, since too many came: a repeat of theirs is a message.",
    ),
    "messages": ("messages", "Messages appended to channels."),
    "presence_events": ("presence_events", "Members that entered, were updated or left."),
    "presence_late": ("presence_late", "What a node that was away wrote of members whose connections had gone on."),
    "injected": ("injected", "What the node itself said on channels."),
    "sync_pages": ("sync_pages", "Pages of presence sets made for clients that came."),
    "sync_members": ("sync_members", "Members in those pages."),
    "members_refused": ("presence_members_refused", "Members refused because presence has no more memory."),
    "frames": ("frames", "Frames encoded."),
    "frame_messages": ("frame_messages", "Messages in those frames."),
    "deliveries": ("deliveries", "Messages handed to subscribers."),
    "writes": ("writes", "Writes to clients."),
    "write_calls": ("write_calls", "System calls that carried them out: far fewer where io_uring is in use."),
    "short_writes": ("short_writes", "Writes that a socket took only in part, or not at all."),
    "bytes_out": ("bytes_out", "Bytes written to clients."),
    "continuity_lost": ("continuity_lost", "Attachments that memory passed; most go on from the log (resumes_total)."),
    "conflated": ("conflated", "Attachments that skipped what was superseded because their client had fallen behind."),
    "heartbeats": ("heartbeats", "Heartbeats written."),
    "packets_too_large": ("packets_too_large", "MQTT packets left out since their client takes none as large."),
    "acknowledgements_unknown": (
        "acknowledgements_unknown",
        "Acknowledgements by MQTT clients of messages that were not under way.",
    ),
}
"""Counters of the engine that stand alone: its name for them -> ours and the help."""

FAMILIES: Final = (
    Family(
        "records_skipped",
        "Records that became no message, by cause.",
        "cause",
        {
            "unrouted": "records_unrouted",
            "unroutable": "records_unroutable",
            "key": "failed_key",
            "header": "failed_header",
            "value": "failed_value",
            "field": "failed_field",
            "channel": "failed_channel",
            "decoding": "failed_decoding",
            "misplaced": "failed_misplaced",
            "tombstone": "tombstones_skipped",
            "held_back": "records_held_back",
            "read_before": "records_repeated",
            "duplicate_id": "duplicates",
            "change_refused": "changes_refused",
        },
    ),
    Family(
        "messages_released",
        "Messages that left memory, by cause: age, memory was full, or the log was not as before.",
        "cause",
        {"age": "messages_expired", "memory": "messages_squeezed", "log": "messages_interrupted"},
    ),
    Family(
        "resumes",
        "Positions that clients came back with, by outcome: continued from memory, or from the log, or not.",
        "outcome",
        {
            "resumed": "resumed",
            "resumed_from_log": "resumed_from_log",
            "conflated": "resume_conflated",
            "gap": "resume_gaps",
            "foreign": "resume_foreign",
        },
    ),
    Family(
        "replayed",
        "Attachments that were given what they missed out of the log, by outcome: live now, or left, since their client"
        " read too slowly or the log had no more.",
        "outcome",
        {"live": "replays_handed_over", "left": "replays_left"},
    ),
    Family(
        "evictions",
        "Connections cut off, by cause: replies were not read, or the peer was silent.",
        "cause",
        {"unread": "evicted_full", "silent": "evicted_silent"},
    ),
)

GAUGES: Final = {
    "channels": ("channels", "Channels in memory."),
    "history_bytes": ("history_bytes", "Memory that their history takes."),
    "presence_bytes": ("presence_bytes", "Memory of it that presence members take."),
    "snapshot_bytes": ("snapshot_bytes", "Memory of it that the newest messages of keys take."),
    "index_bytes": ("index_bytes", "Bytes of the index that tells where in the log channels lie."),
    "checkpoint_bytes": ("checkpoint_bytes", "Memory that checkpoints take, those that were read back among them."),
    "replay_bytes": ("replay_bytes", "Memory that replays of the log take beside it."),
    "dedup_ids": ("dedup_ids", "Message ids remembered to recognise repeats: 4,194,304 at most."),
}
"""What the engine holds at the moment: its name for it -> ours and the help."""

MQTT_GAUGES: Final = {
    "clients": ("mqtt_clients", "MQTT clients of this node that were let in."),
    "sessions": ("mqtt_sessions", "MQTT sessions kept in the log, those of all nodes."),
    "session_bytes": ("mqtt_session_bytes", "Bytes that they take, as JSON."),
    "retained": ("mqtt_retained_messages", "Retained messages, those of all nodes."),
    "retained_bytes": ("mqtt_retained_bytes", "Bytes that they take, as JSON."),
    "wills_waiting": ("mqtt_wills_waiting", "Wills that wait for their delay, or for the log."),
}
"""What the node holds of MQTT clients: its name for it -> ours and the help."""


class Metrics:
    """The metrics of one node."""

    def __init__(self, readings: Readings) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Scrape(readings))
        self.publish_seconds = Histogram(
            "fanout_publish_seconds",
            "From handing records to the log until it has them.",
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )
        self._stall_seconds = Histogram(
            "fanout_loop_stall_seconds",
            "How late the event loop was, ten times a second.",
            buckets=LATENCY_BUCKETS,
            registry=self._registry,
        )

    def render(self) -> bytes:
        """The page that Prometheus scrapes, in its text format."""
        return generate_latest(self._registry)

    async def watch_loop(self) -> None:
        """Measures how late the loop is, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + STALL_PERIOD_S
            await asyncio.sleep(STALL_PERIOD_S)
            self._stall_seconds.observe(max(0.0, loop.time() - due))


class _Scrape(Collector):
    """Turns the readings of the moment into metrics."""

    def __init__(self, readings: Readings) -> None:
        self._readings = readings

    def collect(self) -> Iterable[Metric]:
        """One scrape."""
        engine = self._readings.engine()
        for counter, (name, text) in COUNTERS.items():
            yield CounterMetricFamily(f"fanout_{name}", text, value=engine[counter])
        for family in FAMILIES:
            yield _labelled(family, engine)
        for gauge, (name, text) in GAUGES.items():
            yield GaugeMetricFamily(f"fanout_{name}", text, value=engine[gauge])
        yield _labelled(PUBLISHES, self._readings.publisher())
        yield _labelled(PRESENCE, self._readings.presence())
        yield _labelled(DEAD_LETTERS, self._readings.failures())
        mqtt = self._readings.mqtt()
        yield _labelled(WILLS, mqtt)
        for gauge, (name, text) in MQTT_GAUGES.items():
            yield GaugeMetricFamily(f"fanout_{name}", text, value=mqtt[gauge])
        yield GaugeMetricFamily(
            "fanout_publish_unconfirmed", "Records that wait for the log.", value=self._readings.unconfirmed()
        )
        on_demand = self._readings.on_demand()
        yield GaugeMetricFamily(
            "fanout_partitions_on_demand",
            "Partitions that are read because somebody here needs them.",
            value=on_demand["read_on_demand"],
        )
        yield GaugeMetricFamily(
            "fanout_partitions_catching_up",
            "Those of them that have yet to be caught up.",
            value=on_demand["catching_up"],
        )
        lag = GaugeMetricFamily("fanout_lag_records", "Records not yet read, at most.", labels=("topic", "partition"))
        for (topic, partition), records in self._readings.lag().items():
            lag.add_metric((topic, str(partition)), records)
        yield lag
        held = GaugeMetricFamily(
            "fanout_held_seconds",
            "How long a partition has stood still though the log answers; of those that do.",
            labels=("topic", "partition"),
        )
        for (topic, partition), seconds in self._readings.held().items():
            held.add_metric((topic, str(partition)), seconds)
        yield held
        yield GaugeMetricFamily("fanout_connections", "Clients connected.", value=self._readings.connections())
        yield CounterMetricFamily(
            "fanout_connections_opened",
            "Connections that came up, those refused in band among them.",
            value=self._readings.opened(),
        )
        yield CounterMetricFamily(
            "fanout_connections_refused", "Clients answered with 503: too many.", value=self._readings.refused()
        )
        yield CounterMetricFamily(
            "fanout_tasks_failed",
            "Tasks of the node that ended for an error nobody expected.",
            value=self._readings.tasks_failed(),
        )
        yield GaugeMetricFamily("fanout_ready", "1 when /ready says yes.", value=int(self._readings.ready()))


PUBLISHES: Final = Family(
    "publishes",
    "Messages published through this node, by what became of them.",
    "outcome",
    {"written": "published", "repeated": "repeated", "failed": "failed"},
)


PRESENCE: Final = Family(
    "presence_writes",
    "Presence events of this node's clients, by what became of them; `removed`: leaves of those who were lost.",
    "outcome",
    {"entered": "entered", "left": "left", "removed": "removed", "repaired": "repaired", "failed": "failed"},
)


DEAD_LETTERS: Final = Family(
    "dead_letters",
    "Failing records for a dead-letter topic, by what became of them here.",
    "outcome",
    {"written": "dead_letters", "lost": "dead_letters_lost"},
)


WILLS: Final = Family(
    "mqtt_wills",
    "Wills of MQTT clients that this node was to publish, by what became of them.",
    "outcome",
    {"published": "wills_published", "refused": "wills_refused"},
)


def _labelled(family: Family, counters: Mapping[str, int]) -> Metric:
    metric = CounterMetricFamily(f"fanout_{family.name}", family.help, labels=(family.label,))
    for value, counter in family.members.items():
        metric.add_metric((value,), counters[counter])
    return metric
