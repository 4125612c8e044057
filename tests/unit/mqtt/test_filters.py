"""Filters: which topics they stand for, by the examples of MQTT 5.0 §4.7 and by chance."""

import random

import pytest

from fanout.mqtt.filters import FilterTree, pattern_of, prefix_of
from fanout.transports.mqtt_topics import has_wildcard

STANDS_FOR = [
    ("sport/tennis/player1/#", "sport/tennis/player1"),
    ("sport/tennis/player1/#", "sport/tennis/player1/ranking"),
    ("sport/tennis/player1/#", "sport/tennis/player1/score/wimbledon"),
    ("sport/#", "sport"),
    ("#", "a/b"),
    ("#", "/"),
    ("#", "line\nbreak"),
    ("sport/tennis/+", "sport/tennis/player1"),
    ("sport/+", "sport/"),
    ("+/+", "/finance"),
    ("/+", "/finance"),
    ("+/tennis/#", "sport/tennis"),
    ("$SYS/#", "$SYS/monitor/Clients"),
    ("$SYS/#", "$SYS"),
    ("$SYS/+", "$SYS/monitor"),
    ("a.c/+", "a.c/d"),
    ("+/$SYS", "a/$SYS"),
    ("a//b", "a//b"),
    ("a/+/b", "a//b"),
]
DOES_NOT = [
    ("sport/tennis/+", "sport/tennis/player1/ranking"),
    ("sport/+", "sport"),
    ("+", "/finance"),
    ("#", "$SYS/x"),
    ("+/monitor/Clients", "$SYS/monitor/Clients"),
    ("sport/#", "sports"),
    ("a.c/+", "abc/d"),
    ("A/+", "a/b"),
    ("/#", "a"),
    ("+/#", "$SYS"),
]


@pytest.mark.parametrize(("topic_filter", "topic"), STANDS_FOR)
def test_a_filter_stands_for(topic_filter: str, topic: str) -> None:
    assert pattern_of(topic_filter).fullmatch(topic)
    assert topic.startswith(prefix_of(topic_filter))
    assert list(tree_of(topic_filter).match(topic)) == [topic_filter]


@pytest.mark.parametrize(("topic_filter", "topic"), DOES_NOT)
def test_a_filter_does_not_stand_for(topic_filter: str, topic: str) -> None:
    assert not pattern_of(topic_filter).fullmatch(topic)
    assert list(tree_of(topic_filter).match(topic)) == []


def tree_of(*filters: str) -> FilterTree[str]:
    tree: FilterTree[str] = FilterTree()
    for topic_filter in filters:
        tree.add(topic_filter, topic_filter)
    return tree


@pytest.mark.parametrize(
    ("topic_filter", "prefix"), [("a/+/b", "a/"), ("a/#", "a"), ("#", ""), ("+/a", ""), ("/#", ""), ("a/b+", "a/b")]
)
def test_what_topics_begin_with(topic_filter: str, prefix: str) -> None:
    assert prefix_of(topic_filter) == prefix
    assert has_wildcard(topic_filter)


def test_a_plain_topic_has_no_wildcard() -> None:
    assert not has_wildcard("a/b")
    assert prefix_of("a/b") == "a/b"


def test_a_tree_finds_what_the_patterns_match() -> None:
    chance = random.Random(7)

    def name(*extra: str) -> str:
        return "/".join(chance.choice(("", "a", "b", "$S", *extra)) for _ in range(chance.randint(1, 4)))

    filters = sorted({name("+") + chance.choice(("", "", "/#")) for _ in range(300)} | {"#"})
    tree = tree_of(*filters)
    for topic in {name() for _ in range(300)}:
        assert sorted(tree.match(topic)) == [one for one in filters if pattern_of(one).fullmatch(topic)]
    for topic_filter in filters[::2]:
        tree.discard(topic_filter, topic_filter)
    for topic in {name() for _ in range(300)}:
        assert sorted(tree.match(topic)) == [one for one in filters[1::2] if pattern_of(one).fullmatch(topic)]


def test_a_tree_keeps_nothing_of_what_is_gone() -> None:
    tree = tree_of("a/+/b", "a/#", "#", "a")
    tree.discard("a/+/c", "a/+/c")
    assert tree
    for topic_filter in ("a/+/b", "a/#", "#", "a"):
        tree.discard(topic_filter, topic_filter)
        tree.discard(topic_filter, topic_filter)
    assert not tree


def test_several_values_under_one_filter() -> None:
    tree: FilterTree[int] = FilterTree()
    tree.add("a/+", 1)
    tree.add("a/+", 2)
    tree.discard("a/+", 1)
    assert list(tree.match("a/b")) == [2]


def test_as_many_levels_as_a_topic_can_have() -> None:
    deep = "/" * 65_535
    assert list(tree_of("+" + "/+" * 65_535).match(deep)) != []
    assert pattern_of("/" * 10 + "#").fullmatch(deep)
