"""Annotations: what a client may say about messages, and what is handed on."""

from typing import Any

import pytest

from fanout.session.effects import Change
from fanout.session.limits import Limits
from fanout.types import OutAnnotation
from fanout.wire import Flag
from tests.support.conversation import CONNECTION_ID, Conversation, error_code, only_frame

ANNOTATION = 21


def say(client: Conversation, *annotations: dict[str, Any]) -> Any:
    sent = [{"messageSerial": "s", "type": "likes:total.v1", **annotation} for annotation in annotations]
    return client.say(action=ANNOTATION, channel="news", msgSerial=0, annotations=sent)


def asked(client: Conversation, **fields: Any) -> OutAnnotation:
    """What is handed on of an annotation with these fields."""
    (effect,) = say(client, fields)
    assert isinstance(effect, Change)
    (annotation,) = effect.changes
    assert isinstance(annotation, OutAnnotation)
    return annotation


def refusal(client: Conversation, *annotations: dict[str, Any]) -> int:
    """The number of the NACK that a first frame gets."""
    frame = only_frame(say(client, *annotations))
    assert (frame["action"], frame["msgSerial"]) == (2, 0)
    return error_code(frame)[0]


class TestAnAnnotation:
    def test_is_handed_on_with_all_it_says(self) -> None:
        said = asked(Conversation(), type="vote:multiple.v1", name="up", count=3, clientId="bob", data="x", action=0)
        assert said == OutAnnotation(
            "s", "vote:multiple.v1", f"{CONNECTION_ID}:0:0", name="up", count=3, data="x", client_id="bob",
            connection_id=CONNECTION_ID,
        )  # fmt: skip

    def test_may_take_back_what_was_said(self) -> None:
        assert asked(Conversation(), action=1).deletes

    def test_is_by_who_the_client_is(self) -> None:
        assert asked(Conversation(client_id="bob"), type="seen:flag.v1").client_id == "bob"

    def test_may_be_of_a_type_that_is_not_summed_up(self) -> None:
        assert asked(Conversation(), type="receipt").type == "receipt"

    def test_comes_with_others_under_ids_of_their_own(self) -> None:
        (effect,) = say(Conversation(), {}, {})
        assert [one.id for one in effect.changes] == [f"{CONNECTION_ID}:0:0", f"{CONNECTION_ID}:0:1"]


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"messageSerial": None}, 40003),
            ({"messageSerial": 1}, 40003),
            ({"type": None}, 40000),
            ({"type": ""}, 40000),
            ({"type": "t" * 257}, 40000),
            ({"action": 2}, 40000),
            ({"action": "0"}, 40000),
            ({"type": "a:distinct.v1", "clientId": "bob"}, 40000),
            ({"type": "a:multiple.v1", "name": ""}, 40000),
            ({"name": 1}, 40000),
            ({"count": -1}, 40000),
            ({"count": True}, 40000),
            ({"count": 1 << 40}, 40000),
            ({"type": "a:flag.v1"}, 40161),
            ({"clientId": "*"}, 40012),
            ({"data": 1}, 40013),
            ({"encoding": "e" * 257, "data": "x"}, 40013),
            ({"extras": "x"}, 40032),
            ({"id": ""}, 40031),
        ],
    )
    def test_is_what_makes_no_sense(self, fields: dict[str, Any], code: int) -> None:
        assert refusal(Conversation(), fields) == code

    def test_is_a_frame_without_any(self) -> None:
        assert refusal(Conversation()) == 40000

    def test_is_more_than_there_may_be(self) -> None:
        client = Conversation(limits=Limits(annotations_per_frame=2))
        assert refusal(client, {}, {}, {}) == 40034

    def test_is_what_is_too_large(self) -> None:
        client = Conversation(limits=Limits(message_bytes=100, bytes_in_flight=150))
        assert refusal(client, {"data": "x" * 60}, {"data": "x" * 60}) == 40009

    def test_is_who_has_no_right_to_it(self) -> None:
        assert refusal(Conversation(capability={"news": ["publish", "subscribe"]}), {}) == 40160

    def test_is_who_attached_without_the_mode(self) -> None:
        client = Conversation()
        client.attach(flags=Flag.PUBLISH)
        assert refusal(client, {}) == 40165
