"""Bounds that contradict each other are refused. Each bound is reached in the tests of what it bounds."""

from typing import Any

import pytest

from fanout.session.limits import Limits


class TestLimits:
    @pytest.mark.parametrize(
        ("wrong", "reason"),
        [
            ({"message_bytes": 524_288}, "does not fit into a frame"),
            ({"bytes_in_flight": 65_535}, "more than may be in flight"),
            ({"messages_in_flight": 999}, "more than may be in flight"),
            ({"answers_waiting": 4_095}, "must have room"),
        ],
    )
    def test_that_contradict_each_other_are_refused(self, wrong: dict[str, Any], reason: str) -> None:
        with pytest.raises(ValueError, match=reason):
            Limits(**wrong)
