"""Which partition of a replay is read next, and what time all of them have been read up to. Decisions without I/O.

The next one is the one whose reading has come to the oldest time, by its records' timestamps; one that has yet to begin
comes first. So a channel's partitions are replayed side by side, and not one hour of one after an hour of another.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

__all__ = ["LONG_AGO_MS", "Goal", "Order", "Where"]

LONG_AGO_MS: Final = -(1 << 60)  # before every timestamp, with room to reckon with

Where = tuple[str, int]


class Goal(NamedTuple):
    """A partition that is to be read from `place` up to `goal`."""

    topic: str
    partition: int
    place: int
    goal: int

    @property
    def where(self) -> Where:
        """The partition."""
        return self.topic, self.partition


class Order:
    """How far the partitions of one replay have come in time."""

    def __init__(self) -> None:
        self._reached: dict[Where, int] = {}

    def next(self, goals: Sequence[Goal]) -> Goal:
        """The one to be read next; there is one."""
        return min(goals, key=lambda goal: self._at(goal.where))

    def clock_ms(self, goals: Sequence[Goal]) -> int:
        """The time up to which all of them have been read; long ago, if one has yet to begin."""
        return min(self._at(goal.where) for goal in goals)

    def reached(self, where: Where, timestamp: int | None) -> None:
        """It was read up to a record of that time; None if there was none."""
        self._reached[where] = max(self._at(where), LONG_AGO_MS if timestamp is None else timestamp)

    def _at(self, where: Where) -> int:
        return self._reached.get(where, LONG_AGO_MS)
