"""Channel names and their qualifiers."""

import pytest

from fanout.errors import ClientError
from fanout.session.names import parse_name


def refused(spelling: str, longest: int = 512) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        parse_name(spelling, longest)
    return caught.value.info.code, caught.value.info.message


class TestAName:
    @pytest.mark.parametrize("spelling", ["news", "News:Sport", "a b", "a[b]", "a:", "ünï", "a\tb", "日本"])
    def test_is_the_channel_itself(self, spelling: str) -> None:
        assert parse_name(spelling, 512) == (spelling, {})

    @pytest.mark.parametrize("spelling", ["", ":news", "a\nb", "a\r", "[?rewind=1]", "[?rewind=1]:a", "[?a=b][?c=d]e"])
    def test_that_cannot_be_one_is_refused(self, spelling: str) -> None:
        assert refused(spelling)[0] == 40010

    def test_may_be_as_long_as_the_limit_in_bytes(self) -> None:
        assert parse_name("ö" * 4, 8).channel == "öööö"
        assert refused("ö" * 4 + "x", 8) == (40010, "invalid channel name: longer than 8 bytes")


class TestAQualifier:
    def test_carries_parameters_as_a_url_does(self) -> None:
        assert parse_name("[?rewind=2m&x=a%26b&empty=]news", 512) == ("news", {"rewind": "2m", "x": "a&b", "empty": ""})

    def test_may_be_empty(self) -> None:
        assert parse_name("[?]news", 512) == ("news", {})

    @pytest.mark.parametrize(
        ("spelling", "named"),
        [
            ("[meta]log", "[meta]"),
            ("[meta?rewind=1]log", "[meta?rewind=1]"),
            ("[filter=bmFtZQ==]news", "[filter=bmFtZQ==]"),
        ],
    )
    def test_of_another_kind_is_not_offered_and_says_so(self, spelling: str, named: str) -> None:
        code, message = refused(spelling)
        assert code == 40010
        assert f"the qualifier {named} is not offered here" in message

    def test_that_is_not_closed_is_refused(self) -> None:
        assert refused("[?rewind=1") == (40010, "invalid channel name: its qualifier is not closed by ]")
