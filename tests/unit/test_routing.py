"""What a node reads and where it writes: the defaults, which rule counts, and a program's own."""

import re
import sys
from typing import Any

import pytest

from fanout.errors import ConfigError
from fanout.routing import guarded, routing
from fanout.rules.file import RulesFile
from fanout.rules.publish import PublishRule
from fanout.rules.route import Rule
from fanout.types import Creation, Record

OWN = Rule("fanout.messages", "#{key}")
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


def test_nothing_given_routes_the_default_topic_by_key() -> None:
    made = routing([], None)
    assert made.rules == (OWN,)
    assert made.publish_topic == "fanout.messages"
    assert made.topics == ("fanout.messages",)


def test_publish_topic_alone_is_what_is_read() -> None:
    made = routing([], "chat")
    assert made.rules == (Rule("chat", "#{key}"),)
    assert made.publish_topic == "chat"


def test_routes_alone_leave_what_is_published_visible() -> None:
    made = routing(["orders=o:#{key}"], None)
    assert made.rules == (Rule("orders", "o:#{key}"), OWN)
    assert made.publish_topic == "fanout.messages"


def test_route_of_the_default_topic_replaces_the_default() -> None:
    assert routing(["fanout.messages=#{header.room}"], None).rules == (Rule("fanout.messages", "#{header.room}"),)


def test_where_a_program_says_which_channels_there_are_no_key_tells_where_one_lies() -> None:
    file = RulesFile((Rule("orders", "#{key}", partitioner="murmur2"),))
    assert routing([], None, file=file).given.rules == (Rule("orders", "#{key}"), OWN)


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


def test_a_topic_that_no_rule_makes_the_channel_of_is_left_out() -> None:
    routes = routing(["orders=orders:#{key}", "news=news", "any=#{key}"], "any")
    assert [topic for topic in routes.topics if routes.may_make(topic, "orders:1")] == ["orders", "any"]
    assert [topic for topic in routes.topics if routes.may_make(topic, "news")] == ["news", "any"]
    assert not routes.may_make("unheard", "news")


def test_the_first_rule_that_matches_counts_and_options_come_before_the_file() -> None:
    file = RulesFile((Rule("orders", "of the file"), Rule("orders.*", "glob"), Rule("^orders", "regex")))
    routes = routing(["orders=of the option"], "any", file=file)
    assert [routes.rule_of(topic) for topic in ("orders", "orders.eu", "orders2", "other")] == [
        Rule("orders", "of the option"),
        Rule("orders.*", "glob"),
        Rule("^orders", "regex"),
        None,
    ]


def test_a_rule_that_is_never_asked_is_known() -> None:
    rules = (Rule("orders*", "glob"), Rule("orders", "name"), Rule("news", "news"))
    routes = routing([], "any", file=RulesFile(rules))
    assert [routes.shadow_of(rule) for rule in rules] == [None, rules[0], None]


def test_patterns_are_read_without_what_holds_no_messages() -> None:
    file = RulesFile((Rule("*", "#{key}", on_failure="dead-letter", dead_letter="failed"),))
    routes = routing([], None, file=file)
    [pattern] = routes.topics
    matched = ["orders", "a.b-c_d", "fanout.messages", "failed2"]
    others = ["failed", "fanout.presence", "fanout.control", "__consumer_offsets"]
    assert [topic for topic in (*matched, *others) if re.match(pattern, topic)] == matched
    assert [topic for topic in (*matched, *others) if routes.rule_of(topic)] == matched


@pytest.mark.parametrize("topic", ["news", "fanout.messages"])
def test_dead_letters_are_no_messages(topic: str) -> None:
    failing = Rule("orders", "#{key}", on_failure="dead-letter", dead_letter=topic)
    with pytest.raises(ConfigError, match=f"dead_letter: '{topic}' is read for messages; name another topic"):
        routing([], None, file=RulesFile((failing, Rule("news", "news"))))


def test_a_file_that_routes_the_default_topic_replaces_the_default() -> None:
    for topic in ("fanout.messages", "fanout.*", r"^fanout\."):
        assert routing([], None, file=RulesFile((Rule(topic, "x"),))).rules == (Rule(topic, "x"),)


def test_what_is_published_by_a_rule_is_sent_to_its_channels_unless_routes_say_what_is() -> None:
    publish = (PublishRule("chat:*", "chat", key="#{1}"), PublishRule("a"), PublishRule("b", "chat"))
    alone = routing([], None, file=RulesFile(publish=publish))
    assert alone.rules == (Rule("chat", "#{header.fanout.channel}"), OWN)
    assert routing([], "t", file=RulesFile(publish=publish)).topics == ("chat", "t")
    assert routing(["orders=#{key}"], "t", file=RulesFile(publish=publish)).topics == ("orders",)


def test_topics_that_are_only_written_to_are_made_too() -> None:
    publish = (PublishRule("chat:*", "chat", presence="who"), PublishRule("a"))
    made = routing(["orders=#{key}"], "t", file=RulesFile(publish=publish)).kept(1_000)
    assert [made[topic] for topic in ("t", "chat", "who")] == [Creation()] * 3


@pytest.mark.parametrize("topic", [None, "fanout.messages"])
def test_another_key_where_the_key_names_the_channel_is_refused(topic: str | None) -> None:
    file = RulesFile(publish=(PublishRule("chat:*", topic, key="#{clientId}"),))
    with pytest.raises(
        ConfigError, match=re.escape("to 'fanout.messages', which is sent by its keys, has another key")
    ):
        routing([], None, file=file)
    assert routing(["fanout.messages=#{header.fanout.channel}"], None, file=file).publish == file.publish


def test_topics_with_snapshots_are_made_compacted_and_matched_by_no_pattern() -> None:
    made = routing([], "t", file=RulesFile((Rule("prices", "p", snapshot=True), Rule("p*", "#{topic}"))))
    assert made.snapshots == ("prices",)
    assert made.kept(1_000)["prices"].settings["cleanup.policy"] == "compact"
    (pattern,) = (topic for topic in made.topics if topic.startswith("^"))
    assert (re.match(pattern, "prices"), bool(re.match(pattern, "people"))) == (None, True)


def test_number_of_publish_rules_is_bounded() -> None:
    with pytest.raises(ConfigError, match="1001 \\[\\[publish\\]\\] are too many"):
        routing([], None, file=RulesFile(publish=(PublishRule("a"),) * 1_001))


def test_linger_is_by_topic() -> None:
    routes = routing(["ticks=#{key}"], None, ["ticks=20ms"])
    assert [(rule.topic, rule.linger_ms) for rule in routes.rules] == [("ticks", 20), ("fanout.messages", 0)]


@pytest.mark.parametrize(
    ("linger", "words"),
    [
        (["ticks"], "linger: 'ticks' has no time; write TOPIC=TIME, like ticks=20ms"),
        (["ticks=20"], "linger: '20' is not a duration"),
        (["ticks=1001ms"], "linger: '1001ms' is too long; give at most 1s"),
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
