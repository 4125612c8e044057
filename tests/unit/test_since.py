"""Since where topics are read for clients: the first node that has a rule says it, and all others go by that."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from fanout import since as module
from fanout.control import Fact
from fanout.errors import SourceError
from fanout.since import Since

ONE, OTHER = bytes([1] * 16), bytes([2] * 16)


class Facts:
    """The log's newest fact of each rule, given to all nodes."""

    def __init__(self) -> None:
        self.told: dict[str, Fact] = {}
        self.nodes: list[Callable[[str, Fact], None]] = []
        self.is_away = False

    def listen(self, kind: str, take: Callable[[str, Fact], None]) -> None:
        assert kind == "rule"
        self.nodes.append(take)
        for name, fact in self.told.items():
            take(name, fact)

    def tell(self, kind: str, name: str, value: Fact, done: Callable[[SourceError | None], None]) -> None:
        assert kind == "rule"
        if self.is_away:
            done(SourceError("away"))
            return
        if value is None:
            self.told.pop(name, None)
        else:
            self.told[name] = value
        for take in self.nodes:
            take(name, value)
        done(None)


class Node:
    """A node with these rules, and what its engine was told, by topic."""

    def __init__(self, facts: Facts, *rules: str) -> None:
        self.told: dict[str, tuple[bytes, list[int]]] = {}
        self.read: dict[tuple[str, int], int] = {}
        rule_of = {rule[0]: rule for rule in rules}
        self.since = Since(
            cast("Any", facts), rules, lambda topic: rule_of.get(topic[0]), lambda *where: self.read[where], self._take
        )

    def reads(self, topic: str, topic_id: bytes, partition: int, up_to: int) -> None:
        """Has read a partition that far."""
        self.since.began(topic, topic_id, partition)
        self.read[topic, partition] = up_to

    def _take(self, topic: str, topic_id: bytes, since: list[int]) -> None:
        self.told[topic] = (topic_id, since)


@pytest.fixture
def facts() -> Facts:
    return Facts()


def test_a_topic_that_is_older_than_its_rule_is_read_from_where_the_first_node_began(facts: Facts) -> None:
    first, second = Node(facts, "a"), Node(facts, "a")
    first.reads("a1", ONE, 1, 70)
    first.reads("a1", ONE, 0, 50)
    first.since.settle()
    second.reads("a1", ONE, 0, 90)
    second.since.settle()
    assert first.told == second.told == {"a1": (ONE, [50, 70])}


def test_a_topic_that_comes_later_under_the_rule_is_read_from_its_beginning(facts: Facts) -> None:
    Node(facts, "a").since.settle()
    later = Node(facts, "a")
    later.reads("a1", ONE, 0, 90)  # it came, and grew, while there was no node
    later.since.settle()
    assert later.told == {}


def test_a_partition_that_begins_again_further_on_changes_nothing(facts: Facts) -> None:
    node = Node(facts, "a")
    node.reads("a1", ONE, 0, 50)
    node.since.settle()
    node.reads("a1", ONE, 0, 90)
    assert node.told == {"a1": (ONE, [50])}


def test_a_topic_that_is_made_anew_is_another_one(facts: Facts) -> None:
    node = Node(facts, "a")
    node.reads("a1", ONE, 0, 50)
    node.since.settle()
    node.told.clear()
    node.reads("a1", OTHER, 0, 0)
    assert node.told == {}


def test_a_partition_that_begins_late_goes_by_what_the_log_says(facts: Facts) -> None:
    first = Node(facts, "a")
    first.reads("a1", ONE, 0, 50)
    first.since.settle()
    late = Node(facts, "a")
    late.since.settle()
    late.reads("a1", ONE, 0, 90)
    assert late.told == {"a1": (ONE, [50])}


def test_a_partition_that_nobody_led_when_the_rule_came_counts_from_its_beginning(facts: Facts) -> None:
    first = Node(facts, "a")
    first.reads("a1", ONE, 1, 70)
    first.since.settle()
    for node in (first, Node(facts, "a")):
        node.reads("a1", ONE, 0, 50)
        assert node.told == {"a1": (ONE, [0, 70])}, "how far it reached then is not known: nothing is left out"


def test_a_rule_that_was_taken_out_is_new_when_it_comes_again(facts: Facts) -> None:
    first = Node(facts, "a", "b")
    first.reads("b1", ONE, 0, 50)
    first.since.settle()
    Node(facts, "a").since.settle()
    again = Node(facts, "a", "b")
    again.reads("b1", ONE, 0, 90)
    again.since.settle()
    assert again.told == {"b1": (ONE, [90])}
    assert set(facts.told) == {"a", "b"}


def test_a_topic_of_no_rule_is_none_of_its_business(facts: Facts) -> None:
    node = Node(facts, "a")
    node.reads("x1", ONE, 0, 50)
    node.since.settle()
    assert node.told == {}
    assert facts.told == {"a": {"since": {}}}


async def test_what_the_log_does_not_take_is_told_again(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AGAIN_S", 0.001)
    node = Node(facts, "a")
    facts.is_away = True
    node.since.settle()
    ready = asyncio.Event()
    ready.set()
    running = asyncio.ensure_future(node.since.run(ready))
    await asyncio.sleep(0.02)
    assert facts.told == {}
    facts.is_away = False
    while not facts.told:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    running.cancel()


def test_so_many_rules_are_remembered_and_no_more(facts: Facts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RULES_MAX", 3)
    facts.told = {f"other-{number}": {"since": {}} for number in range(5)}
    node = Node(facts)
    node.since.settle()
    assert len(facts.told) == 2  # the other three were known, and are taken back
