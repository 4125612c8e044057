"""MQTT as a way of payloads into a node and out of it; see `tests.support.payload_ways`.

MQTT 5.0 says of a payload whether it is UTF-8, and that it is JSON, and has properties for what else was done to it;
MQTT 3.1.1 has bytes.
"""

import asyncio

import aiomqtt
from aiomqtt import ProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.support.payload_ways import CHANNEL, KEY, Bed, Out, Payload, WayIn

__all__ = ["MQTT_WAYS_IN", "mqtt_ways_out"]

WAIT_S = 20
JSON_TYPE = "application/json"


def _bytes(payload: Payload) -> bytes:
    return payload.data.encode() if isinstance(payload.data, str) else payload.data or b""


def _client(bed: Bed, version: ProtocolVersion) -> aiomqtt.Client:
    assert bed.server.mqtt_port is not None
    name, secret = KEY.split(":")
    return aiomqtt.Client("127.0.0.1", bed.server.mqtt_port, username=name, password=secret, protocol=version)


async def _mqtt_3(bed: Bed, payload: Payload) -> Payload:
    async with _client(bed, ProtocolVersion.V311) as client:
        await client.publish(CHANNEL, _bytes(payload), qos=1)
    return Payload(_bytes(payload))


async def _mqtt_5(bed: Bed, payload: Payload) -> Payload:
    said = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    if isinstance(payload.data, str):
        said.PayloadFormatIndicator = 1
    if payload.is_json:
        said.ContentType = JSON_TYPE
    elif payload.encoding is not None:
        said.UserProperty = ("fanout-encoding", payload.encoding)
    async with _client(bed, ProtocolVersion.V5) as client:
        await client.publish(CHANNEL, _bytes(payload), qos=1, properties=said)
    return Payload(b"") if payload.data is None else payload


MQTT_WAYS_IN: dict[str, WayIn] = {"mqtt 3.1.1": _mqtt_3, "mqtt 5.0": _mqtt_5}


class _Subscriber:
    """Of nothing it is given empty bytes; with MQTT 3.1.1 bytes of everything."""

    def __init__(self, version: ProtocolVersion, client: aiomqtt.Client) -> None:
        self._version = version
        self._client = client

    async def payloads(self, count: int) -> list[Payload]:
        async with asyncio.timeout(WAIT_S):
            return [self._payload(await anext(self._client.messages)) for _ in range(count)]

    def _payload(self, message: aiomqtt.Message) -> Payload:
        assert isinstance(message.payload, bytes)
        if self._version is ProtocolVersion.V311:
            return Payload(message.payload)
        said = message.properties
        assert said is not None
        user = dict(getattr(said, "UserProperty", []))
        encoding = "json" if getattr(said, "ContentType", None) == JSON_TYPE else user.get("fanout-encoding")
        is_text = getattr(said, "PayloadFormatIndicator", 0) == 1
        return Payload(message.payload.decode() if is_text else message.payload, encoding)

    def shows(self, payload: Payload) -> Payload:
        if self._version is ProtocolVersion.V311 or payload.data is None:
            return Payload(_bytes(payload))
        return payload


async def mqtt_ways_out(bed: Bed) -> dict[str, Out]:
    """Both versions with QoS 0 and with QoS 1, listening from now on."""
    ways: dict[str, Out] = {}
    for name, version in (("3.1.1", ProtocolVersion.V311), ("5.0", ProtocolVersion.V5)):
        for qos in (0, 1):
            client = await bed.stack.enter_async_context(_client(bed, version))
            await client.subscribe(CHANNEL, qos=qos)
            ways[f"mqtt {name}, QoS {qos}"] = _Subscriber(version, client)
    return ways
