"""What a process that is a node and nothing else does for it."""

import gc

from fanout.cli.foreground import COLLECTED_AFTER, spare_collector


def test_the_collector_leaves_alone_what_the_start_made() -> None:
    thresholds = gc.get_threshold()
    try:
        spare_collector()
        assert gc.get_freeze_count() > 1_000
        assert gc.get_threshold() == COLLECTED_AFTER
        assert gc.isenabled()
    finally:
        gc.unfreeze()
        gc.set_threshold(*thresholds)
