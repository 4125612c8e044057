"""Presence as a client says it: what reaches the log, and what is refused."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import error
from fanout.session.effects import Attach, Leave, Present, Sync
from fanout.session.limits import Limits
from fanout.session.ports import Outcome
from fanout.session.resume import ConnectionState
from fanout.types import PresenceEvent
from fanout.wire import MSGPACK, ClientFrame, ClientPresence, Flag
from tests.support.conversation import CONNECTION_ID, Conversation, FakePlan, error_code, frames, only_frame
from tests.unit.session.test_any_frames import EVENTS, UNHURRIED

ENTER, LEAVE, UPDATE = 2, 3, 4


def say(client: Conversation, *events: dict[str, Any], msg_serial: int = 0, channel: str = "news") -> list[Any]:
    return client.say(action=14, channel=channel, msgSerial=msg_serial, presence=list(events))


def entering(client: Conversation, *events: dict[str, Any], **fields: Any) -> Present:
    """What an attached client's presence frame asks to be written."""
    client.attach()
    (effect,) = say(client, *events, **fields)
    assert isinstance(effect, Present)
    return effect


def refusal(client: Conversation, *events: dict[str, Any], **fields: Any) -> tuple[int, int]:
    """The error of the NACK that a presence frame gets, and nothing of which is written."""
    frame = only_frame(say(client, *events, **fields))
    assert (frame["action"], frame["msgSerial"], frame["count"]) == (2, 0, 1)
    return error_code(frame)


class TestAnEvent:
    def test_goes_to_the_log_with_all_that_its_client_said(self) -> None:
        effect = entering(
            Conversation(client_id="bob"),
            {"action": ENTER, "data": "hé", "encoding": "x", "extras": {"a": 1}},
            {"action": UPDATE, "data": "aGk=", "encoding": "base64"},
            {"action": LEAVE},
            msg_serial=7,
        )
        event_id = f"{CONNECTION_ID}:7:"
        assert effect == Present(
            7,
            "news",
            [
                PresenceEvent("enter", event_id + "0", "bob", "hé", "x", {"a": 1}, size=13),
                PresenceEvent("update", event_id + "1", "bob", b"hi", size=5),
                PresenceEvent("leave", event_id + "2", "bob", size=3),
            ],
            size=21,
        )

    def test_says_which_generation_of_its_connection_it_is_of(self) -> None:
        state = ConnectionState(CONNECTION_ID, Limits())
        state.generation = 3
        effect = entering(Conversation(client_id="bob", state=state), {"action": ENTER})
        assert effect.events == [PresenceEvent("enter", f"{CONNECTION_ID}:0:0", "bob", size=3, generation=3)]

    def test_of_an_old_client_that_says_present_is_an_enter(self) -> None:
        assert entering(Conversation(client_id="bob"), {"action": 1}).events[0].action == "enter"

    def test_is_read_for_the_connections_wire(self) -> None:
        client = Conversation(client_id="bob", wire=MSGPACK)
        client.attach()
        frame = ClientFrame(14, "news", msg_serial=0, presence=[ClientPresence(action=ENTER, data=b"\x00")])
        (effect,) = client.hand(frame)
        assert isinstance(effect, Present)
        assert effect.events[0].data == b"\x00"

    def test_may_be_anybodys_where_the_client_may_be_anybody(self) -> None:
        effect = entering(Conversation(), {"action": ENTER, "clientId": "a"}, {"action": ENTER, "clientId": "b"})
        assert [event.client_id for event in effect.events] == ["a", "b"]

    def test_to_a_qualified_name_reaches_the_channel(self) -> None:
        client = Conversation(client_id="bob")
        client.attach("[?rewind=1]news")
        (effect,) = say(client, {"action": ENTER}, channel="[?rewind=1]news")
        assert isinstance(effect, Present)
        assert effect.channel == "news"

    def test_is_answered_in_the_order_of_the_frames(self) -> None:
        client = Conversation(client_id="bob")
        client.publish(0)
        client.attach()
        say(client, {"action": ENTER}, msg_serial=1)
        assert client.session.published(1, [None]) == []
        (ack,) = frames(client.confirm(0, "s"))
        assert ack == {"action": 1, "msgSerial": 0, "count": 2, "res": [{"serials": ["s"]}, {"serials": [None]}]}

    def test_is_refused_when_the_channel_is_full(self) -> None:
        client = Conversation(client_id="bob")
        entering(client, {"action": ENTER})
        assert error_code(only_frame(client.session.refused(0, error(91003)))) == (91003, 400)

    def test_that_is_sent_again_is_not_written_again(self) -> None:
        client = Conversation(client_id="bob")
        entering(client, {"action": ENTER})
        client.session.published(0, [None])
        assert frames(say(client, {"action": ENTER})) == [
            {"action": 1, "msgSerial": 0, "count": 1, "res": [{"serials": [None]}]}
        ]


