"""What the loop itself writes of the engine's bytes: a bounded time of each turn, everybody a piece in turn.

A connection over TLS is written by the loop, since that encrypts. A message to ten thousand of them would hold it for
a tenth of a second; so once a turn has written for `TURN_S`, the others go on in a later turn.

Belongs to the event loop.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["Outgoing", "Writer"]

TURN_S: Final = 0.002


class Writer(Protocol):
    """A connection whose outgoing bytes wait in the engine for the loop to take them."""

    def write_some(self) -> bool:
        """Takes a piece and sends it on; whether there may be more that can be sent on now."""


class Outgoing:
    """The connections of one loop that have something to write."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` reads seconds that never go back."""
        self._clock = clock
        self._waiting: dict[Writer, None] = {}  # everybody once: bounded by the number of connections
        self._called = False

    def add(self, writer: Writer) -> None:
        """Has the connection written, behind all that wait."""
        self._waiting[writer] = None
        if not self._called:
            self._called = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._called = False
        until = self._clock() + TURN_S
        try:
            while self._waiting and self._clock() < until:
                writer = next(iter(self._waiting))
                del self._waiting[writer]
                if writer.write_some():
                    self._waiting[writer] = None
        finally:  # one that raises must not keep the others waiting
            if self._waiting and not self._called:
                self._called = True
                asyncio.get_running_loop().call_soon(self._turn)
