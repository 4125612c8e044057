"""From the source's contract to sockets: CPU time of the node per delivery, beside a bare send loop in the same run.

And, apart from that since looking costs CPU, how late the event loop is meanwhile; and what lingering saves.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import pytest

from benchmarks.beside import ROUNDS, Shape, compare, crowds
from benchmarks.conftest import FULL, Record
from benchmarks.harness import Crowd, Received, Tools, load, node, settled

SUBSCRIBERS = [100, 1_000, 10_000] if FULL else [200]
ONE_BY_ONE_DELIVERIES = 200_000 if FULL else 20_000  # a round
SATURATED_DELIVERIES = 3_000_000 if FULL else 200_000
CONTROL_DELIVERIES = 300_000 if FULL else 40_000  # of the control where the node's frames hold many
LINGERS_MS = [0, 20]
LINGER_SUBSCRIBERS = 1_000 if FULL else 50
LINGER_RATE = 200  # messages a second
LINGER_MESSAGES = 400 if FULL else 20  # a round


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
        settled(clients)
    assert all(stall["looks"] for stall in stalls)
    record(
        subscribers=subscribers,
        rounds=ROUNDS,
        loop_stall_p99_ms=median(stall["p99_ms"] for stall in stalls),
        loop_stall_max_ms=max(stall["max_ms"] for stall in stalls),
    )


def bench_delivery__lingering(benchmark: Any, record: Record, tools: Tools) -> None:
    """A steady stream, held for some time or not at all: what a write for several messages saves, and how much later
    they come. Nodes with and without take turns."""
    rounds: dict[int, list[Received]] = {linger_ms: [] for linger_ms in LINGERS_MS}
    with ExitStack() as stack:
        crowds = {ms: stack.enter_context(lingering(tools, ms)) for ms in LINGERS_MS}

        def serve() -> None:
            for linger_ms, crowd in crowds.items():
                rounds[linger_ms].append(crowd.paced(LINGER_MESSAGES, LINGER_RATE))

        benchmark.pedantic(serve, rounds=ROUNDS)
    figures: dict[str, float] = {}
    for ms, received in rounds.items():
        figures |= {
            f"linger_{ms}_cpu_us": median(r.cpu_us for r in received),
            f"linger_{ms}_messages_per_frame": median(r.deliveries / r.report["frames"] for r in received),
            f"linger_{ms}_p50_ms": median(r.report["p50_us"] for r in received) / 1000,
            f"linger_{ms}_p99_ms": median(r.report["p99_us"] for r in received) / 1000,
            f"linger_{ms}_feeder_behind_ms": max(r.behind_ms for r in received),
        }
    record(subscribers=LINGER_SUBSCRIBERS, messages_per_s=LINGER_RATE, rounds=ROUNDS, **figures)


@contextmanager
def lingering(tools: Tools, linger_ms: int) -> Iterator[Crowd]:
    """The subscribers of a node that holds messages so long, warm."""
    with (
        node(f"--linger={linger_ms}") as (server, told),
        load(tools, told["port"], LINGER_SUBSCRIBERS, f"--key={told['key']}") as clients,
    ):
        assert clients.hear()["attached"] == LINGER_SUBSCRIBERS
        crowd = Crowd(server, clients, LINGER_SUBSCRIBERS, is_node=True)
        crowd.paced(10, LINGER_RATE)
        yield crowd
        settled(clients)