class TestTheId:
    @pytest.mark.parametrize("kept", [f"{CONNECTION_ID}:0:0", f"{CONNECTION_ID}:0:3"])
    def test_of_a_member_of_this_connection_is_kept(self, kept: str) -> None:
        client = Conversation(client_id="bob")
        entering(client, {"action": ENTER})
        (effect,) = say(client, {"action": ENTER, "id": kept}, msg_serial=1)
        assert isinstance(effect, Present)
        assert effect.events[0].id == kept

    @pytest.mark.parametrize("future", [1, 2**63 - 1])
    def test_that_is_yet_to_come_is_replaced(self, future: int) -> None:
        event = {"action": ENTER, "id": f"{CONNECTION_ID}:{future}:0"}
        assert entering(Conversation(client_id="bob"), event).events[0].id == f"{CONNECTION_ID}:0:0"

    @pytest.mark.parametrize(
        "other",
        ["", "x", "ponmlkjihgfedcba:1:0", f"{CONNECTION_ID}:1", f"{CONNECTION_ID}:1:0:0", f"{CONNECTION_ID}:-1:0"],
    )
    def test_of_any_other_form_is_replaced(self, other: str) -> None:
        effect = entering(Conversation(client_id="bob"), {"action": ENTER, "id": other})
        assert effect.events[0].id == f"{CONNECTION_ID}:0:0"


class TestARefusal:
    @pytest.mark.parametrize(
        ("event", "code"),
        [
            ({}, 40000),
            ({"action": 0}, 40000),
            ({"action": 5}, 40000),
            ({"action": "enter"}, 40000),
            ({"action": [2]}, 40000),
            ({"action": ENTER, "clientId": "eve"}, 40012),
            ({"action": ENTER, "clientId": "*"}, 40012),
            ({"action": ENTER, "clientId": 5}, 40012),
            ({"action": ENTER, "data": 5}, 40013),
            ({"action": ENTER, "encoding": "x" * 257}, 40013),
            ({"action": ENTER, "id": 5}, 40031),
            ({"action": ENTER, "extras": 5}, 40032),
            ({"action": ENTER, "data": "x" * 65_536}, 40009),
        ],
    )
    def test_answers_a_bad_event(self, event: dict[str, Any], code: int) -> None:
        assert refusal(Conversation(client_id="bob"), event) == (code, 400)

    def test_answers_a_client_that_is_nobody(self) -> None:
        assert refusal(Conversation(client_id=None), {"action": ENTER}) == (91000, 400)
        assert refusal(Conversation(client_id="*"), {"action": ENTER}) == (91000, 400)
        assert refusal(Conversation(client_id=None), {"action": ENTER, "clientId": "bob"}) == (40012, 400)

    def test_answers_a_frame_without_events_and_one_with_too_many(self) -> None:
        assert refusal(Conversation(client_id="bob")) == (40000, 400)
        small = Limits(messages_per_frame=2)
        assert refusal(Conversation(client_id="bob", limits=small), *[{"action": ENTER}] * 3) == (40034, 400)

    def test_answers_events_that_are_too_large_together(self) -> None:
        small = Limits(message_bytes=100)
        half = {"action": ENTER, "data": "x" * 50}
        assert refusal(Conversation(client_id="b", limits=small), half, half) == (40009, 400)

    def test_answers_a_missing_right(self) -> None:
        client = Conversation(client_id="bob", capability={"*": ["subscribe", "publish"]})
        assert refusal(client, {"action": ENTER}) == (40160, 401)

    def test_answers_a_mode_that_was_not_asked_for(self) -> None:
        client = Conversation(client_id="bob")
        client.attach(flags=Flag.SUBSCRIBE)
        assert refusal(client, {"action": ENTER}) == (40165, 401)

    def test_answers_a_bad_name(self) -> None:
        assert refusal(Conversation(client_id="bob"), {"action": ENTER}, channel=":x") == (40010, 400)

    def test_answers_too_many_channels(self) -> None:
        client = Conversation(client_id="bob", limits=Limits(attachments=1))
        client.attach("other")
        assert refusal(client, {"action": ENTER}) == (90010, 400)


