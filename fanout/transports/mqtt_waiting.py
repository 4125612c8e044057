"""MQTT connections that are not let in yet: few of them, with few bytes, for a short time.

One that has not said a whole CONNECT after 5 s is cut; when there are too many of them, or all together have said too
much, the oldest makes room. Belongs to the event loop.
"""

from typing import Final, Protocol

from fanout.transports.waiting import Waiting

__all__ = ["BYTES_MAX", "CONNECTIONS_MAX", "SECONDS", "Connection", "not_let_in"]

CONNECTIONS_MAX: Final = 10_000
BYTES_MAX: Final = 16 << 20
SECONDS: Final = 5.0


class Connection(Protocol):
    """One of them."""

    def cut(self) -> None:
        """Ends it at once."""


def not_let_in() -> Waiting[Connection]:
    """Those of one node."""
    return Waiting(BYTES_MAX, lambda connection: connection.cut(), CONNECTIONS_MAX)
