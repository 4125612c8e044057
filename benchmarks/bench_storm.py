"""A storm of connects on a node that is delivering: how long it takes, and what those already there notice of it."""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from benchmarks.conftest import FULL, Record
from benchmarks.harness import Tools, complete, load, node, settled

SUBSCRIBERS = 1_000 if FULL else 50
STORM = 10_000 if FULL else 300
CHANNELS = 100  # that the storm spreads over; the stream is on one of them
GAP_S = 0.1 if FULL else 0.02  # between two messages of the stream
QUIET = 50 if FULL else 10  # messages before the storm
AT_ONCE = 1_024  # connections being opened at any time


def bench_storm__connects_while_delivering(benchmark: Any, record: Record, tools: Tools) -> None:
    """All connect and attach as fast as they can, while subscribers receive a message every now and then."""
    with (
        node("--watch-loop") as (server, told),
        load(tools, told["port"], SUBSCRIBERS, f"--key={told['key']}") as subscribers,
    ):
        assert subscribers.hear()["attached"] == SUBSCRIBERS
        sent = 0

        def stream(is_over: Callable[[], bool]) -> dict[str, Any]:
            """Sends until it is over; what the subscribers say of it, once all have all of it."""
            nonlocal sent
            first = sent
            while not is_over():
                sent = int(server.ask("send 1 1")["sent"])
                time.sleep(GAP_S)
            assert subscribers.ask(f"until {sent}") == {"reached": True, "missing": 0}
            return complete(subscribers.ask("report"), (sent - first) * SUBSCRIBERS)

        begun = server.cost()
        before = stream(lambda: sent >= QUIET)
        quiet = server.cost() - begun
        server.ask("stall")
        options = (f"--key={told['key']}", f"--channels={CHANNELS}", f"--pace={AT_ONCE}")

        def storm() -> tuple[dict[str, Any], dict[str, Any], dict[str, Any], float]:
            begun = server.cost()
            with load(tools, told["port"], STORM, *options) as clients, ThreadPoolExecutor(1) as waiting:
                attached = waiting.submit(clients.hear)
                during = stream(attached.done)
                cost, late = server.cost() - begun, server.ask("stall")
            return attached.result(), during, late, cost.cpu_s - quiet.cpu_s * cost.wall_s / quiet.wall_s

        came, during, late, cpu_s = benchmark.pedantic(storm, rounds=1)
        assert came["attached"] == STORM
        settled(subscribers)
    record(
        connections=STORM,
        subscribers=SUBSCRIBERS,
        seconds=came["seconds"],
        cpu_us=cpu_s / STORM * 1e6,
        p50_before_ms=before["p50_us"] / 1000,
        p99_before_ms=before["p99_us"] / 1000,
        p50_during_ms=during["p50_us"] / 1000,
        p99_during_ms=during["p99_us"] / 1000,
        loop_late_p99_ms=late["p99_ms"],
        loop_late_max_ms=late["max_ms"],
    )
