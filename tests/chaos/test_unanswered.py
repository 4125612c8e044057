"""The short form of `python -m tests.chaos.unanswered`."""

from pathlib import Path

import pytest

from tests.chaos.unanswered import kill_before_answers
from tests.support.broker import Kafka


@pytest.mark.kafka
async def test_what_was_written_before_a_kill_and_sent_again_after_it_is_delivered_once(
    kafka: Kafka, tmp_path: Path
) -> None:
    report = await kill_before_answers(kafka, tmp_path, 30)
    assert report.exact, report
    assert report.published.cut_off >= 30
    assert report.published.sent_again > report.published.cut_off
