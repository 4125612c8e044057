"""What the benchmarks make of their figures: the page about growth holds them, the profile adds them up."""

from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from benchmarks import growth_page
from benchmarks.profile_node import shares
from benchmarks.provenance import unused

SVG = "{http://www.w3.org/2000/svg}"


def row(axis: str, mode: str = "one", **figures: Any) -> dict[str, Any]:
    return {
        "axis": axis,
        "mode": mode,
        "subscribers": 1_000,
        "channels": 1,
        "payload_bytes": 128,
        "wire": "json",
        "cpu_us": 6.0,
        "control_cpu_us": 5.0,
        "ratio": 1.2,
        "messages_per_frame": 1.0,
        "p50_ms": 3.1,
        "p99_ms": 8.2,
        **figures,
    }


ROWS = [
    *(row("subscribers", subscribers=count, cpu_us=60.0 / count) for count in (10, 100, 1_000)),
    *(row("subscribers", "saturated", subscribers=count, cpu_us=0.2) for count in (10, 100, 1_000)),
    *(row("channels", channels=count) for count in (1, 100)),
    *(row("payload", payload_bytes=count) for count in (16, 65_536)),
    row("wire", wire="msgpack"),
]


def test_tables_replace_what_stood_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "performance.md"
    page.write_text(f"# Before\n\n{growth_page.BEGIN}\nold\n{growth_page.END}\n\nafter\n")
    growth_page.write(ROWS, tmp_path)
    growth_page.write(ROWS, tmp_path)
    text = page.read_text()
    assert text.startswith(f"# Before\n\n{growth_page.BEGIN}\n")
    assert text.endswith(f"{growth_page.END}\n\nafter\n")
    assert "old" not in text
    assert "| 100 | one message a flush | 0.60 | 5.00 | 1.20 | 1 | 3.1 / 8.2 |" in text
    assert "| 65,536 B | one message a flush | 6.00 | 5.00 | 1.20 | 1 | 3.1 / 8.2 |" in text
    assert text.count("| 3.1 / 8.2 |") == len(ROWS)


def test_chart_has_a_point_for_each_figure_higher_where_it_costs_more(tmp_path: Path) -> None:
    drawing = ElementTree.fromstring(growth_page.chart(ROWS))
    subscribers, channels, payload = drawing.findall(f"{SVG}g")
    assert [len(panel.findall(f"{SVG}circle")) for panel in (subscribers, channels, payload)] == [9, 4, 4]
    heights = [float(circle.attrib["cy"]) for circle in subscribers.findall(f"{SVG}circle")[:3]]
    assert heights == sorted(heights)  # y runs downwards, and the price falls
    assert len(set(heights)) == 3


def test_page_without_marks_is_refused(tmp_path: Path) -> None:
    (tmp_path / "performance.md").write_text("nothing here")
    with pytest.raises(ValueError, match="does not say where the tables belong"):
        growth_page.write(ROWS, tmp_path)


def test_profile_is_summed_by_owner() -> None:
    report = """# Overhead;Shared Object;Symbol
    40.00%;[kernel.kallsyms];[k] tcp_sendmsg
    10.00%;[kernel.kallsyms];[k] __fget
    30.00%;_engine.abi3.so;[.] fill
    15.00%;libpython3.11.so.1.0;[.] _PyEval_EvalFrameDefault
     5.00%;something.so;[.] thing
    """
    owners, functions = shares(report)
    assert owners == {"kernel": 50, "engine and shards (Rust)": 30, "interpreter": 15, "other": 5}
    assert functions[0] == (40.0, "[kernel.kallsyms]", "[k] tcp_sendmsg")


def test_results_never_overwrite_earlier_ones(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        path = unused(tmp_path / "day-commit.json")
        path.write_text("figures")
        names.append(path.name)
    assert names == ["day-commit.json", "day-commit-2.json", "day-commit-3.json"]
