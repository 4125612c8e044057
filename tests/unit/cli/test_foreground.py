"""What a process that is a node and nothing else does for it."""

import gc
import sys

import pytest

from fanout.cli.foreground import COLLECTED_AFTER, SWITCH_S, tune_interpreter


def test_the_collector_leaves_alone_what_the_start_made_and_threads_take_turns_often() -> None:
    thresholds, interval = gc.get_threshold(), sys.getswitchinterval()
    try:
        tune_interpreter()
        assert gc.get_freeze_count() > 1_000
        assert gc.get_threshold() == COLLECTED_AFTER
        assert gc.isenabled()
        assert sys.getswitchinterval() == pytest.approx(SWITCH_S)
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
        sys.setswitchinterval(interval)
