"""The client wires: what is read, what is refused, and that nothing else can happen."""

from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.errors import ClientError
from fanout.wire import FRAME_BYTES, JSON, MSGPACK, Action, ClientFrame, Flag, decode, decode_data, encode

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines that test are busy
WIRES = pytest.mark.parametrize("wire", [JSON, MSGPACK])

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
)


def printed(frame: Any, wire: int) -> bytes:
    return orjson.dumps(frame) if wire == JSON else msgspec.msgpack.encode(frame)


def refused(payload: bytes, wire: int) -> tuple[int, str]:
    with pytest.raises(ClientError) as caught:
        decode(payload, wire)
    return caught.value.info.code, caught.value.info.message


def outcome(payload: bytes, wire: int) -> type | int:
    """What became of any bytes: the type of what was read, or the number of the error."""
    try:
        return type(decode(payload, wire))
    except ClientError as refusal:
        return refusal.info.code


@WIRES
class TestDecode:
    def test_reads_the_fields_a_session_uses(self, wire: int) -> None:
        sent = {
            "action": 15,
            "channel": "news",
            "channelSerial": "here",
            "flags": 1 << 18,
            "params": {"rewind": "1"},
            "msgSerial": 3,
            "id": "x",
            "messages": [{"id": "i", "name": "n", "data": "d", "encoding": "e", "clientId": "c", "extras": {"a": 1}}],
        }
        frame = decode(printed(sent, wire), wire)
        assert (frame.action, frame.channel, frame.channel_serial, frame.flags) == (15, "news", "here", 1 << 18)
        assert (frame.params, frame.msg_serial, frame.id) == ({"rewind": "1"}, 3, "x")
        assert frame.messages is not None
        (message,) = frame.messages
        assert (message.id, message.name, message.data) == ("i", "n", "d")
        assert (message.encoding, message.client_id, message.extras) == ("e", "c", {"a": 1})

    def test_skips_fields_it_does_not_know(self, wire: int) -> None:
        sent = {"action": 0, "objects": [{"action": 2}], "state": {}, "new": {"deep": [1, {}]}}
        assert decode(printed(sent, wire), wire) == ClientFrame(action=0)

    def test_takes_null_for_absent(self, wire: int) -> None:
        sent = {"action": 10, "channel": "a", "params": None, "channelSerial": None, "flags": None, "messages": None}
        assert decode(printed(sent, wire), wire) == ClientFrame(action=10, channel="a")

    def test_reads_a_view_without_copying_it_first(self, wire: int) -> None:
        assert decode(memoryview(printed({"action": 0}, wire)), wire).action == 0

    @pytest.mark.parametrize(
        "sent",
        [
            {},
            [],
            None,
            "text",
            {"action": "0"},
            {"action": 1.5},
            {"action": True},
            {"action": -1},
            {"action": 10, "channel": 5},
            {"action": 10, "channelSerial": []},
            {"action": 10, "flags": "1"},
            {"action": 10, "flags": -1},
            {"action": 10, "params": []},
            {"action": 10, "params": {"rewind": {}}},
            {"action": 15, "msgSerial": -1},
            {"action": 15, "msgSerial": "0"},
            {"action": 15, "messages": {}},
            {"action": 15, "messages": ["text"]},
            {"action": 15, "messages": [None]},
        ],
    )
    def test_refuses_wrong_types(self, wire: int, sent: Any) -> None:
        assert refused(printed(sent, wire), wire)[0] == 40000

    def test_leaves_the_fields_of_a_message_to_its_publish(self, wire: int) -> None:
        frame = decode(printed({"action": 15, "messages": [{"name": 5, "data": 1.5, "clientId": []}]}, wire), wire)
        assert frame.messages is not None
        assert frame.messages[0].name == 5

    def test_refuses_a_frame_beyond_the_limit_and_takes_one_at_it(self, wire: int) -> None:
        spare = len(printed({"action": 0, "pad": "x" * 100_000}, wire)) - 100_000
        assert decode(printed({"action": 0, "pad": "x" * (FRAME_BYTES - spare)}, wire), wire).action == 0
        assert refused(printed({"action": 0, "pad": "x" * (FRAME_BYTES - spare + 1)}, wire), wire)[0] == 40009

    def test_refuses_endless_nesting_in_known_and_unknown_fields(self, wire: int) -> None:
        if wire == JSON:
            nest = b"[" * 200_000
            payloads = [b'{"action":15,"messages":[{"data":' + nest, b'{"action":15,"new":' + nest]
        else:
            nest = b"\x91" * 200_000
            payloads = [
                b"\x82\xa6action\x0f\xa8messages\x91\x81\xa4data" + nest,
                b"\x82\xa6action\x0f\xa3new" + nest,
            ]
        for payload in payloads:
            assert refused(payload, wire) == (40000, "bad request: the frame is nested too deeply")

    @UNHURRIED
    @given(payload=st.binary(max_size=200))
    def test_answers_any_bytes_with_a_frame_or_a_numbered_error(self, wire: int, payload: bytes) -> None:
        assert outcome(payload, wire) in (ClientFrame, 40000)

    @UNHURRIED
    @given(sent=st.dictionaries(st.sampled_from(["action", "channel", "messages", "params", "flags"]), ANYTHING))
    def test_answers_any_map_with_a_frame_or_a_numbered_error(self, wire: int, sent: dict[str, Any]) -> None:
        assert outcome(printed(sent, wire), wire) in (ClientFrame, 40000)


