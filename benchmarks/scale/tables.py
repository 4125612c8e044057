"""The tables of docs/scale.md that the model and the simulation make."""

from benchmarks.scale import examples
from benchmarks.scale.costs import Costs
from benchmarks.scale.inputs import Inputs
from benchmarks.scale.interest import channels_touched, partitions_touched, zipf
from benchmarks.scale.model import READ_BACK_S, Reading, Workload, away_bytes, plan, read_share, startup_s
from benchmarks.scale.storm import simulate
from benchmarks.scale.text import in_bytes, in_seconds, in_share, number, table

__all__ = ["core", "egress", "inputs", "interest", "plans", "reading", "returning", "storms"]

AWAY_S = 600.0

LABELS = {
    "write_rare_us": ("a write, long after the one before", "µs"),
    "write_busy_us": ("a write, one after another", "µs"),
    "record_100_us": ("a record of 100 B, read in full batches", "µs"),
    "record_1024_us": ("a record of 1 KiB", "µs"),
    "records_100_per_s": ("records of 100 B one node reads, wall time", "/s"),
    "records_1024_per_s": ("records of 1 KiB", "/s"),
    "batch_of_20_us": ("20 records of 128 B that come alone", "µs"),
    "connect_us": ("a client: accept, upgrade, authenticate, attach", "µs"),
    "reconnect_us": ("a client that resumes on another node", "µs"),
    "connection_bytes": ("a connection with an attachment", "B"),
    "attachment_bytes": ("each further attachment", "B"),
    "node_bytes": ("a node without clients and history", "B"),
    "message_overhead_bytes": ("a message in a ring, beside its payload", "B"),
    "record_overhead_bytes": ("a record from a broker, beside its payload", "B"),
    "delivery_overhead_bytes": ("a message to a client, beside its payload", "B"),
}


def inputs(given: Inputs) -> str:
    """Each cost with where it was measured."""
    rows = []
    for figure in given.figures:
        text, unit = LABELS[figure.name]
        value = in_bytes(figure.value) if unit == "B" else f"{number(figure.value)} {unit}"
        rows.append((text, value, f"`{figure.benchmark}`", f"`{figure.result}`"))
    return table(("what", "costs", "benchmark", "result"), rows)


def core(costs: Costs) -> str:
    """What one core does in a second."""
    joined = {
        f"deliveries, {messages} messages a write": messages * 1e6 / costs.write_busy_us for messages in (4, 8, 16, 32)
    }
    seconds = {
        "deliveries, each message in a write of its own": 1e6 / costs.write_rare_us,
        **joined,
        "records of 100 B read, by the thread that reads": 1e6 / costs.record_wall_us(100),
        "records of 1 KiB read, by the thread that reads": 1e6 / costs.record_wall_us(1024),
        "clients connected, by the event loop": 1e6 / costs.connect_us,
        "clients resumed, by the event loop": 1e6 / costs.reconnect_us,
    }
    rows = [(what, number(count)) for what, count in seconds.items()]
    return table(("one core's second", "is enough for"), rows)


def plans(costs: Costs) -> str:
    """How many nodes the examples take, and what each of them does then."""
    rows = []
    for name, workload in examples.WORKLOADS.items():
        planned = plan(workload, costs, examples.MACHINE)
        each = planned.demand
        told = [name, number(workload.records_per_s), number(workload.deliveries_per_s)]
        if planned.nodes is None:
            rows.append([*told, "no number", planned.bottleneck, *["–"] * 6])
            continue
        rows.append(
            [
                *told,
                f"{planned.nodes}",
                planned.bottleneck,
                number(each.connections),
                *(number(cores) for cores in (each.reading_cores, each.writing_cores, each.connecting_cores)),
                in_bytes(each.memory_bytes),
                f"{number(each.sent_bits_per_s / 1e6)} Mbit/s",
            ]
        )
    head = ("service", "records/s", "deliveries/s", "nodes", "one less lacks", "clients each", "reading")
    return table((*head, "writing", "connecting", "memory", "sent"), rows)


