"""The tables of docs/scale.md that set the model beside what real nodes did."""

import math
from collections.abc import Iterator

from benchmarks.scale.costs import Costs
from benchmarks.scale.examples import MACHINE
from benchmarks.scale.inputs import Inputs
from benchmarks.scale.interest import partitions_touched
from benchmarks.scale.model import KERNEL_BYTES, Demand, Workload, demand
from benchmarks.scale.storm import Storm, simulate
from benchmarks.scale.text import in_bytes, in_seconds, in_share, number, table

__all__ = ["killed", "needed", "nodes"]


def nodes(given: Inputs) -> str:
    """One, two and four nodes over one log: figures of one node, the mean over all."""
    measured = {count: given.check(f"bench_scale__nodes[{count}]") for count in (1, 2, 4)}
    names = [name for name, *_ in _compared(given.costs, measured[1])]
    rows = []
    for index, name in enumerate(names):
        row = [name]
        for figures in measured.values():
            _, unit, model, found = list(_compared(given.costs, figures))[index]
            row += [_quantity(model, unit), _quantity(found, unit), _error(model, found)]
        rows.append(row)
    head = ["each node"]
    for count in measured:
        head += [f"{count}: model", "measured", "error"]
    return table(head, rows)


def _compared(costs: Costs, figures: dict[str, float]) -> Iterator[tuple[str, str, float, float]]:
    """What is compared: its name and unit, what the model says, and what was measured."""
    count, clients = int(figures["nodes"]), figures["clients"]
    records, payload = figures["backlog_records"], figures["payload_bytes"]
    overhead = costs.record_overhead_bytes
    yield "CPU to read a backlog", "s", records * costs.record_us(payload) / 1e6, figures["backlog_cpu_s"]
    yield "fetched of it from the broker", "B", records * (payload + overhead), figures["backlog_fetched_bytes"]
    alone = _ticking(costs, figures, count, 0, figures["reading_s"])
    reading_s = figures["reading_cpu_s"] - figures["idle_cores"] * figures["reading_s"]
    yield "CPU to read small batches", "s", alone.reading_cores * figures["reading_s"], reading_s
    yield "CPU to let clients in", "s", clients / count * costs.connect_us / 1e6, figures["connecting_cpu_s"]
    served = _ticking(costs, figures, count, int(clients), figures["sending_s"])
    held = served.memory_bytes - alone.memory_bytes - clients / count * KERNEL_BYTES
    yield "memory of its clients", "B", held, figures["clients_bytes"]
    sending_s = figures["sending_cpu_s"] - figures["idle_cores"] * figures["sending_s"]
    yield "CPU to read small batches and send them on", "s", served.cores * figures["sending_s"], sending_s
    deliveries = clients / count * figures["ticks"] * figures["tick_records"] / figures["channels"]
    yield "deliveries", "", deliveries, figures["deliveries"]
    yield "writes", "", deliveries, figures["writes"]


def _ticking(costs: Costs, figures: dict[str, float], count: int, clients: int, seconds: float) -> Demand:
    """What the model says of a node while small batches of records come."""
    ticks, channels = figures["ticks"], int(figures["channels"])
    workload = Workload(
        clients=clients,
        channels=channels,
        partitions=int(figures["partitions"]),
        messages_per_channel_s=ticks * figures["tick_records"] / channels / seconds,
        payload_bytes=int(figures["payload_bytes"]),
        batches_per_s=ticks / seconds,
        session_s=math.inf,
    )
    return demand(workload, costs, MACHINE, count)


def needed(given: Inputs) -> str:
    """Two and four nodes whose clients follow few channels of a log, read as a whole and as needed."""
    rows = []
    for count in (2, 4):
        figures = given.check(f"bench_scale__needed[{count}]")
        own = figures["needed_channels"] / figures["channels"]
        # In the partitions that are read lie the channels that are needed, all of them, and of the others a share.
        touched = partitions_touched(figures["needed_channels"], int(figures["partitions"]))
        for read, what, share in (("all", "everything", 1.0), ("needed", "as needed", own + (1 - own) * touched)):
            records, payload = share * figures["records"], figures["payload_bytes"]
            fetched = records * (payload + given.costs.record_overhead_bytes)
            measured = figures[f"{read}_fetched_bytes"]
            rows.append(
                (
                    f"{count}, {what}",
                    *(in_share(share), in_share(figures[f"{read}_share"])),
                    _quantity(records * given.costs.record_us(payload) / 1e6, "s"),
                    _quantity(figures[f"{read}_cpu_s"], "s"),
                    *(in_bytes(count * fetched), in_bytes(count * measured)),
                )
            )
    head = (
        "nodes",
        "each reads: model",
        "measured",
        "CPU of each: model",
        "measured",
        "brokers send: model",
        "measured",
    )
    return table(head, rows)


def killed(given: Inputs) -> str:
    """One of two nodes is killed, and all of its clients go to the other."""
    found = given.check("bench_scale__killed_node")
    clients = int(found["clients"])
    model = simulate(Storm(clients=clients, nodes=1, connect_us=given.costs.reconnect_us))
    rows = [
        ("given each message once, in order", f"{clients:,}", f"{found['complete']:,.0f}"),
        ("told that nothing was lost", f"{clients:,}", f"{found['resumed']:,.0f}"),
        ("half are back after", in_seconds(model.p50_s), in_seconds(found["p50_s"])),
        ("99 of 100 are back after", in_seconds(model.p99_s), in_seconds(found["p99_s"])),
        ("CPU of the node that takes them", "the model's input", f"{number(found['cpu_us'] * clients / 1e6)} s"),
        ("CPU of the clients, one process", "none", f"{number(found['clients_cpu_s'])} s"),
    ]
    return table((f"{clients:,} clients of a killed node", "model", "measured"), rows)


def _quantity(value: float, unit: str) -> str:
    if unit == "B":
        return in_bytes(value)
    return f"{number(value)} {unit}".strip()


def _error(model: float, found: float) -> str:
    return f"{(found / model - 1) * 100:+.0f} %"