class TestWhoIsNotAttached:
    def test_is_attached_first(self) -> None:
        client = Conversation(client_id="bob")
        attach, present = say(client, {"action": ENTER})
        assert isinstance(attach, Attach)
        assert (attach.spelling, attach.frame["action"]) == ("news", 11)
        assert isinstance(present, Present)

    def test_but_whose_attach_is_under_way_is_not_attached_twice(self) -> None:
        client = Conversation(FakePlan(Outcome.AHEAD), FakePlan(Outcome.RESUMED), client_id="bob")
        client.attach(channelSerial="later")
        (effect,) = say(client, {"action": ENTER})
        assert isinstance(effect, Present)


class TestAskingForTheSet:
    def test_sends_it_once_more(self) -> None:
        client = Conversation()
        client.attach("other")
        client.attach()
        assert client.say(action=16, channel="news") == [Sync(2)]

    def test_is_nothing_where_presence_is_not_given(self) -> None:
        client = Conversation(capability={"news": ["publish", "presence"]})
        client.attach()
        assert client.say(action=16, channel="news") == []
        assert client.say(action=16, channel="elsewhere") == []


class TestLeaving:
    def test_a_channel_takes_the_members_out_first(self) -> None:
        client = Conversation()
        client.attach()
        leave, detach = client.say(action=12, channel="news")
        assert leave == Leave("news")
        assert only_frame([detach])["action"] == 13

    def test_one_of_two_spellings_leaves_the_members_where_they_are(self) -> None:
        client = Conversation()
        client.attach()
        client.attach("[?rewind=1]news")
        assert Leave("news") not in client.say(action=12, channel="news")
        assert Leave("news") in client.say(action=12, channel="[?rewind=1]news")

    def test_a_client_that_can_have_no_members_takes_none_out(self) -> None:
        client = Conversation(capability={"*": ["subscribe"]})
        client.attach()
        (detach,) = client.say(action=12, channel="news")
        assert only_frame([detach])["action"] == 13

    def test_a_channel_that_fails_takes_the_members_out_too(self) -> None:
        client = Conversation()
        client.attach()
        effects = client.attach(params={"rewind": "x"})
        assert effects[0] == Leave("news")
        assert only_frame(effects)["action"] == 9


CODES = {40000, 40012, 40013, 40031, 40032, 91000}


@UNHURRIED
@given(st.none() | st.lists(EVENTS, max_size=3), st.sampled_from([None, "*", "bob"]))
def test_whatever_is_said_is_written_or_refused_with_a_documented_code(
    events: list[ClientPresence] | None, client_id: str | None
) -> None:
    client = Conversation(client_id=client_id)
    client.attach()
    (effect,) = client.hand(ClientFrame(14, "news", msg_serial=0, presence=events))
    if isinstance(effect, Present):
        assert len(effect.events) == len(events or [])
        for event in effect.events:
            assert event.action in ("enter", "update", "leave")
            assert event.client_id not in ("", "*")
            assert event.id.startswith(CONNECTION_ID)
    else:
        assert error_code(only_frame([effect]))[0] in CODES
