"""When what clients were let in with ends: they are asked for something newer, and sent away without it.

- A client whose credential expires is asked 30 s before (AUTH), if it was let in earlier than that, and sent away when
  it expires: 40142. Its connection can be resumed with a newer one.
- A credential that is revoked ends at the moment the revocation says, 40141; if that is yet to come the client is
  asked at once.

Keys have no end, so only clients with tokens are known here: each once, with one entry in a heap for all of them and
one timer for the heap. Belongs to the event loop.
"""

import asyncio
import heapq
import logging
from collections.abc import Callable
from itertools import count
from typing import Final, NamedTuple, Protocol

from fanout.auth.revoked import Revoked
from fanout.errors import ErrorInfo, error
from fanout.types import Identity

__all__ = ["ASK_BEFORE_MS", "Client", "Terms"]

log = logging.getLogger(__name__)

ASK_BEFORE_MS: Final = 30_000

REVIEWED_PER_TURN: Final = 200
"""Clients compared with what was revoked, in one turn of the loop: some 0.5 ms."""

DUE_PER_TURN: Final = 50
"""Clients asked or sent away in one turn of the loop: some 2 ms. Tokens made at once end at once."""


class Client(Protocol):
    """A connection whose credential ends."""

    def ask_for_token(self) -> None:
        """Asks for a newer credential."""

    def unauthorized(self, reason: ErrorInfo, /) -> None:
        """Sends the client away."""


class _Term(NamedTuple):
    """What happens next to a client, and when. `number` tells which of two entries is the newer."""

    due_ms: int
    number: int
    client: Client
    identity: Identity
    ends_ms: int
    reason: ErrorInfo


class Terms:
    """The terms of a node's clients."""

    def __init__(self, revoked: Revoked, clock: Callable[[], int]) -> None:
        """`clock` reads the time in ms."""
        self._revoked = revoked
        self._clock = clock
        self._numbers = count()
        self._terms: dict[Client, _Term] = {}
        self._heap: list[_Term] = []  # entries that do not count any more are left behind, half of it at most
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0
        self._reviewing: asyncio.Task[None] | None = None
        self._again = False

    def __len__(self) -> int:
        """Clients whose credential ends."""
        return len(self._terms)

    def begin(self, client: Client, identity: Identity) -> None:
        """A client was let in, or has shown something newer. It may be sent away before this returns."""
        if identity.expires is None:
            self.end(client)
            return
        expires, now_ms = identity.expires, self._clock()
        ask_ms = expires - ASK_BEFORE_MS
        self._put(client, identity, ask_ms if ask_ms > now_ms else expires, expires, _EXPIRED)
        self._apply(client, identity)

    def end(self, client: Client) -> None:
        """The client is gone. Nothing happens if it is not known."""
        self._terms.pop(client, None)

    def review(self) -> None:
        """More was revoked: looks at everybody, a few in each turn of the loop."""
        self._again = True
        if self._terms and (self._reviewing is None or self._reviewing.done()):
            self._reviewing = asyncio.get_running_loop().create_task(self._review())

    def close(self) -> None:
        """Nothing happens any more."""
        self._terms.clear()
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
        if self._reviewing is not None:
            self._reviewing.cancel()

    async def _review(self) -> None:
        while self._again:
            self._again = False
            for number, (client, term) in enumerate(list(self._terms.items())):
                if number % REVIEWED_PER_TURN == REVIEWED_PER_TURN - 1:
                    await asyncio.sleep(0)
                if self._terms.get(client) is not term:
                    continue
                try:
                    self._apply(client, term.identity)
                except Exception:  # of one client's: the others are looked at all the same
                    log.exception("a client whose credential was revoked could not be asked for another")

    def _apply(self, client: Client, identity: Identity) -> None:
        """Ends the term early if its credential was revoked."""
        fact, term = self._revoked.find(identity), self._terms[client]
        if fact is None or fact.applies_at >= term.ends_ms:
            return
        self._put(client, identity, fact.applies_at, fact.applies_at, _REVOKED)
        if fact.applies_at > self._clock():
            client.ask_for_token()

    def _put(self, client: Client, identity: Identity, due_ms: int, ends_ms: int, reason: ErrorInfo) -> None:
        term = _Term(due_ms, next(self._numbers), client, identity, ends_ms, reason)
        self._terms[client] = term
        heapq.heappush(self._heap, term)
        if len(self._heap) > 2 * len(self._terms) + 64:
            self._heap = list(self._terms.values())
            heapq.heapify(self._heap)
        self._set_timer()

    def _set_timer(self) -> None:
        """The timer stands for the earliest entry."""
        if not self._heap or (self._timer is not None and self._timer_ms <= self._heap[0].due_ms):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = self._heap[0].due_ms
        delay_s = min(max(0, self._timer_ms - self._clock()) / 1_000, _LONGEST_TIMER_S)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._due)

    def _due(self) -> None:
        self._timer = None
        now_ms = self._clock()
        try:
            for _ in range(DUE_PER_TURN):  # if more are due, the timer is set again for at once
                if not self._heap or self._heap[0].due_ms > now_ms:
                    break
                term = heapq.heappop(self._heap)
                if self._terms.get(term.client) is not term:
                    continue
                if now_ms < term.ends_ms:
                    self._put(term.client, term.identity, term.ends_ms, term.ends_ms, term.reason)
                    term.client.ask_for_token()
                else:
                    self.end(term.client)
                    term.client.unauthorized(term.reason)
        finally:  # one that raises must not keep the others from their ends
            self._set_timer()


_EXPIRED: Final = error(40142)
_REVOKED: Final = error(40141)
_LONGEST_TIMER_S: Final = 86_400.0  # loops take no timer for a year; after a day it is set again
