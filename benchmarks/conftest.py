"""Short by default, so that every test run runs them; FANOUT_BENCH=full for figures worth reading.

The long form writes what it measured to benchmarks/results/, together with commit, machine, versions and settings,
and whether it is `complete`: that no case failed.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.harness import ROOT, Tools, build_tools
from benchmarks.provenance import commit, provenance, unused

pytest_plugins = ["tests.support.fixtures_kafka"]

FULL = os.environ.get("FANOUT_BENCH") == "full"
BUILD_AND_RUN_S = 1800

MEASURED = pytest.StashKey[dict[str, dict[str, Any]]]()
LOAD_BEFORE = pytest.StashKey[tuple[float, float, float]]()

Record = Callable[..., None]


def pytest_sessionstart(session: pytest.Session) -> None:
    session.config.stash[LOAD_BEFORE] = os.getloadavg()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.parent == Path(__file__).parent:
            item.add_marker(pytest.mark.timeout(BUILD_AND_RUN_S))


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """The load client and the control, compiled."""
    return build_tools(tmp_path_factory.mktemp("control"))


@pytest.fixture
def record(request: pytest.FixtureRequest, benchmark: Any) -> Record:
    """`record(figure=value, …)` keeps figures for the summary, the results file and pytest-benchmark's own."""

    def keep(**figures: Any) -> None:
        rounded = {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}
        benchmark.extra_info.update(rounded)
        measured = request.config.stash.setdefault(MEASURED, {})
        measured.setdefault(request.node.name, {}).update(rounded)

    return keep


@pytest.fixture(autouse=True, scope="session")
def quiet_driver() -> Iterator[None]:
    """The driver of the benchmarks stays off the server's core."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    yield
    os.sched_setaffinity(0, cores)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    measured = config.stash.get(MEASURED, {})
    if not measured:
        return
    terminalreporter.section(f"benchmarks, {'full' if FULL else 'short form: not figures to quote'}")
    for name, figures in measured.items():
        terminalreporter.write_line(name + ": " + ", ".join(f"{key} {value}" for key, value in figures.items()))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    measured = session.config.stash.get(MEASURED, {})
    if not FULL or not measured:
        return
    command = "FANOUT_BENCH=full " + " ".join(["pytest", *sys.argv[1:]])
    complete = exitstatus == pytest.ExitCode.OK
    result = {**provenance(command, session.config.stash[LOAD_BEFORE]), "complete": complete, "measured": measured}
    path = unused(ROOT / "benchmarks/results" / f"{time.strftime('%Y-%m-%d')}-{commit()}.json")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(result, indent=2) + "\n")
