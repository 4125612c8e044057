"""MQTT's packets as Python sees them; the codec's own tests are in rust/mqtt."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout import packets
from fanout._core import MqttReader, mqtt_encode

CONNECT = b"\x10\x0d\0\x04MQTT\x05\x02\0\x3c\0\0\0"


def taken(reader: MqttReader, data: bytes) -> Any:
    reader.feed(data)
    return reader.take()


class TestReader:
    def test_packets_are_values(self) -> None:
        reader = MqttReader(1000)
        connect = taken(reader, CONNECT)
        assert isinstance(connect, packets.Connect)
        assert (connect.version, connect.client_id, connect.clean, connect.keep_alive) == (5, "", True, 60)
        assert (connect.username, connect.password, connect.will) == (None, None, None)
        assert taken(reader, b"\x32\x03\0\x03a") == packets.Fault(0x81, "the packet cannot be read")

    def test_publish_says_what_it_is_given_with(self) -> None:
        reader = MqttReader(1000)
        taken(reader, CONNECT)
        said = b"\x01\x01\x02\0\0\0\x09\x03\0\x01t\x08\0\x01r\x09\0\x01c\x26\0\x01k\0\x01v\x26\0\x01k\0\x01w"
        body = b"\0\x03a/b\0\x07" + bytes([len(said)]) + said + b"hi"
        publish = taken(reader, bytes([0x33, len(body)]) + body)
        properties = packets.Properties(True, 9, "t", "r", b"c", (("k", "v"), ("k", "w")))
        assert publish == packets.Publish("a/b", b"hi", 1, False, True, 7, 0, properties)

    def test_the_limit_may_be_raised_and_what_waits_is_counted(self) -> None:
        reader = MqttReader(20)
        taken(reader, CONNECT)
        reader.set_limit(30)
        assert taken(reader, b"\x30\x1a\0\x01a") is None
        assert reader.held == 5
        assert isinstance(taken(reader, bytes(23)), packets.Publish)
        assert reader.held == 0
        fault = taken(MqttReader(20), b"\x10\x7f")
        assert fault == packets.Fault(0x95, "the packet is too large")


@pytest.mark.parametrize("version", [4, 5])
class TestEncode:
    def test_acknowledgements(self, version: int) -> None:
        assert mqtt_encode(packets.Ack(packets.PUBACK, 7), version) == b"\x40\x02\0\x07"
        assert mqtt_encode(packets.Ack(packets.PUBREL, 7), version) == b"\x62\x02\0\x07"
        refused = mqtt_encode(packets.Ack(packets.PUBREC, 7, 0x87), version, "no")
        assert refused == (b"\x50\x02\0\x07" if version == 4 else b"\x50\x09\0\x07\x87\x05\x1f\0\x02no")

    def test_subscriptions(self, version: int) -> None:
        none = b"" if version == 4 else b"\0"
        told = mqtt_encode(packets.Suback(3, (0, 1, 0x80)), version)
        assert told == bytes([0x90, 5 + len(none)]) + b"\0\x03" + none + b"\0\x01\x80"
        told = mqtt_encode(packets.Unsuback(3, (0, 0x11)), version)
        assert told == (b"\xb0\x02\0\x03" if version == 4 else b"\xb0\x05\0\x03\0\0\x11")

    def test_a_connection_begins_lives_and_ends(self, version: int) -> None:
        begun = mqtt_encode(packets.Connack(True, 0, receive_maximum=10, no_shared=True), version)
        assert begun == (b"\x20\x02\x01\0" if version == 4 else b"\x20\x08\x01\0\x05\x21\0\x0a\x2a\0")
        assert mqtt_encode(packets.Ping(), version) == b"\xd0\x00"
        ended = mqtt_encode(packets.Disconnect(0x9C), version, reference="b:1")
        assert ended == (b"" if version == 4 else b"\xe0\x08\x9c\x06\x1c\0\x03b:1")

    def test_what_cannot_be_said_is_refused(self, version: int) -> None:
        with pytest.raises(ValueError, match="ValueOutOfRange"):
            mqtt_encode(packets.Suback(3, (0x42,)), version)
        with pytest.raises(ValueError, match="Auth"):
            mqtt_encode(packets.Auth(), version)  # type: ignore[arg-type]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)
TOPIC = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0+#"), min_size=1, max_size=20)
PROPERTIES = st.builds(
    packets.Properties,
    utf8=st.booleans(),
    expiry=st.none() | st.integers(0, 2**32 - 1),
    content_type=st.none() | TEXT,
    response_topic=st.none() | TOPIC,
    correlation=st.none() | st.binary(max_size=20),
    user=st.lists(st.tuples(TEXT, TEXT), max_size=3).map(tuple),
)


@given(st.data(), st.sampled_from([4, 5]), st.integers(1, 50))
def test_what_is_printed_is_read_whatever_pieces_it_comes_in(data: st.DataObject, version: int, piece: int) -> None:
    qos = data.draw(st.sampled_from([0, 1, 2]))
    said = data.draw(PROPERTIES) if version == 5 else packets.Properties()
    packet_id = data.draw(st.integers(1, 65_535)) if qos else 0
    publish = packets.Publish(
        data.draw(TOPIC), data.draw(st.binary(max_size=300)), qos, False, data.draw(st.booleans()), packet_id, 0, said
    )
    reader = MqttReader(2_000)
    reader.feed(CONNECT if version == 5 else b"\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0")
    assert isinstance(reader.take(), packets.Connect)
    printed = mqtt_encode(publish, version)
    for at in range(0, len(printed), piece):
        assert reader.take() is None
        reader.feed(printed[at : at + piece])
    assert reader.take() == publish
    assert (reader.take(), reader.held) == (None, 0)
