"""Capabilities: which resources match which channels, and which texts are capabilities."""

import re

import pytest

from fanout.auth.capabilities import EVERYTHING, OPERATIONS, allows, parse_capability


def matches(resource: str, channel: str) -> bool:
    return allows({resource: frozenset({"publish"})}, channel, "publish")


class TestAResourceMatches:
    @pytest.mark.parametrize(
        ("resource", "channel"),
        [
            ("*", "news"),
            ("*", "news:sport:de"),
            ("*", "*"),
            ("news", "news"),
            ("news:*", "news:sport"),
            ("news:*", "news:sport:de"),
            ("news:*:de", "news:sport:de"),
            ("*:de", "news:de"),
            ("*:*", "a:b:c"),
            ("foo*", "foo*"),
            ("[meta]*", "[meta]log"),
            ("[meta]log", "[meta]log"),
            ("[meta]log:*", "[meta]log:push"),
            ("[*]*", "news"),
            ("[*]*", "[meta]log"),
        ],
    )
    def test_the_channels_it_stands_for(self, resource: str, channel: str) -> None:
        assert matches(resource, channel)

    @pytest.mark.parametrize(
        ("resource", "channel"),
        [
            ("*", "[meta]log"),
            ("news", "News"),
            ("news", "news:sport"),
            ("news:*", "news"),
            ("news:*", "newsroom:a"),
            ("news:*:de", "news:de"),
            ("news:*:de", "news:a:b:de"),
            ("*:de", "de"),
            ("foo*", "foobar"),
            ("[meta]*", "log"),
            ("[meta]*", "[queue]log"),
            ("[queue]*", "[meta]log"),
        ],
    )
    def test_no_others(self, resource: str, channel: str) -> None:
        assert not matches(resource, channel)


class TestAllows:
    def test_unites_the_operations_of_all_matching_resources(self) -> None:
        capability = parse_capability('{"*":["subscribe"],"news":["publish"]}')
        assert allows(capability, "news", "publish")
        assert allows(capability, "news", "subscribe")
        assert not allows(capability, "other", "publish")

    def test_takes_a_star_for_every_operation(self) -> None:
        assert all(allows({"news": frozenset("*")}, "news", operation) for operation in OPERATIONS)

    def test_everything_is_everything(self) -> None:
        assert allows(EVERYTHING, "news", "publish")
        assert allows(EVERYTHING, "[meta]log", "subscribe")

    def test_nothing_allows_nothing(self) -> None:
        assert not allows({}, "news", "subscribe")


class TestParse:
    def test_reads_resources_and_operations(self) -> None:
        assert parse_capability('{"a":["publish","subscribe"],"b":["*"]}') == {
            "a": frozenset({"publish", "subscribe"}),
            "b": frozenset("*"),
        }

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("{", "a JSON object such as"),
            ("[]", "at least one resource"),
            ("{}", "at least one resource"),
            ('{"":["*"]}', "empty resource"),
            ('{"a":[]}', "on 'a' are not a list with something in it"),
            ('{"a":"publish"}', "on 'a' are not a list with something in it"),
            ('{"a":["fly"]}', "unknown operation 'fly' on 'a'"),
            ('{"a":[5]}', "unknown operation 5 on 'a'"),
            ('{"a":[["publish"]]}', "unknown operation"),
            ('{"a":["*","publish"]}', "'*' on 'a' stands alone"),
        ],
    )
    def test_says_what_is_wrong(self, text: str, reason: str) -> None:
        with pytest.raises(ValueError, match=re.escape(reason)):
            parse_capability(text)
