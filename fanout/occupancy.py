"""Occupancy: how many use a channel, for who asks and for who wants to be told (Ably protocol, "Metadata channels").

- Counted are this node's attachments; members are those of all nodes, as the log has them.
- A channel's watchers are told after one has attached, and when a figure has changed: at most every `PERIOD_S`, however
  many come and go meanwhile, and some channels at a time.

Everything belongs to the event loop.
"""

import asyncio
from collections.abc import Mapping
from typing import Final, Protocol

import orjson

from fanout.session.modes import METRICS

__all__ = ["Counting", "Occupancy"]

NAME: Final = "[meta]occupancy"
PERIOD_S: Final = 0.5
CHANNELS_PER_TURN: Final = 500
"""Channels looked at before others get their turn: 2 µs each."""


class Counting(Protocol):
    """The engine's counts; `fanout._core.Engine` answers this."""

    def occupancy(self, channel: str) -> Mapping[str, int]:
        """By the names of `METRICS`, as far as it counts them; and `watchers`."""
        ...

    def inject(self, channel: str, name: str, data: str) -> None:
        """Delivers JSON text to the channel's watchers, in no log."""
        ...


class Occupancy:
    """Tells watchers. `run` belongs to a task."""

    def __init__(self, engine: Counting) -> None:
        self._engine = engine
        self._told: dict[str, dict[str, int] | None] = {}  # bounded by the attachments of watchers

    def metrics(self, channel: str) -> dict[str, int]:
        """The figures of a channel."""
        counts = self._engine.occupancy(channel)
        return {name: counts.get(name, 0) for name in METRICS}

    def watch(self, channel: str) -> None:
        """Somebody has attached who wants to be told."""
        self._told[channel] = None

    async def run(self) -> None:
        """Tells watchers, until cancelled."""
        while True:
            await asyncio.sleep(PERIOD_S)
            await self.tell()

    async def tell(self) -> None:
        """Tells the watchers of every channel whose figures they do not know."""
        channels = list(self._told)
        for begin in range(0, len(channels), CHANNELS_PER_TURN):
            for channel in channels[begin : begin + CHANNELS_PER_TURN]:
                self._tell(channel)
            await asyncio.sleep(0)

    def _tell(self, channel: str) -> None:
        if self._engine.occupancy(channel).get("watchers", 0) == 0:
            del self._told[channel]
            return
        metrics = self.metrics(channel)
        if self._told[channel] != metrics:
            self._told[channel] = metrics
            self._engine.inject(channel, NAME, orjson.dumps({"metrics": metrics}).decode())
