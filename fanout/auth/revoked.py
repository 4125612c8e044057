"""Tokens that were taken back before their time (Ably protocol, "Revocation").

A fact says of one key's tokens: those of a target that were issued before a moment count no more, from another moment
on. A target is `clientId:` or `revocationKey:` and that, or `channel:` and a resource which the token's capability
names. Such tokens live for an hour at most, so a fact can be forgotten an hour after its moment.

No I/O; belongs to the event loop.
"""

import heapq
from bisect import bisect_left, bisect_right
from typing import Final, NamedTuple

from fanout.auth.token_requests import HOUR_MS
from fanout.types import Identity

__all__ = ["FACTS_MAX", "TARGET_KINDS", "Fact", "Revoked"]

TARGET_KINDS: Final = ("clientId", "revocationKey", "channel")

FACTS_MAX: Final = 100_000
"""Facts that count at once, at some 500 bytes each. Past it the one that ends first is forgotten."""


class Fact(NamedTuple):
    """Tokens of `key_name` for `target` that were issued before `issued_before` count no more from `applies_at` on.

    Times are in ms.
    """

    key_name: str
    target: str
    issued_before: int
    applies_at: int

    @property
    def ends(self) -> int:
        """When no token is left that it could be about."""
        return max(self.issued_before + HOUR_MS, self.applies_at)


class Revoked:
    """The facts that a node knows. None replaces another: what one took back stays so, whatever comes after it."""

    def __init__(self) -> None:
        self._known: set[Fact] = set()
        self._ending: list[tuple[int, Fact]] = []  # a heap; a fact that was forgotten leaves its entry behind
        # By key name, then by target, the facts of which none says more: later moments that apply later, in order.
        self._telling: dict[str, dict[str, list[Fact]]] = {}

    def __len__(self) -> int:
        """Facts known."""
        return len(self._known)

    def learn(self, fact: Fact) -> None:
        """Takes a fact. Past `FACTS_MAX` the one that ends first is forgotten."""
        if fact in self._known:
            return
        self._known.add(fact)
        heapq.heappush(self._ending, (fact.ends, fact))
        _insert(self._telling.setdefault(fact.key_name, {}).setdefault(fact.target, []), fact)
        while len(self._ending) > FACTS_MAX:
            self._drop()

    def ended(self, now_ms: int, limit: int) -> list[Fact]:
        """Forgets the facts that are about no token any more, and returns them; at most `limit`."""
        dropped: list[Fact] = []
        while self._ending and self._ending[0][0] <= now_ms and len(dropped) < limit:
            fact = self._drop()
            if fact is not None:
                dropped.append(fact)
        return dropped

    def forget(self, fact: Fact) -> None:
        """Another node says that the fact is over. One that says less has ended before, so none is missed now."""
        if fact not in self._known:
            return
        self._known.remove(fact)
        targets = self._telling[fact.key_name]
        facts = targets.get(fact.target, [])
        if fact in facts:
            facts.remove(fact)
        if not facts:
            targets.pop(fact.target, None)
        if not targets:
            self._telling.pop(fact.key_name)

    def find(self, identity: Identity) -> Fact | None:
        """The fact that takes back what `identity` was shown with; of several the one that applies first, or will."""
        targets = self._telling.get(identity.key_name)
        if not targets or identity.issued is None:
            return None
        found: Fact | None = None
        for target in _targets(identity):
            facts = targets.get(target, ())
            at = bisect_right(facts, identity.issued, key=_moment)
            if at < len(facts) and (found is None or facts[at].applies_at < found.applies_at):
                found = facts[at]
        return found

    def _drop(self) -> Fact | None:
        _, fact = heapq.heappop(self._ending)
        if fact not in self._known:
            return None
        self.forget(fact)
        return fact


def _insert(facts: list[Fact], fact: Fact) -> None:
    """Puts a fact in its place and drops those that say less, unless another says more.

    That is: its moment is as late or later, and it applies as early or earlier.
    """
    at = bisect_left(facts, fact.issued_before, key=_moment)
    if at < len(facts) and facts[at].applies_at <= fact.applies_at:
        return
    end = at + 1 if at < len(facts) and facts[at].issued_before == fact.issued_before else at
    while at and facts[at - 1].applies_at >= fact.applies_at:
        at -= 1
    facts[at:end] = [fact]


def _moment(fact: Fact) -> int:
    return fact.issued_before


def _targets(identity: Identity) -> list[str]:
    targets = [f"channel:{resource}" for resource in identity.capability]
    if identity.client_id is not None:
        targets.append(f"clientId:{identity.client_id}")
    if identity.revocation_key is not None:
        targets.append(f"revocationKey:{identity.revocation_key}")
    return targets
