"""The inputs of the model: where they are found, and that the newest counts."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.scale.costs import Costs
from benchmarks.scale.inputs import CHECKS, ORIGINS, Inputs


def run(value: float) -> dict[str, Any]:
    """A results file in which every figure is `value`."""
    measured: dict[str, dict[str, float]] = {check: {"clients": value} for check in CHECKS}
    for origin in ORIGINS.values():
        measured.setdefault(origin.benchmark, {}).update(dict.fromkeys(origin.figures, value))
    return {"time": f"2026-01-0{value:.0f}T00:00:00Z", "measured": measured}


def test_every_cost_has_an_origin() -> None:
    assert set(ORIGINS) == set(Costs.__dataclass_fields__)


def test_the_newest_result_that_has_a_benchmark_counts(tmp_path: Path) -> None:
    old, new = run(2), run(3)
    del new["measured"]["bench_connections__open_and_attach"]
    (tmp_path / "a.json").write_text(json.dumps(new))
    (tmp_path / "b.json").write_text(json.dumps(old))
    found = Inputs.measured(tmp_path)
    assert (found.costs.write_rare_us, found.costs.connect_us) == (3, 2)
    assert found.costs.write_busy_us == 3 * 3  # CPU time a delivery times messages a write
    assert {figure.name: figure.result for figure in found.figures}["connect_us"] == "b.json"
    assert found.check(CHECKS[0]) == run(3)["measured"][CHECKS[0]]


def test_what_was_never_measured_is_named(tmp_path: Path) -> None:
    result = run(1)
    del result["measured"]["bench_scale__memory"]
    (tmp_path / "a.json").write_text(json.dumps(result))
    with pytest.raises(LookupError, match=r"attachment_bytes of bench_scale__memory; run `make bench`"):
        Inputs.measured(tmp_path)


def test_what_is_kept_is_what_is_found_again(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(run(1)))
    found = Inputs.measured(tmp_path)
    found.keep(tmp_path / "kept")
    assert Inputs.kept(tmp_path / "kept") == found
