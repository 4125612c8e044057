"""What N nodes and M partitions serve: arithmetic over measured costs. No I/O, no chance.

- A write to a client costs the same whatever it carries. So writes are what counts, and they are deliveries over the
  messages that leave together.
- Every node reads every record that its rules name. More nodes share clients, writes and memory; they do not share
  reading.
- Three parts of a node never use more than a core each: the thread that reads, the event loop, which connects clients,
  and each of the threads that write.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from benchmarks.scale.costs import Costs
from benchmarks.scale.interest import channels_touched, partitions_touched, zipf

__all__ = [
    "Demand",
    "Machine",
    "Plan",
    "Reading",
    "Workload",
    "away_bytes",
    "demand",
    "plan",
    "read_share",
    "startup_s",
    "utilisation",
]

HEARTBEAT_S = 10.0  # a client that is sent nothing else is sent a heartbeat this often
KERNEL_BYTES = 4_500.0  # of a socket at the server's end, in the kernel's slabs
HEADER_BYTES = 40.0  # of IP and TCP, added to each write
READ_BACK_S = 240.0  # what a starting node reads back: the history and the de-duplication window, 2 min each
NODES_MAX = 10_000

Reading = Literal["everything", "interest", "interest and placement"]
"""What a node reads: everything, as fanout does; the partitions that its clients need; the same, with clients placed on
nodes by the partition of one of their channels."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is asked of all nodes together."""

    clients: int
    channels: int
    partitions: int
    messages_per_channel_s: float
    channels_per_client: float = 1.0
    payload_bytes: int = 128
    popularity_exponent: float = 0.0
    """How unevenly clients choose channels (Zipf); with 0 all are alike. Records are spread evenly over channels."""
    linger_ms: float = 0.0
    """How long a message waits for others to the same client."""
    batches_per_s: float = 40.0
    """Batches in which a node reads its records, at most: what comes faster is read together."""
    session_s: float = 600.0
    """How long a client stays."""
    history_s: float = 120.0

    @property
    def records_per_s(self) -> float:
        """Records written to the log."""
        return self.channels * self.messages_per_channel_s

    @property
    def messages_per_client_s(self) -> float:
        """Messages that one client receives."""
        return self.channels_per_client * self.messages_per_channel_s

    @property
    def deliveries_per_s(self) -> float:
        """Messages to clients, by all nodes together."""
        return self.clients * self.messages_per_client_s

    @property
    def messages_per_write(self) -> float:
        """How many leave together because they waited. What gathers behind a busy shard comes on top."""
        return max(1.0, self.messages_per_client_s * self.linger_ms / 1000)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What one node may use."""

    cores: float = 4.0
    io_threads: int = 2
    memory_bytes: float = 16 * 2**30
    network_bits_per_s: float = 10e9
    connections: int = 50_000
    """Descriptors, or how many clients one is prepared to lose at a time."""
    history_bytes: float = 512 * 2**20
    used: float = 0.6
    """Share of each resource that may be in use; the rest is for peaks and storms."""


class Demand(NamedTuple):
    """What one of N nodes has to do. Cores are CPU seconds a second."""

    reading_cores: float
    reading_thread: float  # share of its time that the reading thread is busy
    writing_cores: float
    connecting_cores: float
    memory_bytes: float
    sent_bits_per_s: float
    connections: float
    fetched_bytes_per_s: float  # what the brokers send to this node

    @property
    def cores(self) -> float:
        """All that is done, in cores."""
        return self.reading_cores + self.writing_cores + self.connecting_cores


class Plan(NamedTuple):
    """How many nodes it takes."""

    nodes: int | None  # None: no number of nodes will do
    bottleneck: str  # what one node less would not have enough of
    demand: Demand  # of one node


def read_share(workload: Workload, nodes: int, reading: Reading) -> float:
    """The share of the log that one node reads, records being spread evenly over partitions."""
    if reading == "everything":
        return 1.0
    popularity = zipf(workload.channels, workload.popularity_exponent)
    attachments = workload.clients * workload.channels_per_client / nodes
    if reading == "interest":
        return partitions_touched(channels_touched(popularity, attachments), workload.partitions)
    own = math.ceil(workload.partitions / nodes) / workload.partitions
    others = channels_touched(popularity, attachments - workload.clients / nodes)
    return 1 - (1 - own) * (1 - partitions_touched(others, workload.partitions))


def demand(workload: Workload, costs: Costs, machine: Machine, nodes: int, reading: Reading = "everything") -> Demand:
    """What each of `nodes` has to do when clients are spread evenly over them."""
    records = workload.records_per_s * read_share(workload, nodes, reading)
    batches_us = min(records, workload.batches_per_s) * costs.batch_us
    clients = workload.clients / nodes
    writes = clients * max(workload.messages_per_client_s / workload.messages_per_write, 1 / HEARTBEAT_S)
    history = records * workload.history_s * (workload.payload_bytes + costs.message_overhead_bytes)
    attachments_bytes = max(workload.channels_per_client - 1, 0) * costs.attachment_bytes
    delivered = clients * workload.messages_per_client_s * (workload.payload_bytes + costs.delivery_overhead_bytes)
    return Demand(
        reading_cores=(records * costs.record_us(workload.payload_bytes) + batches_us) / 1e6,
        reading_thread=(records * costs.record_wall_us(workload.payload_bytes) + batches_us) / 1e6,
        writing_cores=writes * costs.write_rare_us / 1e6,
        connecting_cores=clients / workload.session_s * costs.connect_us / 1e6,
        memory_bytes=costs.node_bytes
        + min(history, machine.history_bytes)
        + clients * (costs.connection_bytes + KERNEL_BYTES + attachments_bytes),
        sent_bits_per_s=8 * (delivered + writes * HEADER_BYTES),
        connections=clients,
        fetched_bytes_per_s=records * (workload.payload_bytes + costs.record_overhead_bytes),
    )


def utilisation(needed: Demand, machine: Machine) -> dict[str, float]:
    """How much of what it may use a node uses, by resource; above 1 it does not suffice."""
    shares = {
        "reading": needed.reading_thread,
        "writing": needed.writing_cores / machine.io_threads,
        "event loop": needed.connecting_cores,
        "cores": needed.cores / machine.cores,
        "memory": needed.memory_bytes / machine.memory_bytes,
        "network": needed.sent_bits_per_s / machine.network_bits_per_s,
    }
    used = {resource: share / machine.used for resource, share in shares.items()}
    return used | {"connections": needed.connections / machine.connections}


def plan(workload: Workload, costs: Costs, machine: Machine, reading: Reading = "everything") -> Plan:
    """The fewest nodes that suffice, none to spare; and what one less would lack."""

    def lacks(nodes: int) -> dict[str, float]:
        used = utilisation(demand(workload, costs, machine, nodes, reading), machine)
        return {resource: share for resource, share in used.items() if share > 1}

    few, enough = 0, 1
    while missing := lacks(enough):
        if enough >= NODES_MAX:
            return Plan(None, max(missing, key=missing.__getitem__), demand(workload, costs, machine, enough, reading))
        few, enough = enough, min(2 * enough, NODES_MAX)
    while enough - few > 1:
        middle = (few + enough) // 2
        few, enough = (middle, enough) if lacks(middle) else (few, middle)
    needed = demand(workload, costs, machine, enough, reading)
    fullest = lacks(few) if few else utilisation(needed, machine)
    return Plan(enough, max(fullest, key=fullest.__getitem__), needed)


def startup_s(workload: Workload, costs: Costs) -> float:
    """How long a new node reads back before it is ready."""
    return READ_BACK_S * workload.records_per_s * costs.record_wall_us(workload.payload_bytes) / 1e6


def away_bytes(workload: Workload, costs: Costs, away_s: float, readers_per_partition: float) -> float:
    """What brokers would send so that clients who were away get what they missed back from the log.

    A channel is not read alone, its partition is: so many readers read each partition from `away_s` ago. Resuming from
    a ring costs the brokers nothing.
    """
    record_bytes = workload.payload_bytes + costs.record_overhead_bytes
    return readers_per_partition * workload.records_per_s * away_s * record_bytes
