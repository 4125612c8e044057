"""What the tables are made from: costs, each with the result that it was taken from, and what real nodes did.

They are looked up in the newest results that have them, and kept in `inputs.json`: the tables in the documents change
when somebody decides so, and not with every new result.
"""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.scale.costs import Costs

__all__ = ["CHECKS", "ORIGINS", "RESULTS", "Check", "Figure", "Inputs", "Origin"]

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "benchmarks/results"
KEPT = Path(__file__).with_name("inputs.json")
DIGITS = 4  # of a measured number, as many as it can be trusted for and one


class Origin(NamedTuple):
    """Where a cost stands in a results file: the product of these figures, times `factor`."""

    benchmark: str
    figures: tuple[str, ...]
    factor: float = 1.0


ORIGINS = {
    "write_rare_us": Origin("bench_delivery__one_message_a_flush[10000]", ("cpu_us",)),
    "write_busy_us": Origin("bench_delivery__saturated[10000]", ("cpu_us", "messages_per_frame")),
    "record_100_us": Origin("bench_ingest__from_kafka[100]", ("cpu_us_per_record",)),
    "record_1024_us": Origin("bench_ingest__from_kafka[1024]", ("cpu_us_per_record",)),
    "records_100_per_s": Origin("bench_ingest__from_kafka[100]", ("records_per_s",)),
    "records_1024_per_s": Origin("bench_ingest__from_kafka[1024]", ("records_per_s",)),
    "batch_of_20_us": Origin("bench_scale__nodes[1]", ("tick_us",)),
    "connect_us": Origin("bench_connections__open_and_attach", ("cpu_us",)),
    "reconnect_us": Origin("bench_scale__killed_node", ("cpu_us",)),
    "connection_bytes": Origin("bench_connections__memory", ("idle_bytes",)),
    "attachment_bytes": Origin("bench_scale__memory", ("attachment_bytes",)),
    "node_bytes": Origin("bench_connections__memory", ("node_mib",), 1 << 20),
    "message_overhead_bytes": Origin("bench_scale__memory", ("message_overhead_bytes",)),
    "record_overhead_bytes": Origin("bench_scale__nodes[1]", ("record_overhead_bytes",)),
    "delivery_overhead_bytes": Origin("bench_scale__nodes[1]", ("delivery_overhead_bytes",)),
}
"""Where each field of `Costs` comes from."""

CHECKS = (
    *(f"bench_scale__nodes[{count}]" for count in (1, 2, 4)),
    *(f"bench_scale__needed[{count}]" for count in (2, 4)),
    "bench_scale__killed_node",
)
"""Benchmarks whose figures are set beside the model's."""


class Figure(NamedTuple):
    """One cost, and where it was taken from."""

    name: str
    value: float
    benchmark: str
    result: str


class Check(NamedTuple):
    """What one benchmark of real nodes measured."""

    benchmark: str
    result: str
    measured: dict[str, float]


@dataclass(frozen=True)
class Inputs:
    """All of it."""

    figures: tuple[Figure, ...]
    checks: tuple[Check, ...]

    @cached_property
    def costs(self) -> Costs:
        """The figures as the model takes them."""
        return Costs(**{figure.name: figure.value for figure in self.figures})

    def check(self, benchmark: str) -> dict[str, float]:
        """What this benchmark measured."""
        return next(check.measured for check in self.checks if check.benchmark == benchmark)

    @classmethod
    def measured(cls, results: Path = RESULTS) -> "Inputs":
        """From the newest result that has each. Raises LookupError naming what was never measured."""
        runs = [(path.name, json.loads(path.read_text())) for path in results.glob("*.json")]
        runs.sort(key=lambda run: run[1]["time"], reverse=True)
        return cls(
            tuple(_figure(name, origin, runs) for name, origin in ORIGINS.items()),
            tuple(Check(benchmark, *_newest(benchmark, (), runs)) for benchmark in CHECKS),
        )

    @classmethod
    def kept(cls, path: Path = KEPT) -> "Inputs":
        """Those that the documents show."""
        entries = json.loads(path.read_text())
        return cls(
            tuple(Figure(**figure) for figure in entries["costs"]),
            tuple(Check(**check) for check in entries["checks"]),
        )

    def keep(self, path: Path = KEPT) -> None:
        """Writes them where `kept` finds them."""
        entries = {
            "costs": [figure._asdict() for figure in self.figures],
            "checks": [check._asdict() for check in self.checks],
        }
        path.write_text(json.dumps(entries, indent=2) + "\n")


Runs = list[tuple[str, dict[str, Any]]]


def _figure(name: str, origin: Origin, runs: Runs) -> Figure:
    result, measured = _newest(origin.benchmark, origin.figures, runs)
    value = origin.factor
    for figure in origin.figures:
        value *= measured[figure]
    return Figure(name, float(f"{value:.{DIGITS}g}"), origin.benchmark, result)


def _newest(benchmark: str, figures: tuple[str, ...], runs: Runs) -> tuple[str, dict[str, float]]:
    for result, run in runs:
        measured: dict[str, float] = run.get("measured", {}).get(benchmark, {})
        if measured and all(figure in measured for figure in figures):
            return result, measured
    raise LookupError(f"no result has {' and '.join(figures) or 'anything'} of {benchmark}; run `make bench`")
