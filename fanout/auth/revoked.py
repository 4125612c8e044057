"""Tokens that were taken back before their time (Ably protocol, "Revocation").

A fact says of one key's tokens: those of a target that were issued before a moment count no more, from another moment
on. A target is `clientId:` or `revocationKey:` and that, or `channel:` and a resource which the token's capability
names. Such tokens live for an hour at most, so a fact can be forgotten an hour after its moment.

No I/O; belongs to the event loop.
"""

import heapq
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
    """The facts that a node knows."""

    def __init__(self) -> None:
        self._facts: dict[str, dict[str, Fact]] = {}  # by key name, then by target
        self._ending: list[tuple[int, str, str]] = []  # a heap; a fact that was replaced leaves its old entry behind

    def __len__(self) -> int:
        """Facts known."""
        return sum(map(len, self._facts.values()))

    def learn(self, fact: Fact) -> None:
        """Takes a fact. Of two about the same target the one that says more counts."""
        known = self._facts.setdefault(fact.key_name, {})
        before = known.get(fact.target)
        if before is not None and before.issued_before > fact.issued_before:
            return
        known[fact.target] = fact
        heapq.heappush(self._ending, (fact.ends, fact.key_name, fact.target))
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

    def forget(self, key_name: str, target: str) -> None:
        """Another node says that the fact is over."""
        targets = self._facts.get(key_name, {})
        targets.pop(target, None)
        if not targets:
            self._facts.pop(key_name, None)

    def find(self, identity: Identity) -> Fact | None:
        """The first fact that takes back what `identity` was shown with, whether it applies already or not."""
        targets = self._facts.get(identity.key_name)
        if not targets or identity.issued is None:
            return None
        for target in _targets(identity):
            fact = targets.get(target)
            if fact is not None and identity.issued < fact.issued_before:
                return fact
        return None

    def _drop(self) -> Fact | None:
        ends, key_name, target = heapq.heappop(self._ending)
        fact = self._facts.get(key_name, {}).get(target)
        if fact is None or fact.ends != ends:
            return None
        self.forget(key_name, target)
        return fact


def _targets(identity: Identity) -> list[str]:
    targets = [f"channel:{resource}" for resource in identity.capability]
    if identity.client_id is not None:
        targets.append(f"clientId:{identity.client_id}")
    if identity.revocation_key is not None:
        targets.append(f"revocationKey:{identity.revocation_key}")
    return targets
