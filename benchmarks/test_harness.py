"""A benchmark that goes wrong ends, and says why."""

import sys
from pathlib import Path

import pytest

from benchmarks.harness import SERVER_CORE, Crowd, Program, wait_until

FEEDER = """
import json, sys
for _ in sys.stdin:
    print(json.dumps({"sent": 1, "behind_ms": 300}), flush=True)
"""


def test_a_program_that_has_ended_is_named_when_it_is_heard_and_when_it_is_asked() -> None:
    with Program("true", core=SERVER_CORE) as program:
        with pytest.raises(AssertionError, match="true has ended"):
            program.hear()
        with pytest.raises(AssertionError, match="true has ended"):
            program.ask("stats")


def test_waiting_ends_with_what_it_waited_for() -> None:
    looks = iter([False, True])
    wait_until(lambda: next(looks), "a second look")
    with pytest.raises(AssertionError, match="the end of all things has not come about within 0 s"):
        wait_until(lambda: False, "the end of all things", 0)


def test_a_feeder_that_is_too_slow_fails_the_run(tmp_path: Path) -> None:
    script = tmp_path / "feeder.py"
    script.write_text(FEEDER)
    with Program(sys.executable, script, core=SERVER_CORE) as feeder:
        crowd = Crowd(feeder, feeder, 1, is_node=True, feeder=feeder)
        with pytest.raises(AssertionError, match="the feeder was 300 ms behind; at most 250 are allowed"):
            crowd.fed(1, 10, behind_max_ms=250)
