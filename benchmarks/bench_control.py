"""The bare kernel's price of a delivery, by system call, messages in a write and subscribers: everyone's limit."""

from statistics import median
from typing import Any

import pytest

from benchmarks.conftest import FULL, Record
from benchmarks.harness import SERVER_CORE, Crowd, Program, Received, Tools, load, node_frame_bytes, settled

PAYLOAD = 128  # of a message; the frame is as long as the node's around it
SUBSCRIBERS = [1_000, 10_000] if FULL else [200]
ROUNDS = 5 if FULL else 2
WRITES = 300_000 if FULL else 20_000  # a round
WAYS = [("send", 1), ("uring", 1), ("send", 16), ("sendmsg", 16), ("uring", 16), ("send", 32), ("send", 64)]


@pytest.mark.parametrize("subscribers", SUBSCRIBERS)
@pytest.mark.parametrize(("how", "joined"), WAYS)
def bench_control__write(benchmark: Any, record: Record, tools: Tools, how: str, joined: int, subscribers: int) -> None:
    """As many messages as go in one write are sent at once, and as many again while those arrive."""
    messages = max(WRITES // subscribers, 2) * joined
    rounds: list[Received] = []
    frame_bytes = node_frame_bytes(tools, PAYLOAD)
    command = (tools.control, str(subscribers), str(frame_bytes), "load-0", how, str(joined))
    with (
        Program(*command, core=SERVER_CORE) as control,
        load(tools, control.hear()["port"], subscribers, "--raw") as clients,
    ):
        assert clients.hear()["attached"] == control.hear()["accepted"] == subscribers
        crowd = Crowd(control, clients, subscribers, is_node=False)
        crowd.windowed(joined, 2 * joined)
        benchmark.pedantic(lambda: rounds.append(crowd.windowed(messages, 2 * joined)), rounds=ROUNDS, iterations=1)
        settled(clients)
    cpu_us = median(r.cpu_us for r in rounds)
    record(
        how=how,
        joined=joined,
        subscribers=subscribers,
        frame_bytes=frame_bytes,
        rounds=ROUNDS,
        cpu_us=cpu_us,
        deliveries_per_cpu_s=round(1e6 / cpu_us),
        messages_per_read=median(r.deliveries / r.report["reads"] for r in rounds),
        p50_ms=median(r.report["p50_us"] for r in rounds) / 1000,
        p99_ms=median(r.report["p99_us"] for r in rounds) / 1000,
    )
