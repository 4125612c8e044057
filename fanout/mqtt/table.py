"""The sessions of a log's MQTT clients, as this node has read them: who has each name, and what is kept of it.

What counts is decided from the order of the log alone, so that all nodes that have read as far agree:

- A claim counts if it is of a newer generation than the one that counts, or says more of the same connection.
- A state counts unless it is of an older generation than the one that counts.
- That a state is taken back counts if it says that the session is over. Else it was meant for an earlier one, and is
  late; only that of a connection that then gives up its name was meant for this.
- Whoever takes a claim back may mean an earlier one, and be late: of a name with a session the claim is remembered, for
  its connection may have gone on with the session since it was written.

Of names, and of what their states take, an application may have more as long as it has less than is free: one alone has
half of all, and none shuts out the others.

States are kept as the bytes that they were read as. Belongs to the event loop.
"""

import sys
from collections import Counter
from itertools import islice
from math import inf
from typing import Final, NamedTuple

import msgspec
import orjson

from fanout.control import Fact
from fanout.mqtt.records import Claim, State
from fanout.transports.mqtt_ports import Name

__all__ = ["SESSIONS_MAX", "STATE_BYTES", "SessionTable"]

SESSIONS_MAX: Final = 200_000
"""Names that are claimed or have a session, on all nodes: 40 MiB beside their states. Past it nobody new is let in."""

STATE_BYTES: Final = 64 << 20
"""What all states take as JSON: 335 bytes for each of the most that there are. Past it no other session is kept, nor
more of one; those that there are go on."""

_decoder: Final = msgspec.json.Decoder(State)


class _Kept(NamedTuple):
    """A state, with what is looked at more often than the rest."""

    generation: int
    expires_ms: float
    text: bytes


class SessionTable:
    """See the module's text."""

    def __init__(self) -> None:
        self._claims: dict[Name, Claim] = {}
        self._former: dict[Name, Claim] = {}  # that were taken back, of names with a state
        self._of_nodes: dict[str, dict[Name, None]] = {}
        self._states: dict[Name, _Kept] = {}
        self._doubted: set[Name] = set()  # of connections whose state was taken back, perhaps by themselves
        self._of_apps: Counter[str] = Counter()  # bytes of states
        self._names: Counter[str] = Counter()  # of each application
        self._count = 0  # of all names
        self.bytes = 0
        """What the states take."""

    def __len__(self) -> int:
        return self._count

    @property
    def kept(self) -> int:
        """Sessions that outlive their connections."""
        return len(self._states)

    def has_place(self, name: Name) -> bool:
        """Whether another name of that one's application may be added."""
        return self._names[_app_of(name)] < SESSIONS_MAX - self._count

    def has_room(self, name: Name) -> bool:
        """Whether more may be kept of that name's application."""
        return self._of_apps[_app_of(name)] <= STATE_BYTES - self.bytes

    def claim(self, name: Name) -> Claim | None:
        """Who has the name."""
        return self._claims.get(name)

    def last_claim(self, name: Name) -> Claim | None:
        """Who has the name, or had it last: of one without a session that is not known."""
        return self._claims.get(name) or self._former.get(name)

    def nodes(self) -> list[str]:
        """The nodes that have names."""
        return list(self._of_nodes)

    def claims_of(self, node: str, most: int) -> list[tuple[Name, Claim]]:
        """Some of a node's claims, at most so many."""
        return [(name, self._claims[name]) for name in islice(self._of_nodes.get(node, ()), most)]

    def generation(self, name: Name) -> int:
        """The newest that is known of the name; 0 if none is."""
        claim, kept = self.last_claim(name), self._states.get(name)
        return max(claim.generation if claim else 0, kept.generation if kept else 0)

    def state(self, name: Name, now_ms: int) -> State | None:
        """The session of that name, unless it is over."""
        kept = self._states.get(name)
        return None if kept is None or kept.expires_ms <= now_ms else _decoder.decode(kept.text)

    def has_last_word(self, name: Name, generation: int) -> bool:
        """Whether the connection of that generation, or a later one, has said its last word of the session; also where
        there is no session.
        """
        kept = self._states.get(name)
        return kept is None or (kept.generation >= generation and kept.expires_ms != inf)

    def has_state(self, name: Name) -> bool:
        """Whether anything is kept of a session, over or not."""
        return name in self._states

    def left(self, name: Name) -> Fact:
        """What is kept of a session that has no connection and is not said to be over."""
        kept = self._states.get(name)
        return None if kept is None or kept.expires_ms in (0, inf) else orjson.loads(kept.text)

    def over(self, now_ms: int, most: int) -> list[Name]:
        """Some of those whose session is over but kept, at most so many."""
        found: list[Name] = []
        for name, kept in self._states.items():
            if kept.expires_ms <= now_ms:
                found.append(name)
                if len(found) == most:
                    break
        return found

    def heard_claim(self, name: Name, fact: Fact) -> bool:
        """A claim has been read, or its end; whether it counts."""
        if fact is None:
            claim = self._disclaim(name)
            if name in self._doubted:
                self._forget(name)
            elif claim is not None and name in self._states:
                self._former[name] = claim
            return True
        claim, counts = msgspec.convert(fact, Claim), self._claims.get(name)
        if counts is not None and claim.generation <= counts.generation and not _of_one(claim, counts):
            return False
        self._disclaim(name)
        self._former.pop(name, None)
        if name not in self._states:
            self._named(name, 1)
        # Its node's name is one object of all claims.
        self._claims[name] = msgspec.structs.replace(claim, node=sys.intern(claim.node))
        self._of_nodes.setdefault(claim.node, {})[name] = None
        return True

    def heard_state(self, name: Name, fact: Fact) -> bool:
        """A state has been read, or its end; whether it counts."""
        before = self._states.get(name)
        if fact is None:
            if before is not None and before.expires_ms > 0 and (before.expires_ms < inf or name in self._claims):
                if before.expires_ms == inf:
                    self._doubted.add(name)
                return False
            self._forget(name)
            self._former.pop(name, None)
            return True
        state = msgspec.convert(fact, State)
        if before is not None and state.generation < before.generation:
            return False
        self._forget(name)
        if name not in self._claims:
            self._named(name, 1)
        text = orjson.dumps(fact)
        self._states[name] = _Kept(state.generation, state.expires_ms(), text)
        self._grow(name, len(text))
        return True

    def _disclaim(self, name: Name) -> Claim | None:
        claim = self._claims.pop(name, None)
        if claim is not None:
            names = self._of_nodes[claim.node]
            del names[name]
            if not names:
                del self._of_nodes[claim.node]
            if name not in self._states:
                self._named(name, -1)
        return claim

    def _forget(self, name: Name) -> None:
        self._doubted.discard(name)
        kept = self._states.pop(name, None)
        if kept is not None:
            self._grow(name, -len(kept.text))
            if name not in self._claims:
                self._named(name, -1)

    def _named(self, name: Name, by: int) -> None:
        app = _app_of(name)
        self._count += by
        self._names[app] += by
        if not self._names[app]:
            del self._names[app]

    def _grow(self, name: Name, size: int) -> None:
        app = _app_of(name)
        self.bytes += size
        self._of_apps[app] += size
        if not self._of_apps[app]:
            del self._of_apps[app]


def _app_of(name: Name) -> str:
    return name.owner.partition(":")[0]


def _of_one(claim: Claim, other: Claim) -> bool:
    """Whether both are of one connection."""
    return (claim.generation, claim.node, claim.life) == (other.generation, other.node, other.life)
