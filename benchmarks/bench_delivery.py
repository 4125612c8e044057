"""From the source's contract to sockets: CPU time of the node per delivery, beside a bare send loop in the same run.

Rounds of node and control take turns, so that both meet the same machine; figures are medians of the rounds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import pytest

from benchmarks.conftest import FULL, Record
from benchmarks.harness import SERVER_CORE, Crowd, Program, Received, Tools, load, node

PAYLOAD = 128
SUBSCRIBERS = [100, 1_000, 10_000] if FULL else [200]
ROUNDS = 7 if FULL else 3
ONE_BY_ONE_DELIVERIES = 200_000 if FULL else 20_000  # a round
SATURATED_DELIVERIES = 3_000_000 if FULL else 200_000
CONTROL_DELIVERIES = 300_000 if FULL else 40_000  # of the control where the node's frames hold many


@contextmanager
def crowds(tools: Tools, subscribers: int) -> Iterator[tuple[Crowd, Crowd]]:
    """The node's subscribers and the control's, as many of both, warm."""
    with (
        node(f"--payload={PAYLOAD}") as (server, told),
        load(tools, told["port"], subscribers, f"--key={told['key']}") as clients,
    ):
        assert clients.hear()["attached"] == subscribers
        ours = Crowd(server, clients, subscribers, is_node=True)
        frame_bytes = ours.one_at_a_time(5).report["bytes"] // (5 * subscribers)
        command = (tools.control, str(subscribers), str(frame_bytes), "load-0")
        with (
            Program(*command, core=SERVER_CORE) as control,
            load(tools, control.hear()["port"], subscribers, "--raw") as listeners,
        ):
            assert listeners.hear()["attached"] == control.hear()["accepted"] == subscribers
            bare = Crowd(control, listeners, subscribers, is_node=False)
            bare.one_at_a_time(5)
            yield ours, bare


def compare(
    benchmark: Any, record: Record, ours: Callable[[], Received], bare: Callable[[], Received], **settings: Any
) -> None:
    """Measures in turns and records both."""
    ours_rounds: list[Received] = []
    bare_rounds: list[Received] = []
    benchmark.pedantic(
        lambda: ours_rounds.append(ours()), setup=lambda: bare_rounds.append(bare()), rounds=ROUNDS, iterations=1
    )
    ours_us, bare_us = (median(r.cpu_us for r in rounds) for rounds in (ours_rounds, bare_rounds))
    user_s, cpu_s = (sum(getattr(r.cost, part) for r in ours_rounds) for part in ("user_s", "cpu_s"))
    record(
        **settings,
        payload_bytes=PAYLOAD,
        rounds=ROUNDS,
        cpu_us=ours_us,
        control_cpu_us=bare_us,
        ratio=ours_us / bare_us,
        user_share=user_s / cpu_s,
        deliveries_per_cpu_s=round(1e6 / ours_us),
        messages_per_frame=sum(r.deliveries for r in ours_rounds) / sum(r.report["frames"] for r in ours_rounds),
        p50_ms=median(r.report["p50_us"] for r in ours_rounds) / 1000,
        p99_ms=median(r.report["p99_us"] for r in ours_rounds) / 1000,
        control_p50_ms=median(r.report["p50_us"] for r in bare_rounds) / 1000,
        control_p99_ms=median(r.report["p99_us"] for r in bare_rounds) / 1000,
    )


@pytest.mark.parametrize("subscribers", SUBSCRIBERS)
def bench_delivery__one_message_a_flush(benchmark: Any, record: Record, tools: Tools, subscribers: int) -> None:
    """Each message is sent when all have the one before: nothing can be joined, the write is everything."""
    messages = max(ONE_BY_ONE_DELIVERIES // subscribers, 1)
    with crowds(tools, subscribers) as (ours, bare):
        compare(
            benchmark,
            record,
            lambda: ours.one_at_a_time(messages),
            lambda: bare.one_at_a_time(messages),
            subscribers=subscribers,
        )


@pytest.mark.parametrize("subscribers", SUBSCRIBERS)
def bench_delivery__saturated(benchmark: Any, record: Record, tools: Tools, subscribers: int) -> None:
    """Many messages are under way: what waits is joined. The control goes on with a write a message."""
    window = 16 if subscribers >= 10_000 else 64
    with crowds(tools, subscribers) as (ours, bare):
        compare(
            benchmark,
            record,
            lambda: ours.windowed(SATURATED_DELIVERIES // subscribers, window),
            lambda: bare.windowed(CONTROL_DELIVERIES // subscribers, window),
            subscribers=subscribers,
            window=window,
        )