def reading(costs: Costs) -> str:
    """What reading everything comes to as the log grows."""
    rows = []
    for records_per_s in (1_000, 10_000, 50_000, 100_000, 200_000, 400_000):
        workload = Workload(clients=0, channels=1, partitions=1, messages_per_channel_s=records_per_s)
        planned = plan(workload, costs, examples.MACHINE)
        needed = planned.demand
        rows.append(
            (
                f"{records_per_s:,}",
                number(needed.reading_cores),
                in_share(needed.reading_thread),
                "yes" if planned.nodes else "no",
                *(in_bytes(nodes * needed.fetched_bytes_per_s) + "/s" for nodes in (2, 10, 50)),
                in_seconds(startup_s(workload, costs)),
            )
        )
    head = ("records/s, 128 B", "cores on each node", "the reading thread is busy", "within 60 %")
    return table((*head, "brokers send 2 nodes", "10 nodes", "50 nodes", "a new node is ready after"), rows)


def interest() -> str:
    """Which share of the partitions a node's clients need."""
    partitions = (16, 64, 256, 1024)
    rows = []
    for exponent, spread in ((0.0, "all alike"), (1.0, "Zipf, exponent 1")):
        popularity = zipf(10_000, exponent)
        for attachments in (10, 100, 1_000, 10_000, 100_000):
            channels = channels_touched(popularity, attachments)
            shares = (in_share(partitions_touched(channels, count)) for count in partitions)
            rows.append((f"{attachments:,}", spread, number(channels), *shares))
    head = ("attachments of a node", "10,000 channels are followed", "different channels")
    return table((*head, *(f"of {count:,} partitions" for count in partitions)), rows)


def egress(costs: Costs) -> str:
    """How many nodes an example takes, which share of the log each reads, and what the brokers send to all of them."""
    readings: tuple[Reading, ...] = ("everything", "interest", "interest and placement")
    rows = []
    for name, workload in examples.WORKLOADS.items():
        if workload.linger_ms:
            continue  # reads what its twin reads
        row = [name, f"{workload.partitions}"]
        for way in readings:
            planned = plan(workload, costs, examples.MACHINE, way)
            if planned.nodes is None:
                row.append("impossible")
                continue
            share = in_share(read_share(workload, planned.nodes, way))
            sent = in_bytes(planned.nodes * planned.demand.fetched_bytes_per_s)
            row.append(f"{planned.nodes} × {share}: {sent}/s")
        rows.append(row)
    head = ("service", "partitions", "everything", "what its clients need")
    return table((*head, "the same, clients placed by partition"), rows)


def storms(costs: Costs) -> str:
    """How storms of a million clients go; one node with its share of the clients is simulated."""
    rows = []
    for name, storm in examples.storms(costs.reconnect_us).items():
        outcome = simulate(storm.on(1))
        clients = round(storm.clients / storm.nodes)
        rows.append(
            (
                name,
                number(clients),
                in_seconds(clients * costs.reconnect_us / 1e6),
                *(in_seconds(time) for time in (outcome.p50_s, outcome.p99_s)),
                in_seconds(outcome.last_s) if outcome.back == clients else "never",
                f"{outcome.attempts:.2f}",
                in_share(outcome.wasted),
            )
        )
    head = ("storm", "clients a node", "work of its loop", "p50 back after", "p99", "last, from the start")
    return table((*head, "attempts a client", "work in vain"), rows)


def returning(costs: Costs) -> str:
    """What clients who come back after ten minutes would have the brokers send, beside a new node's start."""
    rows = []
    for name, workload in examples.WORKLOADS.items():
        planned = plan(workload, costs, examples.MACHINE)
        if workload.linger_ms or planned.nodes is None:
            continue
        attachments = workload.clients * workload.channels_per_client / workload.partitions
        rows.append(
            (
                name,
                in_seconds(startup_s(workload, costs)),
                in_bytes(planned.demand.fetched_bytes_per_s * READ_BACK_S),
                "0 B",
                in_bytes(away_bytes(workload, costs, AWAY_S, planned.nodes)),
                in_bytes(away_bytes(workload, costs, AWAY_S, attachments)),
            )
        )
    head = ("service", "a new node is ready after", "and has fetched", "back within the history: from rings")
    return table(
        (*head, "back after 10 min: from the log, each node once", "the same, each attachment for itself"), rows
    )
