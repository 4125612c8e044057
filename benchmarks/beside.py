"""A node's subscribers beside the bare kernel's: as many of both, the same bytes, measured in turns.

Rounds of node and control take turns, so that both meet the same machine; figures are medians of the rounds.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.conftest import FULL, Record
from benchmarks.harness import SERVER_CORE, Crowd, Program, Received, Tools, load, node, settled

__all__ = ["ROUNDS", "Shape", "compare", "crowds"]

ROUNDS = 7 if FULL else 3
BATCH_MAX = 1_000  # records that a source hands over at once: `fanout.sources.base.LIMITS.read_batch`


@dataclass(frozen=True)
class Shape:
    """Who receives what: so many connections, each on one of the channels, dealt in turn."""

    subscribers: int
    payload: int = 128
    wire: str = "json"
    channels: int = 1


@contextmanager
def crowds(tools: Tools, shape: Shape) -> Iterator[tuple[Crowd, Crowd]]:
    """The node's subscribers and the control's, warm. A message means one in each channel: to every subscriber one."""
    channels = f"--channels={shape.channels}"
    with (
        node(f"--payload={shape.payload}", channels) as (server, told),
        load(
            tools, told["port"], shape.subscribers, f"--key={told['key']}", f"--format={shape.wire}", channels
        ) as clients,
    ):
        assert clients.hear()["attached"] == shape.subscribers
        batch = min(shape.channels, BATCH_MAX)
        ours = Crowd(server, clients, shape.subscribers, is_node=True, batch=batch)
        command = (tools.control, str(shape.subscribers), str(ours.frame_bytes()), "load-0")
        with (
            Program(*command, core=SERVER_CORE) as control,
            load(tools, control.hear()["port"], shape.subscribers, "--raw") as listeners,
        ):
            assert listeners.hear()["attached"] == control.hear()["accepted"] == shape.subscribers
            bare = Crowd(control, listeners, shape.subscribers, is_node=False)
            bare.one_at_a_time(5)
            yield ours, bare
            settled(clients, listeners)


def compare(
    benchmark: Any,
    record: Record,
    shape: Shape,
    ours: Callable[[], Received],
    bare: Callable[[], Received],
    **settings: Any,
) -> dict[str, Any]:
    """Measures in turns, records both, and returns what was recorded."""
    ours_rounds: list[Received] = []
    bare_rounds: list[Received] = []
    benchmark.pedantic(
        lambda: ours_rounds.append(ours()), setup=lambda: bare_rounds.append(bare()), rounds=ROUNDS, iterations=1
    )
    ours_us, bare_us = (median(r.cpu_us for r in rounds) for rounds in (ours_rounds, bare_rounds))
    user_s, cpu_s = (sum(getattr(r.cost, part) for r in ours_rounds) for part in ("user_s", "cpu_s"))
    figures = {
        "subscribers": shape.subscribers,
        "channels": shape.channels,
        "wire": shape.wire,
        "payload_bytes": shape.payload,
        **settings,
        "rounds": ROUNDS,
        "cpu_us": ours_us,
        "control_cpu_us": bare_us,
        "ratio": ours_us / bare_us,
        "user_share": user_s / cpu_s,
        "deliveries_per_cpu_s": round(1e6 / ours_us),
        "messages_per_frame": sum(r.deliveries for r in ours_rounds) / sum(r.report["frames"] for r in ours_rounds),
        "p50_ms": median(r.report["p50_us"] for r in ours_rounds) / 1000,
        "p99_ms": median(r.report["p99_us"] for r in ours_rounds) / 1000,
        "control_p50_ms": median(r.report["p50_us"] for r in bare_rounds) / 1000,
        "control_p99_ms": median(r.report["p99_us"] for r in bare_rounds) / 1000,
    }
    record(**figures)
    return figures
