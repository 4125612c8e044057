"""Templates: what they may say, and which texts they may come to."""

import pytest

from fanout.rules.template import check_channel, check_template, may_make


@pytest.mark.parametrize(
    "template",
    [
        "everyone",
        "#{key}",
        "chat:#{key}",
        "#{topic}:#{header.room}:#{value.user.id}",
        "#{partition}-#{timestamp}-#{key.user.id}",
        "#{header.fanout.name}",
        "#{value.naïve}",
        "room:#{value.rooms[]}:#{key}",
        "#{header.rooms[]}",
        "a#b{c}=d",
    ],
)
def test_is_text_with_fields(template: str) -> None:
    check_template(template, several=True)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("", "it is empty"),
        ("x" * 1001, "too long; give at most 1000"),
        ("#{offset}", "'#{offset}' in '#{offset}' is no field of a record; there are #{topic}, #{partition}"),
        ("#{}", "'#{}' in '#{}' is no field"),
        ("#{value}", "is no field"),
        ("#{value.}", "is no field"),
        ("#{value.a..b}", "is no field"),
        ("#{value.[]}", "is no field"),
        ("#{value.a[].b}", "is no field"),
        ("#{key[]}", "is no field"),
        ("#{header.}", "is no field"),
        ("#{ key }", "is no field"),
        ("#{value.a}#{value.a.b}", "'value.a' in '#{value.a}#{value.a.b}' cannot be text and something else"),
        ("#{key.a}#{key.a[]}", "'key.a' in '#{key.a}#{key.a[]}' cannot be text and something else"),
        ("#{key.a[]}#{key.a.b}", "'key.a[]' in '#{key.a[]}#{key.a.b}' cannot be text and something else"),
        ("#{value.a[]}#{header.b[]}", "has two fields with several values; one may"),
        ("x#{key", "opens a field and does not close it"),
        ("#{a#{key}}", "opens a field and does not close it"),
    ],
)
def test_wrong_one_is_refused_with_what_would_be_right(template: str, words: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the words are looked at
        check_template(template, several=True)
    assert words in str(refused.value)


@pytest.mark.parametrize(
    ("template", "words"),
    [
        (":#{key}", "':#{key}' begins with :, and no channel does"),
        ("[?rewind=1]#{key}", "begins with [, and no channel does"),
        ("a\n#{key}", "holds a line break or a NUL"),
        ("#{key}\0", "holds a line break or a NUL"),
        ("#{offset}", "is no field of a record"),
    ],
)
def test_a_template_of_no_channel_is_refused(template: str, words: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  the words are looked at
        check_channel(template)
    assert words in str(refused.value)


@pytest.mark.parametrize("template", ["#{key}:[", "a:#{key}[0]", "#{value.rooms[]}"])
def test_a_field_or_a_letter_may_begin_a_channel(template: str) -> None:
    check_channel(template)


def test_several_values_are_a_channels_alone() -> None:
    with pytest.raises(ValueError, match="has several values; only a channel's template may"):
        check_template("#{value.rooms[]}")


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
        ("room:#{value.rooms[]}", "room:7", True),
    ],
)
def test_tells_which_texts_it_may_come_to(template: str, channel: str, may: bool) -> None:
    assert may_make(template, "orders", channel) is may
