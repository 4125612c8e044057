"""The engine alone: publish to frames in outboxes, every byte taken at once and thrown away. No socket, no thread."""

from statistics import median
from typing import Any

import pytest

from benchmarks.conftest import FULL, Record
from benchmarks.harness import SERVER_CORE, Program, Tools

ROUNDS = 5 if FULL else 3
DELIVERIES = 4_000_000 if FULL else 400_000  # a round
MESSAGES_MAX = 200_000 if FULL else 20_000
SUBSCRIBERS = [1, 100, 1_000, 10_000] if FULL else [1, 1_000]
PAYLOADS = [16, 128, 1_024, 16_384] if FULL else [128]


@pytest.mark.parametrize("wire", ["json", "msgpack"])
@pytest.mark.parametrize("payload", PAYLOADS)
@pytest.mark.parametrize("subscribers", SUBSCRIBERS)
@pytest.mark.parametrize("batch", [1, 32])
def bench_engine__publish_to_frames(
    benchmark: Any, record: Record, tools: Tools, batch: int, subscribers: int, payload: int, wire: str
) -> None:
    """`batch` messages of one channel arrive at a time; each of the subscribers is due one frame of them."""
    messages = max(min(DELIVERIES // subscribers, MESSAGES_MAX, (256 << 20) // payload) // batch, 1) * batch
    options = (f"--subscribers={subscribers}", f"--payload={payload}", f"--format={wire}")
    rounds: list[dict[str, Any]] = []
    with Program(tools.load, "engine", *options, core=SERVER_CORE) as engine:
        assert engine.hear() == {"attached": subscribers}
        benchmark.pedantic(
            lambda: rounds.append(engine.ask(f"round {messages} {batch}")), rounds=ROUNDS, warmup_rounds=1
        )
    for result in rounds:
        assert result["deliveries"] == messages * subscribers
        assert result["frames"] >= messages // batch
        # Everyone gets the same bytes, and among them everything that was published.
        assert result["bytes"] % subscribers == 0
        assert result["bytes"] >= result["deliveries"] * payload
    measured = rounds[1:]
    record(
        subscribers=subscribers,
        payload_bytes=payload,
        wire=wire,
        batch=batch,
        rounds=ROUNDS,
        cpu_ns_per_message=median(r["cpu_ns"] for r in measured) / messages,
        cpu_ns_per_delivery=median(r["cpu_ns"] for r in measured) / (messages * subscribers),
    )
