"""What is only believed when it has been so for `STANDS_S`: that the log ends below a place that somebody was given.

A broker that has slept, or leads since a moment ago, may tell an end that was. That is over within a second or two of
its waking. So who asks is to come back until the same has been found of the same place twice, so long apart. Of at most
`FOUND_MAX` places it is known when that was first found, for `FORGET_S`; of whatever is forgotten it begins anew.
"""

import asyncio
from typing import Final

__all__ = ["Standing"]

STANDS_S: Final = 5.0
FORGET_S: Final = 120.0  # clients come back within half a minute
FOUND_MAX: Final = 20_000  # as many as may wait for an answer

_Place = tuple[str, int, int]  # topic, partition, offset


class Standing:
    """See the module's text. Belongs to the event loop."""

    def __init__(self) -> None:
        self._since: dict[_Place, float] = {}  # those found first in front

    def __len__(self) -> int:
        """Places that the log was found not to reach."""
        return len(self._since)

    def has_stood(self, place: _Place, *, is_so: bool) -> bool:
        """Whether it is so of a place now, and was long enough ago."""
        now = asyncio.get_running_loop().time()
        if not is_so:
            self._since.pop(place, None)
            return False
        while self._since and now - self._since[first := next(iter(self._since))] > FORGET_S:
            del self._since[first]
        since = self._since.setdefault(place, now)
        if len(self._since) > FOUND_MAX:
            del self._since[next(iter(self._since))]
        return now - since >= STANDS_S
