"""MQTT connections that are not let in yet: few of them, with few bytes, for a short time.

One that has not said a whole CONNECT after 5 s is cut; when there are too many of them, or all together have said too
much, the oldest makes room. Belongs to the event loop.
"""

from typing import Final, Protocol

__all__ = ["BYTES_MAX", "CONNECTIONS_MAX", "SECONDS", "Waiting"]

CONNECTIONS_MAX: Final = 10_000
BYTES_MAX: Final = 16 << 20
SECONDS: Final = 5.0


class _Connection(Protocol):
    def cut(self) -> None:
        """Ends it at once."""


class Waiting:
    """Those of one node."""

    def __init__(self) -> None:
        self._held: dict[_Connection, int] = {}  # the oldest first
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._held)

    def enter(self, connection: _Connection) -> None:
        """It has come."""
        self._held[connection] = 0
        self._make_room()

    def holds(self, connection: _Connection, size: int) -> None:
        """It has said so many bytes so far. Nothing happens if it does not wait."""
        if connection in self._held:
            self._bytes += size - self._held[connection]
            self._held[connection] = size
            self._make_room()

    def leave(self, connection: _Connection) -> None:
        """It is let in, or gone. Nothing happens if it does not wait."""
        self._bytes -= self._held.pop(connection, 0)

    def close(self) -> None:
        """Nobody is let in any more."""
        for connection in list(self._held):
            self.leave(connection)
            connection.cut()

    def _make_room(self) -> None:
        while len(self._held) > CONNECTIONS_MAX or self._bytes > BYTES_MAX:
            oldest = next(iter(self._held))
            self.leave(oldest)
            oldest.cut()
