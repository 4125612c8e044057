"""One `[[publish]]`: the channels it is for, its templates, and what is refused."""

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.rules.publish import PublishRule, fill


@pytest.mark.parametrize(
    ("pattern", "channel", "parts"),
    [
        ("chat", "chat", ()),
        ("chat", "chats", None),
        ("chat:*", "chat:", ("",)),
        ("chat:*", "chat:a:b", ("a:b",)),
        ("chat:*", "news:chat:a", None),
        ("*:*:end", "a:b:end", ("a", "b")),
        ("a.c", "abc", None),
        ("*", "[odd] näme", ("[odd] näme",)),
        ("^chat:([a-z]+)", "chat:room:7", ("room",)),
        ("^chat:([a-z]+)$", "chat:room:7", None),
        ("^(a)|(b)", "b", ("", "b")),
    ],
)
def test_a_pattern_is_for_these_channels(pattern: str, channel: str, parts: tuple[str, ...] | None) -> None:
    assert PublishRule(pattern).parts(channel) == parts


def test_a_name_made_to_match_nearly_costs_no_more_than_another() -> None:
    assert PublishRule("*:*:*:*:*:*:private").parts(":" * 1_024) is None


@given(glob=st.text("ab*", min_size=1, max_size=8), channel=st.text("ab", max_size=12))
def test_stars_stand_for_what_greedy_groups_would(glob: str, channel: str) -> None:
    found = re.fullmatch("(.*)".join(map(re.escape, glob.split("*"))), channel)
    assert PublishRule(glob).parts(channel) == (found and found.groups())


def test_a_template_is_filled_with_what_there_is() -> None:
    assert fill("#{channel}/#{name}-#{1}.", {"channel": "c", "1": "one"}) == "c/-one."


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"channel": ""}, "channel: give a pattern"),
        ({"channel": "^("}, "channel: '^(' is no regular expression"),
        ({"channel": "a" * 1_001}, "channel: give a pattern of at most"),
        ({"channel": "*", "topic": "not a topic"}, "topic: 'not a topic' is no name of a topic"),
        ({"channel": "*", "topic": "fanout.presence"}, "topic: topic 'fanout.presence' is not for messages"),
        ({"channel": "*", "presence": "a*"}, "presence: 'a*' is no name of a topic"),
        ({"channel": "*", "topic": "t", "presence": "t"}, "presence: 't' holds messages"),
        ({"channel": "*", "key": "#{value.id}"}, "key: '#{value.id}' in '#{value.id}' is no part of a message"),
        ({"channel": "*", "key": "#{2}"}, "key: '#{2}' in '#{2}' is more than '*' has stars or groups"),
        ({"channel": "*", "key": "#{channel"}, "key: '#{channel' opens a field"),
        ({"channel": "*", "key": "k" * 1_001}, "key: it is too long"),
        ({"channel": "*", "headers": {"fanout.id": "x"}}, "headers: 'fanout.id' cannot be given"),
        ({"channel": "*", "headers": {"a": "#{no}"}}, "headers.a: '#{no}'"),
        ({"channel": "*", "headers": {str(number): "x" for number in range(33)}}, "headers: 33 are too many"),
    ],
)
def test_what_cannot_be_right_is_refused_in_the_fields_words(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the words are looked at
        PublishRule(**fields)
    assert str(refused.value).startswith(words)
