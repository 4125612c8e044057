"""How long a node lets clients in, and listens to them, in one turn of the loop.

A frame of 1000 messages costs the loop 4 ms; ten thousand who come at once cost it 2 s. Clients that send much would
each add theirs to the same turn, newcomers too, and everybody else would wait for all of them. So once a turn has taken
`TURN_S`, whoever comes later stands in line and is dealt with in a later turn, in the order of arrival: those whom a
listener accepts, requests and opening handshakes, those who were held, and what clients say. One of these is always
done whole: a turn takes `TURN_S` and the time of one of them at most. Listeners stand in the same line, so that
no more are accepted than can be let in.

Whoever still stands in line at the end of that leaves the core to others first: where a node has one, these are the
threads that carry messages, behind whom those who come may wait.

Who only asks whether the node is there need not stand in line for that: beyond its time a turn hears one brief message
each of `BRIEF_MAX` clients.

Belongs to the event loop.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, Protocol

from fanout._core import give_way

__all__ = ["BRIEF_BYTES", "BRIEF_MAX", "TURN_S", "Caller", "Turns"]

TURN_S: Final = 0.002
BRIEF_MAX: Final = 32  # at 20 µs each
BRIEF_BYTES: Final = 131
"""A message that is no longer is brief: as long as a WebSocket's PING with its head may be (RFC 6455 §5.5)."""


class Caller(Protocol):
    """Who wants the loop's time: a client that has something to say, or a listener to whom clients come."""

    def go_on(self) -> None:
        """Uses it, asking `Turns.take` before each message or newcomer. Does nothing if there is none any more."""


class Turns:
    """The time that those who come and those who speak share."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` reads seconds that never go back."""
        self._clock = clock
        self._until: float | None = None  # None: nobody had any of this turn yet
        self._line: OrderedDict[Caller, None] = OrderedDict()  # everybody once: bounded by the connections
        self._calling = False
        self._brief: set[Caller] = set()  # who were heard beyond the turn's time

    def take(self, caller: Caller, *, brief: bool) -> bool:
        """Whether one message, a brief one or any, or one newcomer may be dealt with now. If not, `go_on` is called in
        a later turn.
        """
        now = self._clock()
        if self._until is None:
            self._until = now + TURN_S
            asyncio.get_running_loop().call_soon(self._turn)
            return True
        if now < self._until and (self._calling or not self._line):
            return True
        if brief and self._may_be_brief(caller):
            self._brief.add(caller)
            return True
        self._line[caller] = None
        return False

    def _may_be_brief(self, caller: Caller) -> bool:
        if self._calling or caller in self._line:  # the others in line come first, or what this one said before
            return False
        return caller not in self._brief and len(self._brief) < BRIEF_MAX

    def _turn(self) -> None:
        """A new turn of the loop: goes on with those who stand in line."""
        self._until = None
        self._brief.clear()
        self._calling = True
        try:
            while self._line and (self._until is None or self._clock() < self._until):
                caller, _ = self._line.popitem(last=False)
                caller.go_on()
        finally:
            self._calling = False
            if self._line:
                give_way()
            if self._line and self._until is None:  # one raised: the others are heard all the same
                asyncio.get_running_loop().call_soon(self._turn)
