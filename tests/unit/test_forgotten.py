"""Ids that were forgotten too early: whoever runs the node is told."""

import asyncio
import logging

import pytest

from fanout.observe import forgotten


async def test_it_is_told_once_for_those_since_the_last_time(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(forgotten, "PERIOD_S", 0.001)
    looks = asyncio.Event()
    counts = [0, 5, 5, 7]

    def count() -> int:
        if len(counts) == 1:
            looks.set()
            return counts[0]
        return counts.pop(0)

    with caplog.at_level(logging.WARNING):
        watching = asyncio.ensure_future(forgotten.warn_of_forgotten(count))
        await looks.wait()
        await asyncio.sleep(0.01)
        watching.cancel()
    assert [message.split(" ids")[0] for message in caplog.messages] == ["5 message", "2 message"]
