"""From the source's contract to sockets: CPU time of the node per delivery, beside a bare send loop in the same run."""

from typing import Any

import pytest

from benchmarks.beside import Shape, compare, crowds
from benchmarks.conftest import FULL, Record
from benchmarks.harness import Tools

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
