"""One rule: how it is spelled, and what it cannot say."""

from typing import Any

import pytest

from fanout.errors import ConfigError
from fanout.rules.route import Rule, parse_rule


def test_spelled_in_one_option_is_topic_and_channel() -> None:
    assert parse_rule("orders.v1=a#b{c}=d") == Rule("orders.v1", "a#b{c}=d")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("orders", "route: 'orders' names no channel; write TOPIC=CHANNEL"),
        ("orders=", "names no channel"),
        ("=x", "route: topic: '' is no name of a topic"),
        ("t=#{nothing}", "route: channel: '#{nothing}' in '#{nothing}' is no field of a record"),
    ],
)
def test_wrong_option_is_refused_with_what_would_be_right(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_rule(text)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"channel": ":#{key}"}, "channel: ':#{key}' begins with :"),
        ({"name": "#{x}"}, "name: '#{x}'"),
        ({"client_id": "#{value.a[]}"}, "client_id: '#{value.a[]}' in '#{value.a[]}' has several values"),
        ({"channel": "#{value.a}", "name": "#{value.a.b}"}, "channel: 'value.a' in '#{value.a}' cannot be text and"),
        ({"channel": "#{value.a[]}", "name": "#{value.a}"}, "channel: 'value.a' in '#{value.a}' cannot be text and"),
        ({"channel": "#{key}", "name": "#{key.a}", "key": "json"}, "channel: 'key' in '#{key}' cannot be text and"),
        ({"on_failure": "dead-letter"}, "dead_letter: the topic goes with on_failure"),
        ({"dead_letter": "failed"}, "dead_letter: the topic goes with on_failure"),
        ({"on_failure": "dead-letter", "dead_letter": "a b"}, "dead_letter: 'a b' is no name"),
        ({"on_failure": "dead-letter", "dead_letter": "t"}, "'t' is the topic that the rule reads"),
        ({"linger": "20"}, "linger: '20' is not a duration"),
        ({"linger": "1001ms"}, "linger: '1001ms' is too long; give at most 1s"),
        ({"partitioner": "murmur2"}, "partitioner: 'c' does not tell the key; give text and one #{key}"),
        ({"partitioner": "murmur2", "channel": "#{key}#{key}"}, "partitioner: '#{key}#{key}' does not tell the key"),
        ({"partitioner": "murmur2", "channel": "#{key}:#{value.a}"}, "does not tell the key"),
        ({"partitioner": "murmur2", "channel": "#{key.id}"}, "does not tell the key"),
        ({"partitioner": "murmur2", "channel": "#{key}", "key": "json"}, "partitioner: the partition follows from"),
        ({"read": "needed"}, "read: what is needed is only known with partitioner"),
        ({"read": "needed", "partitioner": "murmur2", "channel": "#{key}", "topic": "t*"}, "read: 't*' is a pattern"),
        ({"read": "needed", "partitioner": "murmur2", "channel": "#{key}", "snapshot": True}, "read: snapshots are of"),
        ({"snapshot": True, "tombstone": "skip"}, "snapshot: with tombstone = "),
    ],
)
def test_what_cannot_be_right_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the words are looked at
        Rule(**{"topic": "t", "channel": "c", **fields})
    assert words in str(refused.value)


def test_a_partitioner_goes_with_text_around_the_key() -> None:
    for channel in ("#{key}", "orders:#{key}", "#{topic}:#{key}!"):
        assert Rule("t*", channel, partitioner="murmur2").channel == channel


def test_a_pattern_has_no_snapshots() -> None:
    with pytest.raises(ValueError, match="snapshot: 't\\*' is a pattern; name the topic"):
        Rule("t*", "c", snapshot=True)
