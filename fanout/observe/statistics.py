"""What of the node's counters becomes statistics by the minute, for clients that may ask (`fanout.stats`)."""

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from fanout.observe.metrics import Readings
from fanout.stats import Stats

__all__ = ["watch_minutes"]

PERIOD_S: Final = 5.0
"""Between two looks: clients are told that statistics are late by some seconds."""


async def watch_minutes(stats: Stats, readings: Readings, clock: Callable[[], int]) -> None:
    """Looks at the counters now and then, until cancelled. `clock` reads the time in ms."""
    while True:
        stats.observe(clock(), _counters(readings), _levels(readings))
        await asyncio.sleep(PERIOD_S)


def _counters(readings: Readings) -> Mapping[str, float]:
    published, delivered = readings.publisher()["published"], readings.engine()["deliveries"]
    return {
        "messages.inbound.all.messages.count": published,
        "messages.inbound.all.all.count": published,
        "messages.outbound.all.messages.count": delivered,
        "messages.outbound.all.all.count": delivered,
        "messages.all.messages.count": published + delivered,
        "messages.all.all.count": published + delivered,
        "connections.all.opened": readings.opened(),
        "connections.all.refused": readings.refused(),
    }


def _levels(readings: Readings) -> Mapping[str, float]:
    connections, channels = readings.connections(), readings.engine()["channels"]
    return {"connections.all.peak": connections, "channels.peak": channels}
