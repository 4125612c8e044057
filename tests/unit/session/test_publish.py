"""Publishing: what reaches the log, and answers in the order of the frames."""

from typing import Any

import pytest

from fanout.errors import error
from fanout.session.effects import Publish, Reply
from fanout.session.limits import Limits
from fanout.types import OutMessage
from fanout.wire import MSGPACK, ClientFrame, ClientMessage, Flag
from tests.support.conversation import CONNECTION_ID, Conversation, error_code, frames, only_close, only_frame

SMALL = Limits(
    message_bytes=100,
    messages_per_frame=5,
    bytes_in_flight=150,
    messages_in_flight=10,
    answers_waiting=20,
    answers_kept=3,
)


def ack(msg_serial: int, *serials: list[str]) -> dict[str, Any]:
    res = [{"serials": one} for one in serials]
    return {"action": 1, "msgSerial": msg_serial, "count": len(res), "res": res}


def refusal(client: Conversation, *messages: dict[str, Any], **fields: Any) -> tuple[int, int]:
    """The error of the NACK that a first publish gets, and nothing of which reaches the log."""
    frame = only_frame(client.publish(0, *messages, **fields))
    assert (frame["action"], frame["msgSerial"], frame["count"]) == (2, 0, 1)
    assert client.published == []
    return error_code(frame)


class TestAPublish:
    def test_goes_to_the_log_under_ids_that_stay_the_same(self) -> None:
        (effect,) = Conversation().publish(7, {"data": "a"}, {"data": "b"})
        assert effect == Publish(
            7,
            "news",
            [
                OutMessage(f"{CONNECTION_ID}:7:0", "a", connection_id=CONNECTION_ID),
                OutMessage(f"{CONNECTION_ID}:7:1", "b", connection_id=CONNECTION_ID),
            ],
            size=2,
        )

    def test_carries_the_identity_of_the_client(self) -> None:
        client = Conversation(client_id="bob")
        client.publish(0)
        assert client.published[0].messages[0].client_id == "bob"

    def test_is_read_for_the_connections_wire(self) -> None:
        client = Conversation(wire=MSGPACK)
        client.hand(ClientFrame(15, "news", msg_serial=0, messages=[ClientMessage(data=b"\x00")]))
        assert client.published[0].messages[0].data == b"\x00"

    def test_is_confirmed_only_when_the_log_has_it(self) -> None:
        client = Conversation()
        assert frames(client.publish(0)) == []
        assert frames(client.confirm(0, "s")) == [ack(0, ["s"])]

    def test_is_refused_when_the_log_refuses_it(self) -> None:
        client = Conversation()
        client.publish(0)
        frame = only_frame(client.session.refused(0, error(50003)))
        assert (frame["action"], frame["msgSerial"], frame["count"], error_code(frame)) == (2, 0, 1, (50003, 500))

    def test_to_a_qualified_name_reaches_the_channel(self) -> None:
        client = Conversation()
        client.publish(0, channel="[?rewind=1]news")
        assert client.published[0].channel == "news"

    def test_needs_no_attachment(self) -> None:
        client = Conversation(capability={"news": ["publish"]})
        client.publish(0)
        assert len(client.published) == 1


class TestANack:
    def test_answers_a_bad_name(self) -> None:
        assert refusal(Conversation(), channel=":x") == (40010, 400)
        assert refusal(Conversation(), channel="[filter=eA==]news") == (40010, 400)

    def test_answers_a_missing_right(self) -> None:
        assert refusal(Conversation(capability={"*": ["subscribe"]})) == (40160, 401)

    def test_answers_a_mode_that_was_not_asked_for(self) -> None:
        client = Conversation()
        client.attach(flags=Flag.SUBSCRIBE)
        assert error_code(only_frame(client.publish(0))) == (40165, 401)

    def test_answers_a_mode_that_was_asked_for_and_is_not_allowed(self) -> None:
        client = Conversation(capability={"*": ["subscribe"]})
        client.attach(flags=Flag.SUBSCRIBE | Flag.PUBLISH)
        assert error_code(only_frame(client.publish(0))) == (40160, 401)

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            ({"data": 5}, 40013),
            ({"name": 5}, 40016),
            ({"clientId": "*"}, 40012),
            ({"id": ""}, 40031),
            ({"extras": []}, 40032),
            ({"action": 3}, 93002),
            ({"data": "x" * 65_537}, 40009),
        ],
    )
    def test_answers_a_bad_message(self, message: dict[str, Any], code: int) -> None:
        assert refusal(Conversation(), message) == (code, 400)

    def test_answers_too_many_messages(self) -> None:
        assert refusal(Conversation(), *[{}] * 1_001) == (40034, 400)

    def test_answers_a_publish_of_nothing(self) -> None:
        client = Conversation()
        frame = only_frame(client.say(action=15, channel="news", msgSerial=0))
        assert (frame["action"], error_code(frame)) == (2, (40000, 400))

    @pytest.mark.parametrize("value", [True, "true"])
    def test_answers_who_asks_for_one(self, value: Any) -> None:
        assert refusal(Conversation(), params={"_forceNack": value}) == (40099, 400)

    @pytest.mark.parametrize(("action", "code"), [(19, (40160, 401))])
    def test_answers_what_is_not_offered(self, action: int, code: tuple[int, int]) -> None:
        client = Conversation()
        frame = only_frame(client.say(action=action, channel="news", msgSerial=0, presence=[{"action": 2}]))
        assert (frame["action"], frame["msgSerial"], error_code(frame)) == (2, 0, code)