class TestDecodeRefuses:
    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"{",
            b'{"action":0}{}',
            b'{"action":0,"id":"\xff"}',
            b'{"action":0,"id":"\\ud800 alone"}',
            b"\xef\xbb\xbf{}",
        ],
    )
    def test_broken_json(self, payload: bytes) -> None:
        assert refused(payload, JSON)[0] == 40000

    @pytest.mark.parametrize(
        "payload",
        [
            b"",
            b"\xc1",
            b"\x81\xa6action",
            b"\x81\xa6action\x00\x00",  # something follows
            b"\xdf\xff\xff\xff\xff",  # a map of four billion
            b"\x82\xa6action\x0f\xa8messages\xdd\x7f\xff\xff\xff",  # a list of two billion
            b"\x82\xa6action\x00\xa2id\xa2\xed\xa0",  # text that is not UTF-8
        ],
    )
    def test_broken_messagepack(self, payload: bytes) -> None:
        assert refused(payload, MSGPACK)[0] == 40000


class TestEncode:
    def test_prints_actions_and_flags_as_numbers(self) -> None:
        frame = {"action": Action.ATTACHED, "flags": Flag.PUBLISH | Flag.RESUMED}
        assert encode(frame, JSON) == b'{"action":11,"flags":131076}'
        assert msgspec.msgpack.decode(encode(frame, MSGPACK)) == {"action": 11, "flags": 131076}

    def test_carries_binary_on_messagepack_alone(self) -> None:
        assert msgspec.msgpack.decode(encode({"data": b"\x00"}, MSGPACK)) == {"data": b"\x00"}
        with pytest.raises(TypeError):
            encode({"data": b"\x00"}, JSON)


class TestDecodeData:
    def test_keeps_text_and_its_encoding(self) -> None:
        assert decode_data('{"a":1}', "json", JSON) == ('{"a":1}', "json")
        assert decode_data("plain", None, MSGPACK) == ("plain", None)

    def test_keeps_binary(self) -> None:
        assert decode_data(b"\x00\xff", "utf-8/cipher+aes-128-cbc", MSGPACK) == (
            b"\x00\xff",
            "utf-8/cipher+aes-128-cbc",
        )

    def test_keeps_absent_data(self) -> None:
        assert decode_data(None, None, JSON) == (None, None)

    def test_takes_an_empty_encoding_for_none(self) -> None:
        assert decode_data("x", "", JSON) == ("x", None)

    @pytest.mark.parametrize("wire", [JSON, MSGPACK])
    def test_undoes_base64_where_it_is_the_last_step(self, wire: int) -> None:
        assert decode_data("AP8=", "base64", wire) == (b"\x00\xff", None)
        assert decode_data("AP8=", "json/cipher+x/base64", wire) == (b"\x00\xff", "json/cipher+x")

    @pytest.mark.parametrize("wire", [JSON, MSGPACK])
    def test_leaves_base64_alone_elsewhere(self, wire: int) -> None:
        assert decode_data("AP8=", "base64/other", wire) == ("AP8=", "base64/other")
        assert decode_data("AP8=", "xbase64", wire) == ("AP8=", "xbase64")

    def test_leaves_binary_alone_whatever_its_encoding_says(self) -> None:
        assert decode_data(b"AP8=", "base64", MSGPACK) == (b"AP8=", "base64")

    def test_turns_a_bare_object_or_array_into_its_json_text(self) -> None:
        assert decode_data({"a": [1, None]}, None, JSON) == ('{"a":[1,null]}', "json")
        assert decode_data([], "custom", JSON) == ("[]", "custom/json")

    @pytest.mark.parametrize("wire", [JSON, MSGPACK])
    @pytest.mark.parametrize("data", ["not base64!", "!!!", "AP8", "ÄÖ=="])
    def test_refuses_what_claims_to_be_base64(self, data: str, wire: int) -> None:
        with pytest.raises(ClientError) as caught:
            decode_data(data, "base64", wire)
        assert caught.value.info.code == 40013

    @pytest.mark.parametrize(
        ("data", "wire"),
        [(5, JSON), (1.5, JSON), (True, JSON), ({"a": 2**70}, JSON), (5, MSGPACK), ({"a": 1}, MSGPACK), ([], MSGPACK)],
    )
    def test_refuses_what_is_neither_text_nor_binary(self, data: Any, wire: int) -> None:
        with pytest.raises(ClientError) as caught:
            decode_data(data, None, wire)
        assert caught.value.info.code == 40013

    def test_refuses_an_encoding_that_is_not_text(self) -> None:
        with pytest.raises(ClientError) as caught:
            decode_data("x", 5, JSON)
        assert caught.value.info.code == 40013

    def test_refuses_a_bare_object_nested_beyond_what_can_be_printed(self) -> None:
        data: Any = []
        for _ in range(300):
            data = [data]
        with pytest.raises(ClientError) as caught:
            decode_data(data, None, JSON)
        assert caught.value.info.code == 40013
