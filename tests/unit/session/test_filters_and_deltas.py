"""Attachments that are given some messages of a channel, or what is other in each."""

import base64

import pytest

from fanout.errors import ClientError
from fanout.session.modes import parse_params
from fanout.session.ports import Outcome
from fanout.wire import Flag
from tests.support.conversation import Conversation, FakePlan, frames, only_attach, only_frame

ERROR, NACK = 9, 2


def filtered(expression: str, params: str = "") -> str:
    return f"[filter={base64.b64encode(expression.encode()).decode()}{params}]news"


class TestADelta:
    def test_is_asked_for_by_a_parameter_and_told_back(self) -> None:
        talk = Conversation()
        for effect in (
            only_attach(talk.attach(params={"delta": "vcdiff"})),
            only_attach(talk.attach("[?delta=vcdiff]news")),
        ):
            assert effect.delta
            assert effect.frame["params"] == {"delta": "vcdiff"}
        assert not only_attach(talk.attach("sport")).delta

    @pytest.mark.parametrize("value", ["", "true", "VCDIFF", "bsdiff"])
    def test_of_another_format_is_refused(self, value: str) -> None:
        with pytest.raises(ClientError) as caught:
            parse_params({"delta": value})
        assert caught.value.info.code == 40000

    def test_goes_on_after_continuity_was_lost(self) -> None:
        talk = Conversation()
        first = only_attach(talk.attach(params={"delta": "vcdiff"}))
        assert only_attach(talk.session.lost(first.attachment, talk.now_ms)).delta

    def test_that_a_client_could_not_apply_brings_it_back_to_where_it_was(self) -> None:
        talk = Conversation(FakePlan(), FakePlan(outcome=Outcome.RESUMED, backlog=2))
        first = only_attach(talk.attach(params={"delta": "vcdiff"}))
        again = only_attach(talk.attach(params={"delta": "vcdiff"}, channelSerial="the last good one"))
        assert (again.attachment, again.delta) == (first.attachment, True)
        assert again.frame["flags"] & Flag.RESUMED
        assert talk.channels.asked[-1] == ("news", "the last good one", 0, 0)


class TestAFilteredChannel:
    def test_is_the_channel_with_a_filter_and_its_own_spelling(self) -> None:
        talk = Conversation()
        effect = only_attach(talk.attach(filtered("name == 'goal'", "?rewind=1"), params={"delta": "vcdiff"}))
        assert (effect.filter, effect.delta) == ("name == 'goal'", True)
        assert effect.spelling == effect.frame["channel"] == filtered("name == 'goal'", "?rewind=1")
        assert talk.channels.asked == [("news", None, 1, 0)]
        assert only_attach(talk.attach()).filter is None

    def test_is_subscribed_to_and_nothing_else(self) -> None:
        effect = only_attach(Conversation().attach(filtered("name")))
        assert effect.frame["flags"] == Flag.SUBSCRIBE
        assert effect.kinds == 1

    def test_needs_the_right_to_subscribe(self) -> None:
        frame = only_frame(Conversation(capability={"news": ["publish"]}).attach(filtered("name")))
        assert frame["error"]["code"] == 40160

    def test_that_is_not_asked_to_be_subscribed_to_is_refused(self) -> None:
        frame = only_frame(Conversation().attach(filtered("name"), flags=int(Flag.PUBLISH)))
        assert frame["error"]["code"] == 40160

    @pytest.mark.parametrize("spelling", [filtered("name =="), "[filter=%]news", "[filter=]"])
    def test_with_a_filter_that_is_none_fails_and_the_connection_lives(self, spelling: str) -> None:
        talk = Conversation()
        frame = only_frame(talk.attach(spelling))
        assert (frame["action"], frame["channel"]) == (ERROR, spelling)
        assert (frame["error"]["code"], frame["error"]["statusCode"]) == (40010, 400)
        assert only_attach(talk.attach()).spelling == "news"

    @pytest.mark.parametrize("attached", [True, False])
    def test_is_not_published_on(self, attached: bool) -> None:
        talk = Conversation()
        if attached:
            talk.attach(filtered("name"))
        answer = frames(talk.publish(0, channel=filtered("name")))[-1]
        assert (answer["action"], answer["error"]["code"]) == (NACK, 40010)

    def test_goes_on_filtered_after_continuity_was_lost(self) -> None:
        talk = Conversation()
        first = only_attach(talk.attach(filtered("name")))
        assert only_attach(talk.session.lost(first.attachment, talk.now_ms)).filter == "name"
