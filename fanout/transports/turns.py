"""How long a node listens to its clients in one turn of the loop.

A frame of 1000 messages costs the loop 4 ms. Clients that send much at once would each add theirs to the same turn, and
everybody else would wait for all of them. So once a turn has listened for `TURN_S`, whoever comes later stands in line
and is heard in a later turn, in the order of arrival. One message is always heard whole: a turn takes `TURN_S` and the
time of one message at most.

Belongs to the event loop.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["Speaker", "Turns"]

TURN_S: Final = 0.002


class Speaker(Protocol):
    """A client that has something to say."""

    def go_on(self) -> None:
        """Says it, asking `Turns.take` before each message. Does nothing if it has nothing to say any more."""


class Turns:
    """The time that one loop's clients share."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` reads seconds that never go back."""
        self._clock = clock
        self._until: float | None = None  # None: nobody was heard in this turn yet
        self._line: OrderedDict[Speaker, None] = OrderedDict()  # everybody once: bounded by the number of connections
        self._calling = False

    def take(self, speaker: Speaker) -> bool:
        """Whether a message of this client may be heard now. If not, its `go_on` is called in a later turn."""
        now = self._clock()
        if self._until is None:
            self._until = now + TURN_S
            asyncio.get_running_loop().call_soon(self._turn)
            return True
        if now < self._until and (self._calling or not self._line):
            return True
        self._line[speaker] = None
        return False

    def _turn(self) -> None:
        """A new turn of the loop: goes on with those who stand in line."""
        self._until = None
        self._calling = True
        try:
            while self._line and (self._until is None or self._clock() < self._until):
                speaker, _ = self._line.popitem(last=False)
                speaker.go_on()
        finally:
            self._calling = False
            if self._line and self._until is None:  # one raised: the others are heard all the same
                asyncio.get_running_loop().call_soon(self._turn)
