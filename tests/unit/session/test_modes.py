"""Channel modes and parameters."""

import pytest

from fanout.auth.capabilities import EVERYTHING
from fanout.errors import ClientError
from fanout.session.modes import granted_modes, parse_params, requested_modes
from fanout.wire import Flag

BOTH = Flag.PUBLISH | Flag.SUBSCRIBE
USUAL = BOTH | Flag.PRESENCE | Flag.PRESENCE_SUBSCRIBE


def refused(**params: str) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        parse_params(params)
    return caught.value.info.code, caught.value.info.message


class TestRequestedModes:
    def test_are_those_of_the_flags_without_such_a_parameter(self) -> None:
        assert requested_modes(Flag.SUBSCRIBE | Flag.RESUMED, parse_params({"echo": "false"})) == Flag.SUBSCRIBE

    def test_are_those_of_the_parameters_whatever_the_flags_say(self) -> None:
        assert requested_modes(Flag.SUBSCRIBE, parse_params({"modes": "publish"})) == Flag.PUBLISH
        params = parse_params({"modes": "publish, presence_subscribe"})
        assert requested_modes(Flag.ATTACH_RESUME, params) == Flag.PUBLISH | Flag.PRESENCE_SUBSCRIBE

    def test_are_the_usual_ones_without_either(self) -> None:
        assert requested_modes(0, parse_params({})) & BOTH == BOTH
        assert requested_modes(1 << 20 | 1 << 60, parse_params({})) == requested_modes(0, parse_params({}))


class TestGrantedModes:
    def test_are_what_is_requested_allowed_and_offered(self) -> None:
        usual = requested_modes(0, parse_params({}))
        assert granted_modes(usual, EVERYTHING, "news") == USUAL | Flag.ANNOTATION_PUBLISH
        assert granted_modes(Flag.SUBSCRIBE, EVERYTHING, "news") == Flag.SUBSCRIBE
        some = {"news": frozenset({"publish", "presence"})}
        assert granted_modes(usual, some, "news") == Flag.PUBLISH | Flag.PRESENCE
        some = {"news": frozenset({"subscribe"})}
        assert granted_modes(usual, some, "news") == Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE

    def test_can_be_none(self) -> None:
        assert granted_modes(Flag.OBJECT_PUBLISH, EVERYTHING, "news") == 0
        assert granted_modes(BOTH, {"other": frozenset("*")}, "news") == 0


class TestParameters:
    def test_that_are_recognised_are_told_back_and_others_are_not(self) -> None:
        params = {
            "rewind": "5",
            "echo": "false",
            "modes": "subscribe",
            "delta": "vcdiff",
            "agent": "x",
        }
        told = {"rewind": "5", "echo": "false", "modes": "subscribe", "delta": "vcdiff"}
        assert parse_params(params).recognised == told

    @pytest.mark.parametrize(
        ("text", "count", "ms"), [("1", 1, 0), ("999999", 999_999, 0), ("15s", 0, 15_000), ("2m", 0, 120_000)]
    )
    def test_rewind_by_a_number_or_a_time(self, text: str, count: int, ms: int) -> None:
        params = parse_params({"rewind": text})
        assert (params.rewind_count, params.rewind_ms, params.rewinds) == (count, ms, True)

    def test_limit_the_number_of_a_rewind_by_time_alone(self) -> None:
        params = parse_params({"rewind": "2m", "rewindLimit": "7"})
        assert (params.rewind_count, params.rewind_ms) == (7, 120_000)
        assert parse_params({"rewind": "5", "rewindLimit": "7"}).rewind_count == 5

    def test_do_not_rewind_by_default(self) -> None:
        assert not parse_params({}).rewinds
        assert not parse_params({"rewindLimit": "7"}).rewinds

    def test_may_turn_echo_off(self) -> None:
        assert parse_params({}).echo
        assert parse_params({"echo": "true"}).echo
        assert not parse_params({"echo": "false"}).echo

    @pytest.mark.parametrize("text", ["", "0", "0s", "-1", "1h", "m", "1.5", "1 s", "٣", "9" * 5000])
    def test_refuse_a_rewind_that_is_none(self, text: str) -> None:
        assert refused(rewind=text)[0] == 40000

    @pytest.mark.parametrize("text", ["", "0", "-1", "2m", "9" * 5000])
    def test_refuse_a_limit_that_is_none(self, text: str) -> None:
        assert refused(rewind="2m", rewindLimit=text)[0] == 40000

    def test_refuse_an_echo_that_is_neither(self) -> None:
        assert refused(echo="no") == (40000, "bad request: echo is true or false")

    def test_may_have_appends_come_whole(self) -> None:
        params = parse_params({"appendMode": "full"})
        assert params.whole_appends
        assert params.recognised == {"appendMode": "full"}
        assert not parse_params({"echo": "true"}).whole_appends

    def test_refuse_another_way_of_appending(self) -> None:
        assert refused(appendMode="part") == (40000, "bad request: appendMode is full")

    @pytest.mark.parametrize("text", ["", "fly", "PUBLISH", "publish,", "resumed"])
    def test_refuse_modes_that_do_not_exist(self, text: str) -> None:
        code, message = refused(modes=text)
        assert code == 40000
        assert "is none of presence, publish, subscribe" in message
