"""What an MQTT client publishes, as a message, and a message as it is published to one (docs/protocol.md, payloads).

=================================  ==========================================================================
payload                            binary; text if it is said to be UTF-8; JSON if its content type says so
user properties                    `extras.headers`; `fanout-name` and `fanout-encoding` are name and encoding
everything else                    `extras.mqtt`, by which it is given to other MQTT clients again
=================================  ==========================================================================

Deliveries are the engine's, by the same table; only retained messages are made packets of here. Pure; any thread.
"""

import base64
from typing import Any, Final

import orjson

from fanout.errors import ClientError, error
from fanout.packets import Properties, Publish, WillPacket
from fanout.types import OutMessage
from fanout.wire import ClientMessage

__all__ = ["client_message", "publish_of"]

JSON_TYPE: Final = "application/json"
_NAME, _CLIENT_ID, _ENCODING = "fanout-name", "fanout-client-id", "fanout-encoding"
_OWN: Final = frozenset({_NAME, _CLIENT_ID, _ENCODING, "fanout-action"})  # said by the node alone


def client_message(said: Publish | WillPacket, message_id: str | None = None) -> ClientMessage:
    """The message that a PUBLISH or a will stands for, as yet unchecked.

    Raises ClientError 40013 for a payload that is not the UTF-8 it is said to be.
    """
    properties = said.properties
    given = dict(properties.user)
    data, encoding = _payload(said.payload, properties)
    encoding = given.get(_ENCODING, encoding)
    extras = _extras(said, is_text=isinstance(data, str), is_json=encoding == "json")
    return ClientMessage(id=message_id, name=given.get(_NAME), data=data, encoding=encoding, extras=extras or None)


def _payload(payload: bytes, properties: Properties) -> tuple[str | bytes, str | None]:
    try:
        if _is_json(properties.content_type) and _parses(payload):
            return payload.decode(), "json"
        return (payload.decode(), None) if properties.utf8 else (payload, None)
    except UnicodeDecodeError:
        raise ClientError(error(40013, "the payload is said to be UTF-8, and is not")) from None


def _is_json(content_type: str | None) -> bool:
    return content_type is not None and content_type.partition(";")[0].strip().lower() == JSON_TYPE


def _parses(payload: bytes) -> bool:
    """Whether others will be able to read it; what cannot be read is passed on as it is."""
    try:
        orjson.loads(payload)
    except ValueError:
        return False
    return True


def _extras(said: Publish | WillPacket, *, is_text: bool, is_json: bool) -> dict[str, Any]:
    """`is_text` and `is_json` are what has become of it: the one says its payload format, the other its type."""
    properties = said.properties
    mqtt: dict[str, Any] = {}
    if said.retain:
        mqtt["retain"] = True
    if said.qos == 0:
        mqtt["qos"] = 0
    if properties.content_type is not None and not (is_json and properties.content_type == JSON_TYPE):
        mqtt["contentType"] = properties.content_type
    if is_text and not properties.utf8:  # on the way out text is said to be such, but not what nobody called so
        mqtt["payloadFormat"] = 0
    if properties.response_topic is not None:
        mqtt["responseTopic"] = properties.response_topic
    if properties.correlation is not None:
        mqtt["correlationData"] = base64.b64encode(properties.correlation).decode()
    if properties.expiry is not None:
        mqtt["expiry"] = properties.expiry
    headers = _headers(properties.user, mqtt)
    extras: dict[str, Any] = {}
    if headers:
        extras["headers"] = headers
    if mqtt:
        extras["mqtt"] = mqtt
    return extras


def _headers(user: tuple[tuple[str, str], ...], mqtt: dict[str, Any]) -> dict[str, Any]:
    """User properties as headers: a list of values where a name stands several times in a row. Where their order could
    not be told from that, they are kept as they came beside it.
    """
    headers: dict[str, Any] = {}
    before, ordered = None, True
    for name, value in user:
        if name in (_NAME, _ENCODING):
            continue
        if name not in headers:
            headers[name] = value
        else:
            ordered &= name == before
            earlier = headers[name]
            headers[name] = [*earlier, value] if isinstance(earlier, list) else [earlier, value]
        before = name
    if not ordered:
        mqtt["userProperties"] = [[name, value] for name, value in user if name not in (_NAME, _ENCODING)]
    return headers


def publish_of(topic: str, message: OutMessage, *, qos: int, identifier: int) -> Publish:
    """A retained message as it is given under a subscription with that QoS and identifier; its packet id is 0 yet."""
    extras = message.extras or {}
    mqtt: dict[str, Any] = extras.get("mqtt") or {}
    encoding = message.encoding
    content_type = mqtt.get("contentType")
    if encoding == "json" and isinstance(message.data, str):
        content_type, encoding = content_type or JSON_TYPE, None
    payload = message.data.encode() if isinstance(message.data, str) else message.data or b""
    correlation = mqtt.get("correlationData")
    theirs = (pair for pair in _user(extras, mqtt) if pair[0] not in _OWN)
    own = ((_NAME, message.name), (_CLIENT_ID, message.client_id), (_ENCODING, encoding))
    return Publish(
        topic,
        payload,
        min(qos, mqtt.get("qos", 1)),
        dup=False,
        retain=True,
        packet_id=0,
        alias=0,
        properties=Properties(
            utf8=isinstance(message.data, str) and mqtt.get("payloadFormat") != 0,
            expiry=mqtt.get("expiry"),
            content_type=content_type,
            response_topic=mqtt.get("responseTopic"),
            correlation=None if correlation is None else base64.b64decode(correlation),
            user=(*theirs, *((name, value) for name, value in own if value is not None)),
        ),
        identifier=identifier,
    )


def _user(extras: dict[str, Any], mqtt: dict[str, Any]) -> list[tuple[str, str]]:
    """The user properties that headers stand for."""
    if "userProperties" in mqtt:
        return [(name, value) for name, value in mqtt["userProperties"]]
    return [
        (name, value if isinstance(value, str) else orjson.dumps(value).decode())
        for name, values in (extras.get("headers") or {}).items()
        for value in (values if isinstance(values, list) else [values])
    ]
