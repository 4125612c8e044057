"""MQTT clients that promised to be heard: who keeps silent for longer is noticed (MQTT 5.0 §3.1.2.10).

All clients of a node share one timer, and each takes a number in the list of the moment at which it is looked at next;
a client that is gone is found to be so there, within `AHEAD_S`. Belongs to the event loop.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["KeepAlive", "Promising"]

GRAIN_S: Final = 0.25
AHEAD_S: Final = 60.0  # for no longer is a number in a list
AT_ONCE: Final = 1_000  # looked at in one turn of the loop: 1 ms


class Promising(Protocol):
    """A client that promised to be heard."""

    def silent_from(self, now: float) -> float:
        """When, by the loop's clock, it will have broken its promise if nothing more is heard."""
        ...

    def silent(self) -> None:
        """It has."""


class KeepAlive:
    """Those of one node."""

    def __init__(self, find: Callable[[int], Promising | None]) -> None:
        """`find` has the client of a number; None if it is gone."""
        self._find = find
        self._lists: dict[int, list[int]] = {}  # by the moment, in grains of the loop's clock
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return sum(map(len, self._lists.values()))

    def watch(self, number: int, due: float) -> None:
        """Looks at the client when that time has come; once, until it is gone."""
        loop = asyncio.get_running_loop()
        moment = int(min(due, loop.time() + AHEAD_S) / GRAIN_S) + 1
        self._lists.setdefault(moment, []).append(number)
        if self._timer is None:
            self._timer = loop.call_later(GRAIN_S, self._look)

    def _look(self) -> None:
        loop = asyncio.get_running_loop()
        now, left = loop.time(), AT_ONCE
        try:
            for moment in sorted(moment for moment in self._lists if moment * GRAIN_S <= now):
                numbers = self._lists[moment]
                while numbers and left:
                    left -= 1
                    self._look_at(numbers.pop(), now)
                if not numbers:
                    del self._lists[moment]
        finally:  # one that raises must not keep the others from being looked at
            self._timer = loop.call_later(GRAIN_S if left else 0.0, self._look) if self._lists else None

    def _look_at(self, number: int, now: float) -> None:
        client = self._find(number)
        if client is None:
            return
        due = client.silent_from(now)
        if due > now:
            self.watch(number, due)
        else:
            client.silent()
