"""What a run has measured: medians, ratios to the control, a table, a file."""

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.compare.scenarios import Figures

__all__ = ["Results"]

# Per scenario the figure that is compared, and the columns of its table with their decimals.
DELIVERIES = {
    "cpu_us": 2,
    "ratio": 3,
    "per_cpu_s": 0,
    "user_us": 2,
    "messages_per_read": 1,
    "bytes_per_message": 0,
    "mean_ms": 1,
    "p50_ms": 1,
    "p99_ms": 1,
}
COLUMNS: dict[str, dict[str, int]] = {
    "lockstep": DELIVERIES,
    "saturated": DELIVERIES,
    "rate": DELIVERIES,
    "memory": {"bytes": 0, "empty_mib": 1, "held_mib": 1},
    "connect": {"cpu_us": 1, "ratio": 2, "per_s": 0},
}
HEADINGS = {
    "cpu_us": "CPU µs",
    "ratio": "× control",
    "per_cpu_s": "per CPU second",
    "per_s": "per second",
    "user_us": "of it user µs",
    "messages_per_read": "messages a read",
    "bytes_per_message": "bytes a message",
    "mean_ms": "mean ms",
    "p50_ms": "p50 ms",
    "p99_ms": "p99 ms",
    "bytes": "bytes a connection",
    "empty_mib": "empty, MiB",
    "held_mib": "held, MiB",
}


class Results:
    """The rounds of all contenders, as they come."""

    def __init__(self, scenario: str, versions: dict[str, str]) -> None:
        self._scenario = scenario
        self._versions = versions
        self._rounds: dict[str, list[Figures]] = {name: [] for name in versions}

    def add(self, name: str, figures: Figures) -> None:
        self._rounds[name].append(figures)

    def medians(self) -> dict[str, Figures]:
        """Of the rounds that all contenders have completed; empty before the first."""
        complete = min(map(len, self._rounds.values()), default=0)
        rounds = {name: rounds[:complete] for name, rounds in self._rounds.items() if complete}
        found = {
            name: {figure: median(each[figure] for each in mine) for figure in mine[0]} for name, mine in rounds.items()
        }
        if (base := found.get("control", {}).get("cpu_us")) is not None:
            for figures in found.values():
                figures["ratio"] = figures["cpu_us"] / base
        return found

    def table(self) -> str:
        """Markdown, cheapest first."""
        found = self.medians()
        columns = {
            name: digits for name, digits in COLUMNS[self._scenario].items() if any(name in f for f in found.values())
        }
        lines = ["| server | version | " + " | ".join(HEADINGS[name] for name in columns) + " |"]
        lines.append("|---|---|" + "---|" * len(columns))
        for name in sorted(found, key=lambda name: found[name][next(iter(columns))]):
            cells = [f"{found[name][column]:,.{digits}f}" for column, digits in columns.items()]
            lines.append(f"| {name} | {self._versions[name]} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def write(self, path: Path, about: dict[str, Any], skipped: Sequence[str]) -> None:
        """All of it, the single rounds too."""
        medians = {name: _rounded(figures) for name, figures in self.medians().items()}
        rounds = {name: [_rounded(figures) for figures in rounds] for name, rounds in self._rounds.items()}
        whole = {**about, "contenders": self._versions, "skipped": skipped, "medians": medians, "rounds": rounds}
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(whole, indent=1) + "\n")


def _rounded(figures: Figures) -> Figures:
    return {name: float(f"{value:.5g}") for name, value in figures.items()}
