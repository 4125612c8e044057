"""Rules as users write them: the templates, the defaults, and the words of a refusal."""

import sys
from typing import Any

import pytest

from fanout.errors import ConfigError
from fanout.routing import Rule, guarded, parse_rule, routing
from fanout.types import Record

RECORD = Record("orders", 1, 2, -1, 3, b"k", b"v", [("h", b"x")])


class KafkaMessage:
    """Answers as confluent-kafka's `Message` does."""

    def topic(self) -> str:
        return "orders"

    def partition(self) -> int:
        return 1

    def offset(self) -> int:
        return 2

    def leader_epoch(self) -> int | None:
        return None

    def timestamp(self) -> tuple[int, int]:
        return (1, 3)

    def key(self) -> bytes:
        return b"k"

    def value(self) -> bytes:
        return b"v"

    def headers(self) -> list[tuple[str, bytes]]:
        return [("h", b"x")]


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
        ("fanout.presence=x", "'fanout.presence' is not for messages"),
        (f"{'t' * 250}=x", "use at most 249"),
        (f"t={'x' * 1001}", "too long; give at most 1000"),
        ("t=#{partition}", "'#{partition}' in 't=#{partition}' is no field of a record; there are #{topic}"),
        ("t=#{}", "'#{}' in 't=#{}' is no field"),
        ("t=#{value}", "is no field"),
        ("t=#{value.}", "is no field"),
        ("t=#{value.a..b}", "is no field"),
        ("t=#{header.}", "is no field"),
        ("t=#{ key }", "is no field"),
        ("t=#{value.a}#{value.a.b}", "'a' in 't=#{value.a}#{value.a.b}' cannot be both text and an object"),
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


@pytest.mark.parametrize(
    ("template", "channel", "may"),
    [
        ("chat", "chat", True),
        ("chat", "chat2", False),
        ("#{key}", "anything at all", True),
        ("chat:#{key}", "chat:", True),
        ("chat:#{key}", "cha", False),
        ("#{topic}-#{key}", "orders-1", True),
        ("#{topic}-#{key}", "order-1", False),
        ("a#{key}b", "ab", True),
        ("aba#{key}ba", "aba", False),
        ("#{key}:#{header.x}:#{value.y}!", "a:b:c!", True),
        ("#{key}:#{header.x}:#{value.y}!", "a:b!", False),
        ("a#{key}bb#{key}b", "abbb", True),
        ("a#{key}bb#{key}b", "abb", False),
        ("#{key}:" * 40 + "!", ":" * 1_000, False),
    ],
)
def test_a_rule_tells_which_channels_it_may_make(template: str, channel: str, may: bool) -> None:
    assert Rule("orders", template).may_make(channel) is may


def test_topics_of_a_channel_are_those_whose_rules_may_make_it() -> None:
    routes = routing(["orders=orders:#{key}", "news=news", "any=#{key}"], "any")
    assert routes.topics_of("orders:1") == ("orders", "any")
    assert routes.topics_of("news") == ("news", "any")


def test_linger_is_by_topic() -> None:
    assert routing([], None).linger_ms == {}
    assert routing(["ticks=#{key}"], None, ["ticks=20ms", "fanout.messages=1s"]).linger_ms == {
        "ticks": 20,
        "fanout.messages": 1_000,
    }


@pytest.mark.parametrize(
    ("linger", "words"),
    [
        (["ticks"], "linger: 'ticks' has no time; write TOPIC=TIME, like ticks=20ms"),
        (["ticks=20"], "linger: '20' in 'ticks=20' is not a duration"),
        (["ticks=1001ms"], "linger: '1001ms' in 'ticks=1001ms' is too long; give at most 1s"),
        (["other=5ms"], "linger: topic 'other' is not read"),
        (["ticks=5ms", "ticks=6ms"], "linger: topic 'ticks' has two times; give it one"),
    ],
)
def test_wrong_linger_is_refused(linger: list[str], words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        routing(["ticks=#{key}"], None, linger)
    assert words in str(refused.value)


class TestProgramsOwnRule:
    @pytest.mark.parametrize(("answer", "channels"), [("a", ("a",)), (None, ()), (["a", "b"], ("a", "b")), ((), ())])
    def test_names_a_channel_several_or_none(self, answer: Any, channels: Any) -> None:
        assert guarded(lambda record: answer)(RECORD) == channels

    @pytest.mark.parametrize("delivered", [RECORD, KafkaMessage()], ids=["record", "kafka"])
    def test_sees_the_same_record_whatever_the_log(self, delivered: Any) -> None:
        seen: list[Record] = []
        guarded(seen.append)(delivered)
        assert seen == [RECORD]

    @pytest.mark.parametrize("answer", [1, b"a", ["a", None], {"a"}, "\ud800"])
    def test_that_names_no_channel_skips_the_record(self, answer: Any, caplog: pytest.LogCaptureFixture) -> None:
        assert guarded(lambda record: answer)(RECORD) == ("",)
        assert "route failed" in caplog.text

    def test_that_calls_for_the_programs_end_skips_the_record(self, caplog: pytest.LogCaptureFixture) -> None:
        assert guarded(lambda record: sys.exit(3))(RECORD) == ("",)
        assert "route failed for offset 2 of orders" in caplog.text

    def test_that_raises_skips_the_record_and_is_logged_once_for_each_kind(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        failures = [KeyError("a"), KeyError("b"), ValueError("c"), KeyError("d")]

        def route(record: Record) -> str:
            raise failures.pop(0)

        rule = guarded(route)
        assert [rule(RECORD) for _ in range(4)] == [("",)] * 4
        assert [entry.exc_info[0] for entry in caplog.records if entry.exc_info] == [KeyError, ValueError]
        assert "offset 2 of orders" in caplog.text
