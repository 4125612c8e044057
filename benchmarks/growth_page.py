"""The chart and the tables of docs/performance.md, from what `bench_growth` measured.

    python -m benchmarks.growth_page benchmarks/results/NAME.json       makes them again from a results file

The tables stand between two marks in the page; the text around them is written by hand.
"""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.chart import Panel, svg

__all__ = ["tables", "write"]

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- growth: written by `make bench` -->", "<!-- end of growth -->"
MODES = {"one": "one message a flush", "saturated": "saturated"}
NODE, CONTROL, SATURATED = "fanout, one message a flush", "bare kernel, one message a write", "fanout, saturated"

Row = dict[str, Any]


def write(rows: Sequence[Row], docs: Path = DOCS) -> None:
    """Writes growth.svg, and the tables into performance.md. Raises ValueError if the page lacks its marks."""
    page = docs / "performance.md"
    before, begin, rest = page.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} does not say where the tables belong")
    page.write_text(f"{before}{BEGIN}\n\n{tables(rows)}\n{END}{after}")
    (docs / "growth.svg").write_text(chart(rows))


def chart(rows: Sequence[Row]) -> str:
    """Subscribers, channels and payload, beside each other."""
    ones = [row for row in rows if row["mode"] == "one"]
    return svg(
        [
            Panel(
                "Subscribers of one channel",
                "subscribers",
                {
                    NODE: line(ones, "subscribers", "subscribers", "cpu_us"),
                    CONTROL: line(ones, "subscribers", "subscribers", "control_cpu_us"),
                    SATURATED: line(
                        [row for row in rows if row["mode"] == "saturated"], "subscribers", "subscribers", "cpu_us"
                    ),
                },
            ),
            Panel(
                "Channels, as many deliveries",
                "channels",
                {
                    NODE: line(ones, "channels", "channels", "cpu_us"),
                    CONTROL: line(ones, "channels", "channels", "control_cpu_us"),
                },
            ),
            Panel(
                "Payload, 1,000 subscribers",
                "bytes",
                {
                    NODE: line(ones, "payload", "payload_bytes", "cpu_us"),
                    CONTROL: line(ones, "payload", "payload_bytes", "control_cpu_us"),
                },
            ),
        ],
        "CPU µs per delivery",
    )


def line(rows: Sequence[Row], axis: str, x: str, y: str) -> list[tuple[float, float]]:
    return sorted((row[x], row[y]) for row in rows if row["axis"] == axis)


def tables(rows: Sequence[Row]) -> str:
    """One Markdown table an axis."""
    axes: list[tuple[str, str, Callable[[Row], str]]] = [
        ("subscribers", "subscribers", lambda row: f"{row['subscribers']:,}"),
        ("channels", "channels", lambda row: f"{row['channels']:,}"),
        ("payload", "payload", lambda row: f"{row['payload_bytes']:,} B"),
        ("wire", "wire", lambda row: str(row["wire"])),
    ]
    parts = []
    for axis, heading, cell in axes:
        parts.append(
            f"| {heading} | | fanout, CPU µs | bare kernel, CPU µs | ratio | messages a frame | p50 / p99 ms |"
        )
        parts.append("|---|---|---|---|---|---|---|")
        parts += [cells(cell(row), row) for row in rows if row["axis"] == axis]
        parts.append("")
    return "\n".join(parts)


def cells(first: str, row: Row) -> str:
    """One line of a table."""
    return (
        f"| {first} | {MODES[row['mode']]} | {row['cpu_us']:.2f} | {row['control_cpu_us']:.2f} | {row['ratio']:.2f} "
        f"| {row['messages_per_frame']:.0f} | {row['p50_ms']:.1f} / {row['p99_ms']:.1f} |"
    )


if __name__ == "__main__":
    measured = json.loads(Path(sys.argv[1]).read_text())["measured"]
    write([row for name, row in measured.items() if name.startswith("bench_growth")])
