"""What MQTT clients publish as messages, and messages as they are published to them."""

from typing import Any

import pytest

from fanout.errors import ClientError
from fanout.packets import Properties, Publish
from fanout.transports.mqtt_messages import client_message, publish_of
from fanout.types import OutMessage


def message(payload: bytes, *, qos: int = 1, retain: bool = False, **said: Any) -> Any:
    return client_message(Publish("t", payload, qos, False, retain, 1, 0, Properties(**said)))


class TestPublished:
    def test_a_payload_is_binary_unless_it_says_otherwise(self) -> None:
        assert (message(b"hi").data, message(b"hi").encoding, message(b"hi").extras) == (b"hi", None, None)
        assert message("hé".encode(), utf8=True).data == "hé"

    def test_json_is_json(self) -> None:
        for content_type in ("application/json", "Application/JSON; charset=utf-8"):
            said = message(b'{"a":1}', content_type=content_type)
            assert (said.data, said.encoding) == ('{"a":1}', "json")
            assert said.extras["mqtt"]["payloadFormat"] == 0
        assert message(b"{}", content_type="application/json", utf8=True).extras is None
        assert message(b'{"a"', content_type="application/json").data == b'{"a"'

    def test_what_is_said_to_be_text_and_is_not_is_refused(self) -> None:
        with pytest.raises(ClientError) as refused:
            message(b"\xff", utf8=True)
        assert refused.value.info.code == 40013

    def test_user_properties_are_headers_and_two_of_them_are_not(self) -> None:
        user = (("a", "1"), ("fanout-name", "n"), ("fanout-encoding", "cipher+aes-256-cbc"), ("b", "2"), ("b", "3"))
        said = message(b"x", user=user)
        assert (said.name, said.encoding) == ("n", "cipher+aes-256-cbc")
        assert said.extras == {"headers": {"a": "1", "b": ["2", "3"]}}

    def test_an_order_that_headers_cannot_tell_is_kept_beside_them(self) -> None:
        said = message(b"x", user=(("a", "1"), ("b", "2"), ("a", "3")))
        assert said.extras == {
            "headers": {"a": ["1", "3"], "b": "2"},
            "mqtt": {"userProperties": [["a", "1"], ["b", "2"], ["a", "3"]]},
        }

    def test_all_else_is_kept(self) -> None:
        said = message(b"x", qos=0, retain=True, content_type="t", response_topic="r", correlation=b"\0\xff", expiry=9)
        assert said.extras == {
            "mqtt": {
                "retain": True, "qos": 0, "contentType": "t", "responseTopic": "r", "correlationData": "AP8=",
                "expiry": 9,
            }
        }  # fmt: skip


class TestRetained:
    @pytest.mark.parametrize(
        ("payload", "said"),
        [
            (b"hi", {}),
            (b"hi", {"utf8": True}),
            (b"{}", {"content_type": "application/json"}),
            (b"{}", {"content_type": "application/json", "utf8": True}),
            (b"{", {"content_type": "application/json"}),
            (b"{}", {"content_type": "application/json", "user": (("fanout-encoding", "x"),)}),
            (b"\0", {"content_type": "t", "response_topic": "r", "correlation": b"\0\xff", "expiry": 9}),
            (b"x", {"user": (("a", "1"), ("b", "2"), ("b", "3"))}),
            (b"x", {"user": (("a", "1"), ("b", "2"), ("a", "3"))}),
        ],
    )
    def test_is_given_as_it_was_published(self, payload: bytes, said: dict[str, Any]) -> None:
        published = message(payload, retain=True, **said)
        kept = OutMessage("id", published.data, None, published.encoding, None, None, published.extras)
        given = publish_of("t", kept, qos=1, identifier=3)
        assert (given.topic, given.payload, given.qos, given.retain, given.identifier) == ("t", payload, 1, True, 3)
        properties = Properties(**said)
        assert given.properties.user == properties.user
        for name in ("utf8", "content_type", "response_topic", "correlation", "expiry"):
            assert getattr(given.properties, name) == getattr(properties, name)

    def test_says_whose_it_is_and_is_given_with_the_lower_quality(self) -> None:
        kept = OutMessage("id", None, "n", "x", "me", None, {"headers": {"h": {"a": 1}}, "mqtt": {"qos": 0}})
        given = publish_of("t", kept, qos=1, identifier=0)
        assert (given.payload, given.qos) == (b"", 0)
        assert given.properties.user == (
            ("h", '{"a":1}'), ("fanout-name", "n"), ("fanout-client-id", "me"), ("fanout-encoding", "x"),
        )  # fmt: skip

    def test_what_the_node_says_is_said_by_nobody_else(self) -> None:
        said = {"fanout-client-id": "admin", "fanout-action": "update", "fanout-name": "n", "h": "1"}
        pairs = [[name, value] for name, value in said.items()]
        for extras in ({"headers": said}, {"mqtt": {"userProperties": pairs}}):
            kept = OutMessage("id", b"x", None, None, None, None, extras)
            assert publish_of("t", kept, qos=1, identifier=0).properties.user == (("h", "1"),)
