"""The short form of the chaos run; `python -m tests.chaos --minutes 10` is the long one."""

import logging

import pytest

from tests.chaos.run import Scale, chaos

logger = logging.getLogger(__name__)

SHORT = Scale(
    seconds=60,
    brokers_down_s=10,
    subscribers=100,
    channels=20,
    attachments=4,
    publishers=4,
    rate=40,
    members=6,
    history="5s",
)


@pytest.mark.kafka
@pytest.mark.timeout(900)  # most of it is for machines full of work, on which each restart takes long
async def test_a_minute_of_faults_costs_nobody_a_message() -> None:
    outcome = await chaos(SHORT, 20_261_123, logger.info)
    logger.info("%s", outcome)
    assert outcome.exact, outcome
    assert outcome.report.delivered > 10_000
    assert {"rolling_drain", "brokers_down_10s"} <= outcome.faults.keys()
    assert outcome.report.clients.connections > outcome.report.clients.subscribers
