"""Where what is published goes: topic, key, headers and value, by the first rule for the channel."""

from typing import Any

import orjson
import pytest

from fanout.rules.publish import PublishRule
from fanout.sources.base import NewRecord
from fanout.targets import CHANNELS_KNOWN, Targets
from fanout.types import OutMessage

MESSAGE = OutMessage(id="c:1:0", data="hé", name="greet", client_id="me", connection_id="c")


def record(rule: PublishRule, message: OutMessage = MESSAGE, channel: str = "chat:room:7") -> NewRecord:
    return Targets("rest", [rule], now=lambda: 1_234).of(channel).record(message)


def enveloped(message: OutMessage) -> dict[str, Any]:
    """The message in the envelope."""
    said = orjson.loads(record(PublishRule("*", format="enveloped"), message).value or b"")
    assert (said["source"], said["channel"]) == ("channel.message", "chat:room:7")
    (inner,) = said["messages"]
    assert isinstance(inner, dict)
    return inner


class TestWithoutARule:
    def test_key_is_the_channel_and_value_the_payload(self) -> None:
        made = Targets("out").of("chat").record(OutMessage(id="a", data="häuser"))
        assert made == ("out", b"chat", "häuser".encode(), [("fanout.id", b"a"), ("fanout.type", b"text")])

    def test_that_is_for_the_channel_it_is_the_same(self) -> None:
        assert record(PublishRule("news:*", "news")) == Targets("rest").of("chat:room:7").record(MESSAGE)


class TestARule:
    def test_names_the_topic_and_the_record_its_channel(self) -> None:
        made = record(PublishRule("chat:*", "chat"))
        assert (made.topic, made.key, made.value) == ("chat", b"chat:room:7", "hé".encode())
        assert dict(made.headers)["fanout.channel"] == b"chat:room:7"

    def test_without_a_topic_writes_where_all_else_goes(self) -> None:
        assert record(PublishRule("chat:*", headers={"a": "b"})).topic == "rest"

    def test_makes_key_and_headers_of_parts_of_the_message(self) -> None:
        rule = PublishRule(
            "chat:*:*", "chat", key="#{2}/#{1}", headers={"who": "#{clientId}@#{connectionId}", "x": "y"}
        )
        made = record(rule)
        assert made.key == b"7/room"
        assert dict(made.headers) | {"who": b"me@c", "x": b"y"} == dict(made.headers)
        assert dict(record(rule, OutMessage(id="a", data=None)).headers)["who"] == b"@"

    def test_that_comes_first_counts(self) -> None:
        targets = Targets("rest", [PublishRule("chat:room:*", "first"), PublishRule("chat:*", "second", presence="p")])
        assert [targets.of(channel).topic for channel in ("chat:room:7", "chat:8", "news")] == [
            "first",
            "second",
            "rest",
        ]
        assert [targets.presence_topic(channel) for channel in ("chat:room:7", "chat:8", "news")] == [None, "p", None]

    def test_is_looked_for_once_for_each_channel_of_many(self) -> None:
        targets = Targets("rest", [PublishRule("chat:*", "chat")])
        for number in range(CHANNELS_KNOWN + 10):
            assert targets.of(f"chat:{number}").topic == "chat"
        assert targets.of.cache_info().currsize == CHANNELS_KNOWN
        assert targets.of("chat:5") is targets.of("chat:5")


class TestAnEnvelope:
    def test_holds_all_that_the_message_says(self) -> None:
        assert enveloped(MESSAGE) == {
            "id": "c:1:0", "timestamp": 1_234, "clientId": "me", "connectionId": "c", "name": "greet", "data": "hé",
        }  # fmt: skip

    def test_leaves_out_what_is_absent(self) -> None:
        assert enveloped(OutMessage(id="a", data=None)) == {"id": "a", "timestamp": 1_234}

    @pytest.mark.parametrize(("encoding", "told"), [(None, "base64"), ("cipher", "cipher/base64")])
    def test_holds_binary_data_in_base64(self, encoding: str | None, told: str) -> None:
        inner = enveloped(OutMessage(id="a", data=b"\xff\x00", encoding=encoding))
        assert (inner["data"], inner["encoding"]) == ("/wA=", told)

    def test_tells_a_change_from_a_message(self) -> None:
        headers = (("fanout.action", b"update"), ("fanout.serial", b"s"), ("fanout.set", b"data"))
        inner = enveloped(OutMessage(id="a", data="x", extras={"headers": {"k": 1}}, headers=headers))
        assert (inner["action"], inner["serial"], inner["extras"]) == ("update", "s", {"headers": {"k": 1}})

    def test_goes_with_the_same_headers(self) -> None:
        bare, wrapped = (dict(record(PublishRule("*", format=name)).headers) for name in ("bare", "enveloped"))
        assert wrapped == bare | {"fanout.format": b"enveloped"}
