"""What the request of a stream is read as."""

import pytest

from fanout.errors import ClientError
from fanout.transports.http import Request
from fanout.transports.stream_wishes import CHANNELS_MAX, Wishes


def read(query: dict[str, str], *, last_event_id: str | None = None, lines: bool = False) -> Wishes:
    headers = {} if last_event_id is None else {"last-event-id": last_event_id}
    return Wishes.read(Request("GET", "/sse", query, headers), lines=lines)


def refusal(query: dict[str, str], *, last_event_id: str | None = None) -> int:
    with pytest.raises(ClientError) as refused:
        read(query, last_event_id=last_event_id)
    return refused.value.info.code


class TestChannels:
    @pytest.mark.parametrize(
        ("query", "names"),
        [
            ({"channels": "a,b"}, ["a", "b"]),
            ({"channel": "a,b"}, ["a", "b"]),
            ({"channels": "a", "channel": "b"}, ["a"]),
            ({"channels": "", "channel": "b"}, ["b"]),
            ({"channels": "b,a,b"}, ["b", "a"]),
            ({"channels": ",a,,b,"}, ["a", "b"]),
            ({"channels": "a,b|c", "separator": "|"}, ["a,b", "c"]),
            ({"channels": "a::b:c", "separator": "::"}, ["a", "b:c"]),
            ({"channels": "a,b", "separator": ""}, ["a", "b"]),
            ({"channels": "[?rewind=1]a,b"}, ["[?rewind=1]a", "b"]),
            ({"channels": "a,A, a"}, ["a", "A", " a"]),
        ],
    )
    def test_are_read_in_their_order_and_each_once(self, query: dict[str, str], names: list[str]) -> None:
        assert list(read(query).places) == names

    @pytest.mark.parametrize("query", [{}, {"channels": ""}, {"channels": ",,"}, {"channels": "|", "separator": "|"}])
    def test_that_are_none_are_refused(self, query: dict[str, str]) -> None:
        assert refusal(query) == 40010

    def test_are_bounded_and_repeats_do_not_count(self) -> None:
        most = ",".join(map(str, range(CHANNELS_MAX)))
        assert len(read({"channels": f"{most},0,1"}).places) == CHANNELS_MAX
        assert refusal({"channels": f"{most},more"}) == 40003


class TestPlaces:
    def test_are_none_for_who_comes_first(self) -> None:
        assert read({"channels": "a,b"}).places == {"a": "", "b": ""}
        assert read({"channels": "a", "lastEvent": ""}, last_event_id="").places == {"a": ""}

    def test_go_with_the_channels_in_their_order(self) -> None:
        query = {"channels": "b,a,c", "lastEvent": "x,,z"}
        assert read(query).places == {"b": "x", "a": "", "c": "z"}

    def test_in_the_field_count_before_those_of_the_query(self) -> None:
        query = {"channels": "a", "lastEvent": "older"}
        assert read(query, last_event_id="newer").places == {"a": "newer"}
        assert read(query).places == {"a": "older"}

    def test_are_divided_by_commas_whatever_divides_the_channels(self) -> None:
        query = {"channels": "a|b", "separator": "|", "lastEvent": "x,y"}
        assert read(query).places == {"a": "x", "b": "y"}

    @pytest.mark.parametrize("last", ["x", "x,y,z", "x,y,"])
    def test_of_another_stream_are_refused(self, last: str) -> None:
        assert refusal({"channels": "a,b", "lastEvent": last}) == 40003
        assert refusal({"channels": "a,b"}, last_event_id=last) == 40003


class TestShape:
    @pytest.mark.parametrize("channels", ["a", "a,b"])
    @pytest.mark.parametrize("bare", [False, True])
    @pytest.mark.parametrize("lines", [False, True])
    def test_is_a_number_of_the_engines(self, lines: bool, bare: bool, channels: str) -> None:
        wishes = read({"channels": channels, "enveloped": str(not bare).lower()}, lines=lines)
        assert wishes.wire == 2 + lines + 4 * bare + 8 * ("," in channels)

    def test_says_what_it_is(self) -> None:
        assert read({"channels": "a"}).content_type == "text/event-stream"
        assert read({"channels": "a"}, lines=True).content_type == "application/x-ndjson"

    def test_is_enveloped_and_without_heartbeats_unless_asked_for(self) -> None:
        assert (read({"channels": "a"}).bare, read({"channels": "a"}).heartbeats) == (False, False)
        assert read({"channels": "a", "heartbeats": "true"}).heartbeats

    @pytest.mark.parametrize("name", ["enveloped", "heartbeats"])
    @pytest.mark.parametrize("value", ["", "True", "1", "no"])
    def test_takes_no_other_words(self, name: str, value: str) -> None:
        assert refusal({"channels": "a", name: value}) == 40003


def test_what_counts_for_every_channel_is_handed_on_and_nothing_else() -> None:
    params = {"rewind": "2", "rewindLimit": "9", "delta": "vcdiff", "occupancy": "metrics"}
    others = {"channels": "a", "modes": "publish", "v": "3", "key": "app.key:secret", "clientId": "x"}
    assert read(params | others).params == params
    assert read(others).params == {}
