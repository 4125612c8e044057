"""Changing messages: what a client may ask for, and what is handed on."""

from typing import Any

import pytest

from fanout.session.effects import Change
from fanout.session.limits import Limits
from fanout.types import OutChange
from fanout.wire import Flag
from tests.support.conversation import CONNECTION_ID, Conversation, error_code, frames, only_frame

SMALL = Limits(message_bytes=100, bytes_in_flight=150)


def asked(client: Conversation, **fields: Any) -> OutChange:
    """What is handed on of a change with these fields."""
    (effect,) = client.publish(0, {"action": 1, "serial": "s", **fields})
    assert isinstance(effect, Change)
    (change,) = effect.changes
    assert isinstance(change, OutChange)
    return change


def refusal(client: Conversation, *messages: dict[str, Any], **fields: Any) -> int:
    """The number of the NACK that a first frame gets."""
    frame = only_frame(client.publish(0, *messages, **fields))
    assert (frame["action"], frame["msgSerial"]) == (2, 0)
    return error_code(frame)[0]


def nested(depth: int) -> dict[str, Any]:
    """Objects within each other."""
    return {"a": nested(depth - 1)} if depth else {}


class TestAChange:
    @pytest.mark.parametrize(("number", "action"), [(1, "update"), (2, "delete"), (5, "append")])
    def test_is_handed_on_with_what_it_changes_alone(self, number: int, action: str) -> None:
        change = asked(Conversation(), action=number, data="new")
        assert change == OutChange(action, "s", f"{CONNECTION_ID}:0:0", "new", connection_id=CONNECTION_ID)

    def test_says_who_did_it_and_why(self) -> None:
        version = {"clientId": "bob", "description": "typo", "metadata": {"a": "b"}, "serial": "no say of the client's"}
        del (expected := dict(version))["serial"]
        assert asked(Conversation(), version=version).version == expected

    def test_is_done_by_who_the_client_is(self) -> None:
        assert asked(Conversation(client_id="bob")).version == {"clientId": "bob"}
        assert (
            refusal(Conversation(client_id="bob"), {"action": 1, "serial": "s", "version": {"clientId": "eve"}})
            == 40012
        )

    def test_is_confirmed_with_the_serial_of_the_version(self) -> None:
        client = Conversation()
        client.publish(0, {"action": 1, "serial": "s"})
        assert only_frame(client.confirm(0, "v"))["res"] == [{"serials": ["v"]}]

    def test_that_is_sent_again_is_answered_again(self) -> None:
        client = Conversation()
        client.publish(0, {"action": 5, "serial": "s", "data": "more"})
        client.confirm(0, "v")
        assert only_frame(client.publish(0, {"action": 5, "serial": "s", "data": "more"}))["res"] == [
            {"serials": ["v"]}
        ]

    def test_keeps_its_turn_among_publishes(self) -> None:
        client = Conversation()
        client.publish(0, {"action": 1, "serial": "s"})
        client.publish(1)
        assert frames(client.confirm(1)) == []
        assert only_frame(client.confirm(0))["count"] == 2


class TestRights:
    @pytest.mark.parametrize(
        ("action", "right"),
        [(1, "message-update-any"), (5, "message-update-any"), (2, "message-delete-any")],
    )
    def test_to_change_any_message_are_enough(self, action: int, right: str) -> None:
        client = Conversation(capability={"news": [right]}, client_id=None)
        assert asked(client, action=action, data="x").owner is None

    @pytest.mark.parametrize(
        ("action", "right"),
        [(1, "message-update-own"), (5, "message-update-own"), (2, "message-delete-own")],
    )
    def test_to_change_ones_own_name_whose_that_is(self, action: int, right: str) -> None:
        client = Conversation(capability={"news": [right]}, client_id="bob")
        assert asked(client, action=action, data="x").owner == "bob"

    @pytest.mark.parametrize("client_id", [None, "*"])
    def test_to_change_ones_own_are_of_no_use_to_nobody_in_particular(self, client_id: str | None) -> None:
        client = Conversation(capability={"news": ["message-update-own"]}, client_id=client_id)
        assert refusal(client, {"action": 1, "serial": "s"}) == 40161

    @pytest.mark.parametrize(
        ("action", "rights"),
        [(1, ["publish", "message-delete-any"]), (2, ["publish", "message-update-any"]), (5, ["publish"])],
    )
    def test_are_needed(self, action: int, rights: list[str]) -> None:
        client = Conversation(capability={"news": rights})
        assert refusal(client, {"action": action, "serial": "s", "data": "x"}) == 40160

    def test_do_not_help_on_a_channel_attached_without_the_mode(self) -> None:
        client = Conversation()
        client.attach(flags=Flag.SUBSCRIBE)
        assert refusal(client, {"action": 1, "serial": "s"}) == 40165


class TestRefused:
    @pytest.mark.parametrize(
        ("fields", "code"),
        [
            ({"serial": None}, 40003),
            ({"serial": ""}, 40003),
            ({"serial": 7}, 40003),
            ({"serial": "s" * 321}, 40003),
            ({"version": "x"}, 40003),
            ({"version": {"description": 1}}, 40003),
            ({"version": {"metadata": nested(40)}}, 40003),
            ({"version": {"clientId": "*"}}, 40012),
            ({"name": 1}, 40016),
            ({"data": 1}, 40013),
            ({"extras": []}, 40032),
            ({"id": 1}, 40031),
            ({"action": 5}, 40013),
            ({"action": 5, "data": "{}", "encoding": "json"}, 40013),
        ],
    )
    def test_is_what_makes_no_sense(self, fields: dict[str, Any], code: int) -> None:
        assert refusal(Conversation(), {"action": 1, "serial": "s", **fields}) == code

    def test_is_more_than_one_change_in_a_frame(self) -> None:
        change = {"action": 1, "serial": "s"}
        assert refusal(Conversation(), change, change) == 40000
        assert refusal(Conversation(), {"data": "new"}, change) == 40000

    @pytest.mark.parametrize("fields", [{"data": "x" * 101}, {"version": {"description": "x" * 101}}])
    def test_is_what_is_too_large(self, fields: dict[str, Any]) -> None:
        assert refusal(Conversation(limits=SMALL), {"action": 1, "serial": "s", **fields}) == 40009
