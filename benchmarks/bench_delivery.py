"""From the source's contract to sockets: CPU time of the node per delivery, beside a bare send loop in the same run.

And, apart from that since looking costs CPU, how late the event loop is meanwhile.
"""

from statistics import median
from typing import Any

import pytest

from benchmarks.beside import ROUNDS, Shape, compare, crowds
from benchmarks.conftest import FULL, Record
from benchmarks.harness import Crowd, Tools, load, node

SUBSCRIBERS = [100, 1_000, 10_000] if FULL else [200]
ONE_BY_ONE_DELIVERIES = 200_000 if FULL else 20_000  # a round
SATURATED_DELIVERIES = 3_000_000 if FULL else 200_000
CONTROL_DELIVERIES = 300_000 if FULL else 40_000  # of the control where the node's frames hold many


@pytest.mark.parametrize("subscribers", SUBSCRIBERS)
def bench_delivery__one_message_a_flush(benchmark: Any, record: Record, tools: Tools, subscribers: int) -> None:
    """Each message is sent when all have the one before: nothing can be joined, the write is everything."""
    messages = max(ONE_BY_ONE_DELIVERIES // subscribers, 1)
    shape = Shape(subscribers)
    with crowds(tools, shape) as (ours, bare):
        compare(benchmark, record, shape, lambda: ours.one_at_a_time(messages), lambda: bare.one_at_a_time(messages))


@pytest.mark.parametrize("subscribers", SUBSCRIBERS)
def bench_delivery__saturated(benchmark: Any, record: Record, tools: Tools, subscribers: int) -> None:
    """Many messages are under way: what waits is joined. The control goes on with a write a message."""
    window = 16 if subscribers >= 10_000 else 64
    shape = Shape(subscribers)
    with crowds(tools, shape) as (ours, bare):
        compare(
            benchmark,
            record,
            shape,
            lambda: ours.windowed(SATURATED_DELIVERIES // subscribers, window),
            lambda: bare.windowed(CONTROL_DELIVERIES // subscribers, window),
            window=window,
        )


def bench_delivery__event_loop(benchmark: Any, record: Record, tools: Tools) -> None:
    """How late the loop is while the most subscribers are served one message a flush."""
    subscribers = SUBSCRIBERS[-1]
    messages = ONE_BY_ONE_DELIVERIES // subscribers
    stalls: list[dict[str, float]] = []
    with (
        node("--watch-loop") as (server, told),
        load(tools, told["port"], subscribers, f"--key={told['key']}") as clients,
    ):
        assert clients.hear()["attached"] == subscribers
        crowd = Crowd(server, clients, subscribers, is_node=True)
        crowd.one_at_a_time(5)

        def serve() -> None:
            server.ask("stall")
            crowd.one_at_a_time(messages)
            stalls.append(server.ask("stall"))

        benchmark.pedantic(serve, rounds=ROUNDS)
    assert all(stall["looks"] for stall in stalls)
    record(
        subscribers=subscribers,
        rounds=ROUNDS,
        loop_stall_p99_ms=median(stall["p99_ms"] for stall in stalls),
        loop_stall_max_ms=max(stall["max_ms"] for stall in stalls),
    )
