"""Places in a line that many wait in, shared so that nobody takes those of all others.

Whoever has fewer places than are free may take one more. So one alone has half of them at most; of several who want
all, each comes to have the same number, and as many stay free for who comes next. Nothing has to be known of who they
are, or how many.
"""

from collections import Counter
from collections.abc import Hashable, Iterator
from contextlib import contextmanager

from fanout.errors import ClientError, ErrorInfo

__all__ = ["Shares"]


class Shares:
    """The places of one line. Belongs to the event loop."""

    def __init__(self, places: int, refusal: ErrorInfo) -> None:
        """`refusal` is what is answered where there is none left."""
        self._places = places
        self._refusal = refusal
        self._taken = Counter[Hashable]()
        self._free = places

    @contextmanager
    def place(self, who: Hashable) -> Iterator[None]:
        """A place for as long as the block runs. Raises the ClientError when there is none for `who`."""
        self.take(who)
        try:
            yield
        finally:
            self.give(who)

    def take(self, who: Hashable) -> None:
        """Takes a place. Raises the ClientError when there is none for `who`."""
        if self._taken[who] >= self._free:
            if not self._taken[who]:
                del self._taken[who]
            raise ClientError(self._refusal)
        self._taken[who] += 1
        self._free -= 1

    def give(self, who: Hashable) -> None:
        """Gives one back that was taken."""
        self._free += 1
        self._taken[who] -= 1
        if not self._taken[who]:
            del self._taken[who]
