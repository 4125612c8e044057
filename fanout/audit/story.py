"""What happened to one client of an audit, so that a report can tell why what it was given is not exact.

Kept are the last `MOMENTS_MAX` moments, each some 150 bytes; the same one several times in a row is one that counts.
Belongs to the loop.
"""

import time
from collections import deque
from typing import Final

__all__ = ["MOMENTS_MAX", "Story"]

MOMENTS_MAX: Final = 100
_TEXT_MAX: Final = 40  # of what is told of a message


class Story:
    """See the module's text."""

    __slots__ = ("_awaits", "_moments")

    def __init__(self) -> None:
        self._moments = deque[tuple[float, str, int]](maxlen=MOMENTS_MAX)
        self._awaits = False

    def tell(self, what: str) -> None:
        """Something happened."""
        times = 1
        if self._moments and self._moments[-1][1] == what:
            times += self._moments.pop()[2]
        self._moments.append((time.time(), what, times))

    def is_in(self, how: str) -> None:
        """The server has let it in: what it is given first will be told."""
        self._awaits = True
        self.tell(how)

    def given(self, channel: str, text: str, *, again: bool = False) -> None:
        """A message came; `again` if the server says that it may have come before."""
        if self._awaits:
            self._awaits = False
            self.tell(f"given {text[:_TEXT_MAX].rstrip('.')!r} in {channel}{' again' if again else ''}")

    def __str__(self) -> str:
        """A moment a line, with the time of day, as nodes log."""
        return "\n".join(
            f"{time.strftime('%H:%M:%S', time.localtime(at))}.{int(at * 10) % 10}  {what}"
            f"{f', {times} times' if times > 1 else ''}"
            for at, what, times in self._moments
        )
