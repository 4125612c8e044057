"""How the price of a delivery grows: with subscribers, channels, payload and wire; each beside the bare kernel's.

The long form, when all of it has run, also writes the chart and the tables of docs/performance.md.
"""

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import growth_page
from benchmarks.beside import Shape, compare, crowds
from benchmarks.conftest import FULL, Record
from benchmarks.harness import Tools

MANY = 10_000 if FULL else 200
SOME = 1_000 if FULL else 100
SUBSCRIBERS = [10, 100, 1_000, 10_000] if FULL else [10]
CHANNELS = [1, 100, 10_000] if FULL else [1, 50]
PAYLOADS = [16, 128, 1_024, 16_384, 65_536] if FULL else [16, 65_536]
WIRES = ["json", "msgpack"]

DELIVERIES = 100_000 if FULL else 4_000  # a round with one message a flush
SATURATED_DELIVERIES = 2_000_000 if FULL else 40_000
CONTROL_DELIVERIES = 100_000 if FULL else 4_000  # of the control where the node's frames hold many
BYTES = 1 << 30  # of payload a round, at most
MESSAGES = 2_000  # a round, at most: with few subscribers they are what takes the time
SATURATED_MESSAGES = 50_000


@pytest.fixture(scope="module")
def rows() -> Iterator[list[dict[str, Any]]]:
    """What was measured, for the page; it is written when all cases of the long form are in."""
    measured: list[dict[str, Any]] = []
    yield measured
    if FULL and len(measured) == 2 * len(SUBSCRIBERS) + len(CHANNELS) + len(PAYLOADS) + 2 * len(WIRES):
        growth_page.write(measured)


Rows = list[dict[str, Any]]


@pytest.mark.parametrize("subscribers", SUBSCRIBERS)
@pytest.mark.parametrize("mode", ["one", "saturated"])
def bench_growth__subscribers(
    benchmark: Any, record: Record, tools: Tools, rows: Rows, mode: str, subscribers: int
) -> None:
    rows.append(measure(benchmark, record, tools, "subscribers", Shape(subscribers), mode))


@pytest.mark.parametrize("channels", CHANNELS)
def bench_growth__channels(benchmark: Any, record: Record, tools: Tools, rows: Rows, channels: int) -> None:
    """As many deliveries of as many messages' worth, from ever more channels with ever fewer subscribers each."""
    rows.append(measure(benchmark, record, tools, "channels", Shape(MANY, channels=channels), "one"))


@pytest.mark.parametrize("payload", PAYLOADS)
def bench_growth__payload(benchmark: Any, record: Record, tools: Tools, rows: Rows, payload: int) -> None:
    rows.append(measure(benchmark, record, tools, "payload", Shape(SOME, payload=payload), "one"))


@pytest.mark.parametrize("wire", WIRES)
@pytest.mark.parametrize("mode", ["one", "saturated"])
def bench_growth__wire(benchmark: Any, record: Record, tools: Tools, rows: Rows, mode: str, wire: str) -> None:
    rows.append(measure(benchmark, record, tools, "wire", Shape(SOME, wire=wire), mode))


def measure(benchmark: Any, record: Record, tools: Tools, axis: str, shape: Shape, mode: str) -> dict[str, Any]:
    """One message a flush (`one`), or as many under way as `bench_delivery` has (`saturated`)."""
    most = max(BYTES // shape.payload // shape.subscribers, 1)
    with crowds(tools, shape) as (ours, bare):
        if mode == "one":
            messages = max(min(DELIVERIES // shape.subscribers, MESSAGES, most), 1)
            figures = compare(
                benchmark,
                record,
                shape,
                lambda: ours.one_at_a_time(messages),
                lambda: bare.one_at_a_time(messages),
                axis=axis,
                mode=mode,
            )
        else:
            window = 16 if shape.subscribers >= 10_000 else 64
            messages = max(min(SATURATED_DELIVERIES // shape.subscribers, SATURATED_MESSAGES, most), window)
            bare_messages = max(min(CONTROL_DELIVERIES // shape.subscribers, SATURATED_MESSAGES, most), 1)
            figures = compare(
                benchmark,
                record,
                shape,
                lambda: ours.windowed(messages, window),
                lambda: bare.windowed(bare_messages, window),
                axis=axis,
                mode=mode,
                window=window,
            )
    return figures
