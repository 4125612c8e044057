"""What docs/scale.md calculates: three services, one machine, and storms of a million clients."""

from dataclasses import replace

from benchmarks.scale.model import Machine, Workload
from benchmarks.scale.storm import Policy, Storm

__all__ = ["CLIENTS", "MACHINE", "NODES", "WORKLOADS", "storms"]

MACHINE = Machine()

CHAT = Workload(
    clients=100_000,
    channels=5_000,
    channels_per_client=2,
    messages_per_channel_s=0.5,
    partitions=24,
    popularity_exponent=0.8,
)
SCORES = Workload(
    clients=1_000_000,
    channels=200,
    channels_per_client=3,
    messages_per_channel_s=1,
    partitions=24,
    popularity_exponent=1.0,
)
KEYS = Workload(clients=1_000_000, channels=10_000, messages_per_channel_s=1, payload_bytes=512, partitions=64)
FIREHOSE = replace(KEYS, clients=100_000, channels=100_000, messages_per_channel_s=5, payload_bytes=100, partitions=256)

WORKLOADS = {
    "chat: 100,000 clients in 2 of 5,000 rooms, a message every 2 s in each": CHAT,
    "scores: 1,000,000 clients follow 3 of 200 games, 1 update/s in each": SCORES,
    "scores, updates may wait 1 s for others": replace(SCORES, linger_ms=1000),
    "keys: 1,000,000 clients follow 1 of 10,000 keys, 512 B once a second in each": KEYS,
    "firehose: 100,000 clients follow 1 of 100,000 keys, 100 B five times a second in each": FIREHOSE,
}

CLIENTS = 1_000_000
NODES = 20
EAGER = Policy(patience_s=5, pause_s=1, growth_max=1, jitter=0, suspended_pause_s=1)


def storms(connect_us: float) -> dict[str, Storm]:
    """Storms of a million clients on twenty nodes."""
    all_at_once = Storm(clients=CLIENTS, nodes=NODES, connect_us=connect_us)
    one_lost = replace(all_at_once, clients=CLIENTS // NODES, nodes=NODES - 1)
    quarter_lost = replace(all_at_once, clients=CLIENTS // 4, nodes=NODES * 3 // 4)
    eager = replace(all_at_once, policy=EAGER, horizon_s=120)
    return {
        "1 of 20 nodes is killed": one_lost,
        "the same, the balancer notices after 5 s": replace(one_lost, gone_share=1 / NODES, noticed_s=5),
        "1 of 20 machines falls silent, noticed 15 to 25 s later": replace(one_lost, window_s=10),
        "1 of 20 nodes drains over 10 s": replace(one_lost, window_s=10),
        "5 of 20 nodes are killed": quarter_lost,
        "5 of 20, listen queue of 16,384": replace(quarter_lost, queue=16_384),
        "the balancer restarts: all clients at once": all_at_once,
        "all at once, listen queue of 16,384": replace(all_at_once, queue=16_384),
        "all at once, listen queue of 131,072": replace(all_at_once, queue=131_072),
        "all clients, spread over 60 s": replace(all_at_once, window_s=60),
        "all at once; clients wait 5 s, then retry each second": eager,
        "the same, listen queue of 131,072": replace(eager, queue=131_072),
    }
