"""What a huge fan-out does to the rest: a channel of ten subscribers beside one of ten thousand.

A message every 10 ms goes to the small channel; alone, and while the huge one is given a burst and then one message
after the other, each as soon as all have the last. Both take turns; figures are medians of the rounds.

The small channel's clients have a process of their own, ahead of the others on the core that they share where the
system permits it: what they wait for should be the server.
"""

import os
import time
from contextlib import suppress
from statistics import median
from typing import Any

from benchmarks.conftest import FULL, Record
from benchmarks.harness import Crowd, Program, Tools, complete, load, node, settled

SUBSCRIBERS = 10_000 if FULL else 300
FEW = 10
BURST = 20  # messages
ROUNDS = 5 if FULL else 2
TRICKLED = 300 if FULL else 40  # messages of the small channel a round
INTERVAL_MS = 10
AHEAD = -10  # niceness


def bench_isolation__small_channel_beside_huge_one(benchmark: Any, record: Record, tools: Tools) -> None:
    """Latency of the small channel without and with the huge one's, beside the length of the burst."""
    alone: list[dict[str, Any]] = []
    beside: list[dict[str, Any]] = []
    sweep_s: list[float] = []
    burst_s: list[float] = []
    with node("--watch-loop") as (server, told), clients_of(tools, told, FEW, "--first-channel=1") as few:
        with suppress(PermissionError):
            os.setpriority(os.PRIO_PROCESS, few.pid, AHEAD)
        with clients_of(tools, told, SUBSCRIBERS) as many:
            assert few.hear()["attached"] == FEW
            assert many.hear()["attached"] == SUBSCRIBERS
            crowd = Crowd(server, many, SUBSCRIBERS, is_node=True)
            crowd.windowed(BURST, BURST)
            server.ask("stall")

            def trickle(busy: bool) -> dict[str, Any]:
                end = server.ask(f"trickle {TRICKLED} {INTERVAL_MS}")["sent"]
                until = time.perf_counter() + TRICKLED * INTERVAL_MS / 1000
                if busy:
                    burst_s.append(crowd.windowed(BURST, BURST).cost.wall_s)
                    while time.perf_counter() < until:
                        sweep_s.append(crowd.one_at_a_time(1).cost.wall_s)
                assert few.ask(f"until {end}") == {"reached": True, "missing": 0}
                stall = server.ask("stall")
                return complete(few.ask("report"), TRICKLED * FEW) | {"stall": stall}

            benchmark.pedantic(
                lambda: beside.append(trickle(True)), setup=lambda: alone.append(trickle(False)), rounds=ROUNDS
            )
            settled(few, many)
    record(
        subscribers=SUBSCRIBERS,
        few=FEW,
        interval_ms=INTERVAL_MS,
        rounds=ROUNDS,
        burst_messages=BURST,
        burst_ms=median(burst_s) * 1000,
        sweep_ms=median(sweep_s) * 1000,
        **{f"alone_{name}": value for name, value in latencies(alone).items()},
        **{f"beside_{name}": value for name, value in latencies(beside).items()},
    )


def clients_of(tools: Tools, told: dict[str, Any], connections: int, *options: str) -> Program:
    return load(tools, told["port"], connections, f"--key={told['key']}", *options)


def latencies(reports: list[dict[str, Any]]) -> dict[str, float]:
    return {
        **{f"{name}_ms": median(r[f"{name}_us"] for r in reports) / 1000 for name in ("p50", "p99", "max")},
        "loop_stall_p99_ms": median(r["stall"]["p99_ms"] for r in reports),
        "loop_stall_max_ms": max(r["stall"]["max_ms"] for r in reports),
    }
