"""What a client may publish, message by message."""

from typing import Any

import pytest

from fanout.auth.capabilities import EVERYTHING
from fanout.errors import ClientError
from fanout.session.limits import Limits
from fanout.session.messages import Checked, check_messages
from fanout.types import Identity, OutMessage
from fanout.wire import JSON, MSGPACK, ClientMessage

OWN, OTHER = "abcdefghijklmnop", "ABCDEFGHIJKLMNOP"


def check(
    *messages: ClientMessage,
    client_id: str | None = "*",
    wire: int = MSGPACK,
    limits: Limits | None = None,
    connection_id: str | None = OWN,
) -> Checked:
    return check_messages(
        messages,
        wire=wire,
        identity=Identity("app.key", client_id, EVERYTHING),
        connection_id=connection_id,
        id_base="base",
        limits=limits or Limits(),
    )


def refused(*messages: ClientMessage, **how: Any) -> int:
    with pytest.raises(ClientError) as caught:
        check(*messages, **how)
    return caught.value.info.code


def ids(*given: str | None, **how: Any) -> list[str]:
    return [message.id for message in check(*(ClientMessage(id=one) for one in given), **how).messages]


class TestAMessage:
    def test_is_taken_as_it_is_and_completed(self) -> None:
        sent = ClientMessage(name="n", data="d", encoding="e", client_id="bob", extras={"headers": {"a": 1}})
        assert check(sent).messages == [OutMessage("base:0", "d", "n", "e", "bob", OWN, {"headers": {"a": 1}})]

    def test_may_be_empty(self) -> None:
        assert check(ClientMessage()) == ([OutMessage("base:0", None, connection_id=OWN)], 0)

    def test_is_decoded_for_its_wire(self) -> None:
        assert check(ClientMessage(data="AP8=", encoding="base64"), wire=JSON).messages[0].data == b"\x00\xff"
        assert check(ClientMessage(data={"a": 1}), wire=JSON).messages[0].encoding == "json"

    @pytest.mark.parametrize("action", [None, 0])
    def test_is_new(self, action: int | None) -> None:
        assert check(ClientMessage(action=action)).messages

    @pytest.mark.parametrize("action", [1, 2, 5, "0", -1])
    def test_that_changes_another_is_refused(self, action: Any) -> None:
        assert refused(ClientMessage(action=action)) == 93002

    def test_with_a_bad_name_is_refused(self) -> None:
        assert refused(ClientMessage(name=5)) == 40016

    def test_with_bad_data_is_refused(self) -> None:
        assert refused(ClientMessage(data=5)) == 40013

    def test_with_a_bad_or_endless_encoding_is_refused(self) -> None:
        assert refused(ClientMessage(data="x", encoding=5)) == 40013
        assert check(ClientMessage(encoding="x" * 256)).messages
        assert refused(ClientMessage(encoding="x" * 257)) == 40013

    @pytest.mark.parametrize("extras", ["text", [], 5, {"a": b"bytes"}, {1: 2}, {"a": 2**70}])
    def test_with_extras_that_are_no_json_object_is_refused(self, extras: Any) -> None:
        assert refused(ClientMessage(extras=extras)) == 40032


class TestTheClientId:
    @pytest.mark.parametrize(
        ("identity", "given", "stored"),
        [("*", None, None), ("*", "bob", "bob"), ("bob", None, "bob"), ("bob", "bob", "bob"), (None, None, None)],
    )
    def test_is_the_identitys_or_one_it_may_speak_as(
        self, identity: str | None, given: str | None, stored: str | None
    ) -> None:
        assert check(ClientMessage(client_id=given), client_id=identity).messages[0].client_id == stored

    @pytest.mark.parametrize(
        ("identity", "given"), [("bob", "eve"), (None, "bob"), ("*", "*"), ("*", ""), ("*", 5), ("*", "x" * 257)]
    )
    def test_of_anybody_else_is_refused(self, identity: str | None, given: Any) -> None:
        assert refused(ClientMessage(client_id=given), client_id=identity) == 40012


class TestIds:
    def test_are_made_where_none_is_given(self) -> None:
        assert ids(None) == ["base:0"]
        assert ids(None, None, None) == ["base:0", "base:1", "base:2"]

    def test_that_are_given_are_kept(self) -> None:
        assert ids("mine") == ["mine"]
        assert ids("mine:7") == ["mine:7"]
        assert ids("a:b:0", "a:b:1") == ["a:b:0", "a:b:1"]

    @pytest.mark.parametrize("given", [("a", "b"), ("a:1", "a:2"), ("a:0", "b:1"), ("a:0", "a:0"), ("a:0", None)])
    def test_of_several_messages_have_one_base_and_count_up(self, given: tuple[str | None, ...]) -> None:
        assert refused(*(ClientMessage(id=one) for one in given)) == 40031

    @pytest.mark.parametrize("given", ["", 5, b"x", "x" * 257])
    def test_that_cannot_be_one_are_refused(self, given: Any) -> None:
        assert refused(ClientMessage(id=given)) == 40031

    def test_of_the_servers_form_belong_to_the_connection_they_name(self) -> None:
        assert ids(f"{OWN}:5:0") == [f"{OWN}:5:0"]
        assert refused(ClientMessage(id=f"{OTHER}:5:0")) == 40031
        assert refused(ClientMessage(id=f"{OTHER}:5:0"), connection_id=None) == 40031
        assert ids(f"{OTHER}:5:x") == [f"{OTHER}:5:x"]
        assert ids("topic:5:0") == ["topic:5:0"]


class TestThePublishAsAWhole:
    def test_counts_name_client_id_data_and_extras(self) -> None:
        sent = ClientMessage(id="i" * 99, name="ö", data="ä", client_id="bob", encoding="e" * 99, extras={"a": 1})
        assert check(sent).size == 2 + 2 + 3 + 7

    def test_counts_binary_and_not_its_base64(self) -> None:
        assert check(ClientMessage(data="AAAAAAAA", encoding="base64"), wire=JSON).size == 6

    def test_counts_the_client_id_that_is_filled_in(self) -> None:
        assert check(ClientMessage(), client_id="bob").size == 3

    def test_may_be_as_large_as_the_limit_over_all_messages(self) -> None:
        half = ClientMessage(data="x" * 32_768)
        assert check(half, half).size == 65_536
        assert refused(half, half, ClientMessage(data="x")) == 40009

    def test_may_hold_as_many_messages_as_the_limit(self) -> None:
        assert len(check(*[ClientMessage()] * 1_000).messages) == 1_000
        assert refused(*[ClientMessage()] * 1_001) == 40034

    def test_holds_at_least_one_message(self) -> None:
        assert refused() == 40000


@pytest.mark.parametrize(
    ("given", "kept"),
    [({"delta": {"from": "x", "format": "vcdiff"}}, None), ({"delta": 1, "headers": {}}, {"headers": {}})],
)
def test_what_a_received_delta_said_of_itself_is_not_published_again(given: Any, kept: Any) -> None:
    assert check(ClientMessage(data="d", extras=given)).messages[0].extras == kept
