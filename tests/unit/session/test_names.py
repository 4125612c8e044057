"""Channel names and their qualifiers."""

import base64

import pytest

from fanout import _core
from fanout.errors import ClientError
from fanout.rules.route import Rule
from fanout.session.limits import Limits
from fanout.session.names import parse_name
from fanout.types import Record


def refused(spelling: str, longest: int = 512) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        parse_name(spelling, longest)
    return caught.value.info.code, caught.value.info.message


class TestAName:
    @pytest.mark.parametrize("spelling", ["news", "News:Sport", "a b", "a[b]", "a:", "ünï", "a\tb", "日本"])
    def test_is_the_channel_itself(self, spelling: str) -> None:
        assert parse_name(spelling, 512) == (spelling, {}, None)

    @pytest.mark.parametrize(
        "spelling",
        ["", ":news", "a\nb", "a\r", "a\0b", "a\x1fb", "\ud800", "[?rewind=1]", "[?rewind=1]:a", "[?a=b][?c=d]e"],
    )
    def test_that_cannot_be_one_is_refused(self, spelling: str) -> None:
        assert refused(spelling)[0] == 40010

    def test_may_be_as_long_as_the_limit_in_bytes(self) -> None:
        assert parse_name("ö" * 4, 8).channel == "öööö"
        assert refused("ö" * 4 + "x", 8) == (40010, "invalid channel name: longer than 8 bytes")

    @pytest.mark.parametrize(
        "name",
        [
            "news", "a b", "a:b", "a[b]", "a\tb", "\x7f", "\u2028", "日本", "a\0b", "\0", "a\nb", "a\r", ":a", "[a", "",
            "x" * 1_024, "x" * 1_025, "ö" * 512, "ö" * 512 + "x",
        ],
    )  # fmt: skip
    def test_is_one_exactly_where_the_engine_delivers_to_it(self, name: str) -> None:
        engine = _core.Engine(io_threads=0, secret=bytes(16))
        try:
            engine.rules([Rule("t", "#{key}")])
            engine.partition("t", bytes(16), 0, 0)
            engine.records([Record("t", 0, 0, -1, 1_000, name.encode(), b"v", None)])
            delivers = engine.stats()["failed_channel"] == 0
        finally:
            engine.close()
        try:
            accepted = parse_name(name, Limits().channel_bytes).channel == name
        except ClientError:
            accepted = False
        assert accepted is delivers

    def test_leads_into_the_realm_of_whoever_spells_it(self) -> None:
        assert parse_name("news", 512, "app\x1f") == ("app\x1fnews", {}, None)
        assert parse_name("[?rewind=1]news", 512, "app\x1f") == ("app\x1fnews", {"rewind": "1"}, None)
        with pytest.raises(ClientError):
            parse_name("ö" * 4, 8, "app\x1f")


class TestAQualifier:
    def test_carries_parameters_as_a_url_does(self) -> None:
        assert parse_name("[?rewind=2m&x=a%26b&empty=]news", 512) == (
            "news",
            {"rewind": "2m", "x": "a&b", "empty": ""},
            None,
        )

    def test_may_be_empty(self) -> None:
        assert parse_name("[?]news", 512) == ("news", {}, None)

    @pytest.mark.parametrize(
        ("spelling", "named"),
        [
            ("[meta]log", "[meta]"),
            ("[meta?rewind=1]log", "[meta?rewind=1]"),
            ("[filters=bmFtZQ==]news", "[filters=bmFtZQ==]"),
            ("[]news", "[]"),
        ],
    )
    def test_of_another_kind_is_not_offered_and_says_so(self, spelling: str, named: str) -> None:
        code, message = refused(spelling)
        assert code == 40010
        assert f"the qualifier {named} is not offered here" in message

    def test_of_another_kind_is_quoted_in_part_only(self) -> None:
        assert len(refused("[" + "x" * 1_000 + "]news", 1_024)[1]) < 150

    def test_that_is_not_closed_is_refused(self) -> None:
        assert refused("[?rewind=1") == (40010, "invalid channel name: its qualifier is not closed by ]")


def spelled(expression: str, params: str = "", channel: str = "news") -> str:
    return f"[filter={base64.b64encode(expression.encode()).decode()}{params}]{channel}"


class TestAFilteredChannel:
    def test_has_an_expression_and_perhaps_parameters(self) -> None:
        assert parse_name(spelled("name == 'ö'"), 512, filtered=True) == ("news", {}, "name == 'ö'")
        assert parse_name(spelled("name == '>?>?'", "?rewind=1"), 512, "app\x1f", filtered=True) == (
            "app\x1fnews",
            {"rewind": "1"},
            "name == '>?>?'",
        )

    def test_is_no_name_to_publish_on(self) -> None:
        assert refused(spelled("name")) == (
            40010,
            "invalid channel name: a filtered channel can be subscribed to, and nothing else",
        )

    @pytest.mark.parametrize(
        "spelling",
        [
            "[filter=#]news",
            "[filter=YQ]news",
            "[filter=/w==]news",
            "[filter=é]news",
            spelled("a", "", ":news"),
            "[filter=YQ==]",
        ],
    )
    def test_that_is_spelled_wrongly_is_refused(self, spelling: str) -> None:
        with pytest.raises(ClientError) as caught:
            parse_name(spelling, 512, filtered=True)
        assert caught.value.info.code == 40010
