"""Names of topics and patterns of them."""

import pytest

from fanout.rules.topics import check_topic, matches


@pytest.mark.parametrize(
    ("topic", "name", "does"),
    [
        ("orders", "orders", True),
        ("orders", "orders2", False),
        ("orders.*", "orders.eu", True),
        ("orders.*", "ordersxeu", False),
        ("order?", "orders", True),
        ("order?", "order", False),
        ("^orders", "orders.eu", True),
        ("^orders$", "orders.eu", False),
        ("^(eu|us)-x", "us-x", True),
        ("*", "__consumer_offsets", False),
        ("*", "fanout.presence", False),
        ("^.*", "fanout.control", False),
        ("^.*", "fanout.checkpoints", False),
        ("*", "fanout.control2", True),
    ],
)
def test_a_pattern_matches_topics_of_messages(topic: str, name: str, does: bool) -> None:
    check_topic(topic, pattern=True)
    assert matches(topic, name) is does


@pytest.mark.parametrize(
    ("topic", "words"),
    [
        ("", "'' is no name of a topic"),
        ("a b", "'a b' is no name of a topic"),
        ("..", "'..' is no name of a topic"),
        ("fanout.presence", "'fanout.presence' is not for messages"),
        ("t" * 250, "use at most 249"),
        ("a b*", "'a b*' is no pattern of topics"),
        ("^(", "'^(' is no regular expression: missing )"),
        ("^" + "x" * 1000, "too long; give at most 1000"),
    ],
)
def test_wrong_one_is_refused(topic: str, words: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the words are looked at
        check_topic(topic, pattern=True)
    assert words in str(refused.value)


def test_a_pattern_is_no_name() -> None:
    with pytest.raises(ValueError, match=r"'orders\.\*' is no name of a topic"):
        check_topic("orders.*")
