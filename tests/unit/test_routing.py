"""Rules as users write them: the templates, the defaults, and the words of a refusal."""

import pytest

from fanout.errors import ConfigError
from fanout.routing import Rule, parse_rule, routing


@pytest.mark.parametrize(
    "template",
    [
        "everyone",
        "#{key}",
        "chat:#{key}",
        "#{topic}:#{header.room}:#{value.user.id}",
        "#{header.fanout.name}",
        "#{value.naïve}",
        "a#b{c}=d",
    ],
)
def test_rule_is_topic_and_template(template: str) -> None:
    assert parse_rule(f"orders.v1={template}") == Rule("orders.v1", template)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("orders", "names no channel; write TOPIC=CHANNEL"),
        ("orders=", "names no channel"),
        ("=x", "'' is no name of a topic"),
        ("a b=x", "'a b' is no name of a topic"),
        ("..=x", "'..' is no name of a topic"),
        (f"{'t' * 250}=x", "use at most 249"),
        (f"t={'x' * 1001}", "too long; give at most 1000"),
        ("t=#{partition}", "'#{partition}' in 't=#{partition}' is no field of a record; there are #{topic}"),
        ("t=#{}", "'#{}' in 't=#{}' is no field"),
        ("t=#{value}", "is no field"),
        ("t=#{value.}", "is no field"),
        ("t=#{value.a..b}", "is no field"),
        ("t=#{header.}", "is no field"),
        ("t=#{ key }", "is no field"),
        ("t=x#{key", "opens a field and does not close it"),
        ("t=#{a#{key}}", "opens a field and does not close it"),
    ],
)
def test_wrong_rule_is_refused_with_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_rule(text)
    assert str(refused.value).startswith("route: ")
    assert words in str(refused.value)


def test_nothing_given_routes_the_default_topic_by_key() -> None:
    made = routing([], None)
    assert made.rules == (Rule("fanout.messages", "#{key}"),)
    assert made.publish_topic == "fanout.messages"
    assert made.topics == ("fanout.messages",)


def test_publish_topic_alone_is_what_is_read() -> None:
    made = routing([], "chat")
    assert made.rules == (Rule("chat", "#{key}"),)
    assert made.publish_topic == "chat"


def test_routes_alone_leave_what_is_published_visible() -> None:
    made = routing(["orders=o:#{key}"], None)
    assert made.rules == (Rule("orders", "o:#{key}"), Rule("fanout.messages", "#{key}"))
    assert made.publish_topic == "fanout.messages"


def test_route_of_the_default_topic_replaces_the_default() -> None:
    assert routing(["fanout.messages=#{header.room}"], None).rules == (Rule("fanout.messages", "#{header.room}"),)


def test_routes_and_publish_topic_are_taken_exactly() -> None:
    made = routing(["answers=#{key}"], "questions")
    assert made.rules == (Rule("answers", "#{key}"),)
    assert made.publish_topic == "questions"


def test_one_topic_has_one_rule() -> None:
    with pytest.raises(ConfigError, match="topic 'a' has two rules; give it one"):
        routing(["a=x", "b=y", "a=z"], None)


def test_number_of_rules_is_bounded() -> None:
    assert len(routing([f"t{n}=x" for n in range(1_000)], "t0").rules) == 1_000
    with pytest.raises(ConfigError, match="1001 rules are too many; give at most 1000"):
        routing([f"t{n}=x" for n in range(1_001)], "t0")


def test_wrong_publish_topic_is_refused() -> None:
    with pytest.raises(ConfigError, match="publish-topic: 'a/b' is no name of a topic"):
        routing([], "a/b")
