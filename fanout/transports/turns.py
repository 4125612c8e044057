"""How long a node listens to its clients in one turn of the loop.

A frame of 1000 messages costs the loop 4 ms. Clients that send much at once would each add theirs to the same turn, and
everybody else would wait for all of them. So once a turn has listened for `TURN_S`, whoever comes later stands in line
and is heard in a later turn, in the order of arrival. One message is always heard whole: a turn takes `TURN_S` and the
time of one message at most.

Who only asks whether the node is there need not stand in line for that: beyond its time a turn hears one brief message
each of `BRIEF_MAX` clients.

Belongs to the event loop.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

__all__ = ["BRIEF_BYTES", "BRIEF_MAX", "TURN_S", "Speaker", "Turns"]

TURN_S: Final = 0.002
BRIEF_MAX: Final = 32  # at 20 µs each
BRIEF_BYTES: Final = 131
"""A message that is no longer is brief: as long as a WebSocket's PING with its head may be (RFC 6455 §5.5)."""


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
        self._brief: set[Speaker] = set()  # who were heard beyond the turn's time

    def take(self, speaker: Speaker, *, brief: bool) -> bool:
        """Whether a message, a brief one or any, may be heard of this client now. If not, its `go_on` is called in a
        later turn.
        """
        now = self._clock()
        if self._until is None:
            self._until = now + TURN_S
            asyncio.get_running_loop().call_soon(self._turn)
            return True
        if now < self._until and (self._calling or not self._line):
            return True
        if brief and self._may_be_brief(speaker):
            self._brief.add(speaker)
            return True
        self._line[speaker] = None
        return False

    def _may_be_brief(self, speaker: Speaker) -> bool:
        if self._calling or speaker in self._line:  # the others in line come first, or what this one said before
            return False
        return speaker not in self._brief and len(self._brief) < BRIEF_MAX

    def _turn(self) -> None:
        """A new turn of the loop: goes on with those who stand in line."""
        self._until = None
        self._brief.clear()
        self._calling = True
        try:
            while self._line and (self._until is None or self._clock() < self._until):
                speaker, _ = self._line.popitem(last=False)
                speaker.go_on()
        finally:
            self._calling = False
            if self._line and self._until is None:  # one raised: the others are heard all the same
                asyncio.get_running_loop().call_soon(self._turn)
