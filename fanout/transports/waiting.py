"""Connections that have begun to say something and are not done: few of them, with few bytes. The oldest makes room.

Belongs to the event loop.
"""

import sys
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Waiting"]

C = TypeVar("C")


class Waiting(Generic[C]):
    """Those of one node."""

    def __init__(self, bytes_max: int, end: Callable[[C], object], connections_max: int = sys.maxsize) -> None:
        """`end` ends a connection; it has left by then."""
        self._bytes_max = bytes_max
        self._connections_max = connections_max
        self._end = end
        self._held: dict[C, int] = {}  # the oldest first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def enter(self, connection: C) -> None:
        """It has begun."""
        self._held[connection] = 0
        self._make_room()

    def holds(self, connection: C, size: int) -> None:
        """It has said so many bytes so far. Nothing happens if it does not wait."""
        if connection in self._held:
            self._bytes += size - self._held[connection]
            self._held[connection] = size
            self._make_room()

    def leave(self, connection: C) -> None:
        """It is done, or gone. Nothing happens if it does not wait."""
        self._bytes -= self._held.pop(connection, 0)

    def close(self) -> None:
        """Nobody is waited for any more."""
        for connection in list(self._held):
            self.leave(connection)
            self._end(connection)

    def _make_room(self) -> None:
        while len(self._held) > self._connections_max or self._bytes > self._bytes_max:
            oldest = next(iter(self._held))
            self.leave(oldest)
            self._end(oldest)
