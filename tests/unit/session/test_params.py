"""The query of the connection's URL."""

import pytest

from fanout.errors import ClientError
from fanout.session.params import SHARED_MAX, ConnectParams, requested_wire
from fanout.wire import JSON, MSGPACK


def parsed(**query: str) -> ConnectParams:
    return ConnectParams.parse({"v": "5"} | query)


def refused(query: dict[str, str]) -> int:
    with pytest.raises(ClientError) as caught:
        ConnectParams.parse(query)
    return caught.value.info.code


class TestTheVersion:
    @pytest.mark.parametrize(("text", "version"), [("2", 2), ("5", 5), ("6", 6), ("7", 6), ("999999999", 6)])
    def test_is_an_integer_from_2_on_and_a_later_one_counts_as_the_last_known(self, text: str, version: int) -> None:
        assert parsed(v=text).version == version

    @pytest.mark.parametrize("text", ["", "0", "1", "1.2", "-3", "+5", " 5", "five", "٥", "9" * 5000])
    def test_of_any_other_form_is_refused(self, text: str) -> None:
        assert refused({"v": text}) == 40017

    def test_is_required(self) -> None:
        assert refused({}) == 40017


class TestTheWire:
    def test_is_json_unless_messagepack_is_asked_for(self) -> None:
        assert parsed().wire == parsed(format="json").wire == JSON
        assert parsed(format="msgpack").wire == MSGPACK

    def test_of_another_name_is_refused_in_json(self) -> None:
        assert refused({"v": "5", "format": "xml"}) == 40003
        assert requested_wire({"format": "xml"}) == JSON

    def test_is_known_also_where_the_query_is_refused(self) -> None:
        assert requested_wire({"format": "msgpack", "v": "nonsense"}) == MSGPACK


class TestTheRest:
    def test_is_absent_by_default(self) -> None:
        assert parsed() == ConnectParams(version=5, wire=JSON)

    def test_has_echo_and_heartbeat_frames_unless_they_are_declined(self) -> None:
        assert (parsed().echo, parsed().heartbeats) == (True, True)
        assert (parsed(echo="true").echo, parsed(heartbeats="true").heartbeats) == (True, True)
        assert (parsed(echo="false").echo, parsed(heartbeats="false").heartbeats) == (False, False)

    def test_bounds_the_heartbeat_interval(self) -> None:
        assert parsed(heartbeatInterval="20000").heartbeat_interval_ms == 20_000
        assert parsed(heartbeatInterval="999999999").heartbeat_interval_ms == 1_800_000

    @pytest.mark.parametrize("text", ["", "-1", "soon", "1e9", "9" * 5000])
    @pytest.mark.parametrize("name", ["heartbeatInterval", "remainPresentFor"])
    def test_refuses_a_time_that_is_none(self, name: str, text: str) -> None:
        assert refused({"v": "5", name: text}) == 40003

    def test_bounds_how_long_members_stay_without_their_connection(self) -> None:
        assert parsed().remain_present_ms == 15_000
        assert parsed(remainPresentFor="0").remain_present_ms == 0
        assert parsed(remainPresentFor="999999999").remain_present_ms == 120_000

    def test_ignores_what_it_does_not_know(self) -> None:
        assert parsed(agent="x", lib="y", timestamp="z") == parsed()

    def test_is_shared_by_all_who_ask_alike_and_kept_within_its_bound(self) -> None:
        assert parsed(key="one", echo="false") is parsed(key="two", echo="false")
        first = parsed(heartbeatInterval="1")
        for number in range(2, SHARED_MAX + 2):
            parsed(heartbeatInterval=str(number))
        assert parsed(heartbeatInterval="1") is not first
        assert parsed(heartbeatInterval="1") == first