class TestAnswers:
    def test_leave_in_the_order_of_the_frames(self) -> None:
        client = Conversation()
        for serial in range(3):
            client.publish(serial)
        assert client.confirm(2) == []
        assert client.confirm(1) == []
        assert frames(client.confirm(0)) == [ack(0, ["s0"], ["s1"], ["s2"])]

    def test_are_merged_only_with_their_neighbours(self) -> None:
        client = Conversation()
        for serial in range(5):
            client.publish(serial)
        for serial in (4, 3, 1):
            client.confirm(serial)
        client.session.refused(2, error(50003))
        sent = frames(client.confirm(0))
        assert [(one["action"], one["msgSerial"], one["count"]) for one in sent] == [(1, 0, 2), (2, 2, 1), (1, 3, 2)]

    def test_wait_for_earlier_ones_also_when_refused_at_once(self) -> None:
        client = Conversation()
        client.publish(0)
        assert client.publish(1, {"data": 5}) == []
        assert client.say(action=14, channel="news", msgSerial=2) == []
        sent = frames(client.confirm(0))
        assert [(one["action"], one["msgSerial"]) for one in sent] == [(1, 0), (2, 1), (2, 2)]

    def test_hold_the_serial_of_every_message(self) -> None:
        client = Conversation()
        client.publish(0, {}, {})
        assert frames(client.confirm(0, "s0", "s1")) == [ack(0, ["s0", "s1"])]

    def test_are_given_once(self) -> None:
        client = Conversation()
        client.publish(0)
        client.confirm(0)
        assert client.confirm(0) == []
        assert client.session.refused(0, error(50003)) == []

    def test_to_what_was_never_asked_are_ignored(self) -> None:
        assert Conversation().confirm(9) == []


class TestTheSequence:
    @pytest.mark.parametrize("first", [0, 1, 5_000])
    def test_begins_anywhere(self, first: int) -> None:
        client = Conversation()
        client.publish(first)
        client.publish(first + 1)
        assert [one.msg_serial for one in client.published] == [first, first + 1]

    def test_with_a_gap_ends_the_connection(self) -> None:
        client = Conversation()
        client.publish(0)
        effects = client.publish(2)
        frame = only_frame(effects)
        assert (frame["action"], error_code(frame)) == (9, (40000, 400))
        assert frame["error"]["message"] == "bad request: msgSerial 2 where 1 was due"
        assert not only_close(effects).resumable

    @pytest.mark.parametrize("action", [14, 15, 19, 21])
    def test_needs_a_number(self, action: int) -> None:
        effects = Conversation().say(action=action, channel="news", messages=[{}])
        assert error_code(only_frame(effects)) == (40000, 400)
        assert not only_close(effects).resumable

    def test_answers_a_repeat_again_without_writing_it_again(self) -> None:
        client = Conversation()
        client.publish(0)
        client.confirm(0, "s")
        assert frames(client.publish(0)) == [ack(0, ["s"])]
        assert len(client.published) == 1

    def test_answers_a_repeat_of_a_refusal_with_the_refusal(self) -> None:
        client = Conversation()
        first = frames(client.say(action=14, channel="news", msgSerial=0))
        assert frames(client.say(action=14, channel="news", msgSerial=0)) == first

    def test_answers_a_repeat_of_what_still_waits_once(self) -> None:
        client = Conversation()
        client.publish(0)
        assert client.publish(0) == []
        assert frames(client.confirm(0, "s")) == [ack(0, ["s"])]
        assert len(client.published) == 1


class TestBounds:
    def test_messages_in_flight(self) -> None:
        client = Conversation(limits=SMALL)
        client.publish(0, *[{}] * 5)
        client.publish(1, *[{}] * 5)
        client.publish(2)
        client.confirm(1)
        sent = frames(client.confirm(0))
        assert [one["action"] for one in sent] == [1, 2]
        assert error_code(sent[1]) == (42911, 429)
        client.publish(3)
        assert client.published[-1].msg_serial == 3

    def test_bytes_in_flight(self) -> None:
        client = Conversation(limits=SMALL)
        client.publish(0, {"data": "x" * 100})
        client.publish(1, {"data": "x" * 50})
        client.publish(2, {"data": "x"})
        assert [one.msg_serial for one in client.published] == [0, 1]
        client.confirm(1)
        sent = frames(client.confirm(0))
        assert [one["action"] for one in sent] == [1, 2]
        assert error_code(sent[1]) == (42911, 429)
        client.publish(3, {"data": "x" * 100})
        assert client.published[-1].msg_serial == 3

    def test_answers_that_wait_for_an_earlier_one(self) -> None:
        client = Conversation(limits=SMALL)
        for serial in range(20):
            assert all(
                not isinstance(effect, Reply) for effect in client.publish(serial, {"data": 5} if serial else {})
            )
        effects = client.publish(20)
        frame = only_frame(effects)
        assert (frame["action"], error_code(frame)) == (6, (42924, 429))
        assert only_close(effects).resumable

    def test_answers_kept_for_a_repeat(self) -> None:
        client = Conversation(limits=SMALL)
        for serial in range(5):
            client.publish(serial)
            client.confirm(serial)
        assert [len(frames(client.publish(serial))) for serial in (2, 3, 4)] == [1, 1, 1]
        (again,) = client.publish(1)
        assert again == client.published[1], "written again under the same ids"

    def test_an_answer_that_waits_is_never_forgotten(self) -> None:
        client = Conversation(limits=SMALL)
        client.publish(0)
        for serial in range(1, 9):
            client.publish(serial)
            client.confirm(serial)
        assert frames(client.confirm(0))[0]["count"] == 9
