"""Numbers of partitions as facts: what a node has seen every node comes to know, and none takes another's place."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from fanout import counted as module
from fanout.control import Fact
from fanout.counted import COUNTS_MAX, Counted

OLD, NEW = bytes(16), bytes([1] * 16)


class Facts:
    """The log's newest fact of each name, given to all nodes."""

    def __init__(self) -> None:
        self.told: dict[str, Fact] = {}
        self.nodes: list[Callable[[str, Fact], None]] = []

    def listen(self, kind: str, take: Callable[[str, Fact], None]) -> None:
        assert kind == "partitions"
        self.nodes.append(take)
        for name, fact in self.told.items():
            take(name, fact)

    def tell(self, kind: str, name: str, value: Fact) -> None:
        self.told[name] = value
        for take in self.nodes:
            take(name, value)


class Node:
    """A node, and the numbers that its engine was told, by the topic's id."""

    def __init__(self, facts: Facts) -> None:
        self.known: dict[bytes, set[int]] = {}
        self.counted = Counted(cast("Any", facts), self._take, lambda topic: topic == "certain")
        self.ready = asyncio.Event()
        self.ready.set()

    def _take(self, topic: str, topic_id: bytes, count: int) -> None:
        self.known.setdefault(topic_id, set()).add(count)

    async def tells(self) -> None:
        """Has had the time to tell what nobody has told."""
        telling = asyncio.ensure_future(self.counted.run(self.ready))
        await asyncio.sleep(0.05)
        telling.cancel()


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TELL_S", 0.01)


async def test_a_node_that_starts_after_a_topic_has_grown_knows_the_former_number() -> None:
    facts = Facts()
    early = Node(facts)
    early.counted.topic("certain", OLD, 4)
    await early.tells()
    early.counted.topic("certain", OLD, 8)
    await early.tells()
    assert facts.told == {OLD.hex(): {"topic": "certain", "counts": [4, 8]}}
    late = Node(facts)
    late.counted.topic("certain", OLD, 8)
    await late.tells()
    assert late.known == {OLD: {4, 8}}


async def test_what_another_nodes_fact_lacks_is_told_again() -> None:
    facts = Facts()
    one = Node(facts)
    one.counted.topic("certain", OLD, 4)
    await one.tells()
    facts.tell("partitions", OLD.hex(), {"topic": "certain", "counts": [8]})
    await one.tells()
    assert facts.told[OLD.hex()] == {"topic": "certain", "counts": [4, 8]}
    assert one.known == {OLD: {4, 8}}


async def test_numbers_of_a_topic_that_was_made_anew_are_not_its_own() -> None:
    facts = Facts()
    node = Node(facts)
    node.counted.topic("certain", OLD, 4)
    await node.tells()
    node.counted.topic("certain", NEW, 6)
    facts.tell("partitions", OLD.hex(), {"topic": "certain", "counts": [3]})
    await node.tells()
    assert node.known == {OLD: {4}, NEW: {6}}


async def test_of_topics_that_tell_nothing_by_their_keys_nothing_is_told() -> None:
    facts = Facts()
    node = Node(facts)
    node.counted.topic("any", OLD, 4)
    await node.tells()
    assert (facts.told, node.known) == ({}, {OLD: {4}})


@pytest.mark.parametrize("fact", [{}, {"counts": "4"}, {"counts": [0]}, {"counts": ["4"]}, {"counts": [1 << 40]}, None])
async def test_what_is_no_number_says_nothing(fact: Fact) -> None:
    facts = Facts()
    node = Node(facts)
    node.counted.topic("certain", OLD, 4)
    await asyncio.sleep(0)
    facts.tell("partitions", OLD.hex(), fact)
    assert node.known == {OLD: {4}}


async def test_so_many_numbers_are_kept_and_the_highest_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TOPICS_MAX", 1)
    facts = Facts()
    node = Node(facts)
    for count in range(1, COUNTS_MAX + 3):
        node.counted.topic("certain", OLD, count)
    await node.tells()
    assert facts.told == {OLD.hex(): {"topic": "certain", "counts": list(range(3, COUNTS_MAX + 3))}}
    facts.tell("partitions", "ab", {"counts": [1]})
    assert len(node.counted._seen) == 1
