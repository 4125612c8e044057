"""Since where topics are read for clients: nodes remember it in the log, a fact for each rule, `rule:<its topics>`.

A client that comes back with a position has what came meanwhile, also of partitions that its position does not name:
those are younger than it. But of a topic that was there before there was a rule for it the position does not speak
either, and what it had then was never meant for anybody. So the first node that has a rule remembers how far it had
read the topics that are there when it was ready. Those that come later under the same rule count from their beginning,
and so do the partitions that are added. So does one that was there and that nobody led at that moment, though it had
something before: how far it reached then nobody can say later, and nothing that came since may be left out.

A node that starts without a rule takes its fact back: should the rule come again, it is new. While nodes of one log
have different rules, who goes from one to another may be given again what only one of them reads.
"""

import asyncio
import threading
from collections.abc import Callable, Collection
from typing import Final

from msgspec import convert

from fanout.control import Control, Fact
from fanout.errors import SourceError

__all__ = ["Since"]

KIND: Final = "rule"
RULES_MAX: Final = 10_000  # of which facts are remembered: ten times what one node may have
AGAIN_S: Final = 1.0  # until what the log did not take is told again

_Starts = dict[str, list[int]]  # by a topic's id, of each of its partitions


class Since:
    """Belongs to the event loop, but for `began`."""

    def __init__(
        self,
        control: Control,
        rules: Collection[str],
        rule_of: Callable[[str], str | None],
        read: Callable[[str, int], int],
        take: Callable[[str, bytes, list[int]], None],
    ) -> None:
        """`rules` are the topics of each, as the rule names them, and `rule_of` says which of them a topic falls under;
        `read` says how far a partition has been read, and `take` is told since where those of a topic are read for
        clients. All are called from any thread.
        """
        self._control = control
        self._rules = frozenset(rules)
        self._rule_of = rule_of
        self._read = read
        self._take = take
        self._lock = threading.Lock()
        self._begun: dict[str, tuple[bytes, set[int]]] = {}  # by topic: its id, and its partitions that are read
        self._known: dict[str, _Starts] = {}  # by rule
        self._untold: dict[str, Fact] = {}
        control.listen(KIND, self._heard)

    def began(self, topic: str, topic_id: bytes, partition: int) -> None:
        """Reading of a partition begins. From any thread."""
        with self._lock:
            known, partitions = self._begun.get(topic, (topic_id, set[int]()))
            self._begun[topic] = (topic_id, (partitions if known == topic_id else set()) | {partition})
            self._apply(topic)

    def settle(self) -> None:
        """What the log says of rules is read: remembers it of those that it says nothing of."""
        with self._lock:
            new, gone = self._rules - self._known.keys(), self._known.keys() - self._rules
            self._known |= {rule: self._starts_of(rule) for rule in new}
            for topic in self._begun:
                self._apply(topic)
        for rule in new:
            self._tell(rule, {"since": self._known[rule]})
        for rule in gone:
            self._tell(rule, None)

    async def run(self, ready: asyncio.Event) -> None:
        """Tells what the log did not take, until cancelled."""
        await ready.wait()
        while True:
            await asyncio.sleep(AGAIN_S)
            untold, self._untold = self._untold, {}
            for rule, fact in untold.items():
                self._tell(rule, fact)

    def _starts_of(self, rule: str) -> _Starts:
        return {
            topic_id.hex(): [self._read(topic, number) if number in begun else 0 for number in range(max(begun) + 1)]
            for topic, (topic_id, begun) in self._begun.items()
            if self._rule_of(topic) == rule
        }

    def _apply(self, topic: str) -> None:
        topic_id, _ = self._begun[topic]
        starts = self._known.get(self._rule_of(topic) or "", {}).get(topic_id.hex())
        if starts is not None:
            self._take(topic, topic_id, starts)

    def _tell(self, rule: str, fact: Fact) -> None:
        def told(problem: SourceError | None) -> None:
            if problem is not None:
                self._untold[rule] = fact

        self._control.tell(KIND, rule, fact, told)

    def _heard(self, rule: str, fact: Fact) -> None:
        with self._lock:
            if fact is None:
                self._known.pop(rule, None)
            elif rule in self._known or len(self._known) < RULES_MAX:
                self._known[rule] = convert(fact.get("since"), _Starts)
