"""The client wires: bytes to protocol messages and back, in JSON and MessagePack (Ably protocol, "Encodings").

Rules:

- A frame is a map with an `action`. Unknown fields are skipped, null counts as absent, a wrong type refuses the frame.
- Inside a message the fields stay as they came: a bad one costs its publish a NACK, not the client its connection.
- No bytes, however long, deep or broken, raise anything but `ClientError` here.
- Only the last step of a message's `encoding` is ever touched; all before it is between the clients.

Pure functions: any thread may call them.
"""

import base64
import binascii
from enum import IntEnum
from typing import Annotated, Any, Final

import msgspec
import orjson

from fanout.errors import ClientError, error

__all__ = [
    "FRAME_BYTES", "JSON", "MSGPACK", "Action", "ClientAnnotation", "ClientFrame", "ClientMessage", "ClientPresence",
    "Flag", "decode", "decode_data", "decode_list", "encode",
]  # fmt: skip

JSON: Final = 0
MSGPACK: Final = 1

FRAME_BYTES: Final = 524_288
"""The longest frame a client may send; the protocol's default, which SDKs are told in CONNECTED."""


class Action(IntEnum):
    """What a protocol message is (Ably protocol, "ProtocolMessage")."""

    HEARTBEAT = 0
    ACK = 1
    NACK = 2
    CONNECTED = 4
    DISCONNECT = 5
    DISCONNECTED = 6
    CLOSE = 7
    CLOSED = 8
    ERROR = 9
    ATTACH = 10
    ATTACHED = 11
    DETACH = 12
    DETACHED = 13
    PRESENCE = 14
    MESSAGE = 15
    SYNC = 16
    AUTH = 17
    OBJECT = 19
    ANNOTATION = 21


class Flag(IntEnum):
    """Bits of `flags` in ATTACH and ATTACHED; those from 16 on are channel modes. Several together are an int."""

    HAS_PRESENCE = 1 << 0
    HAS_BACKLOG = 1 << 1
    RESUMED = 1 << 2
    ATTACH_RESUME = 1 << 5
    PRESENCE = 1 << 16
    PUBLISH = 1 << 17
    SUBSCRIBE = 1 << 18
    PRESENCE_SUBSCRIBE = 1 << 19
    ANNOTATION_PUBLISH = 1 << 21
    ANNOTATION_SUBSCRIBE = 1 << 22
    OBJECT_SUBSCRIBE = 1 << 24
    OBJECT_PUBLISH = 1 << 25


class ClientMessage(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One message of a client's MESSAGE frame or REST body, with every field still unchecked."""

    id: Any = None
    name: Any = None
    data: Any = None
    encoding: Any = None
    client_id: Any = None
    extras: Any = None
    action: Any = None
    serial: Any = None
    version: Any = None


class ClientAnnotation(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One annotation of a client's ANNOTATION frame or REST body, with every field still unchecked."""

    id: Any = None
    action: Any = None
    message_serial: Any = None
    type: Any = None
    name: Any = None
    count: Any = None
    data: Any = None
    encoding: Any = None
    client_id: Any = None
    extras: Any = None


class ClientPresence(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One event of a client's PRESENCE frame, with every field still unchecked."""

    id: Any = None
    action: Any = None
    client_id: Any = None
    data: Any = None
    encoding: Any = None
    extras: Any = None


class Auth(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """The credential in an AUTH."""

    access_token: str | None = None


Natural = Annotated[int, msgspec.Meta(ge=0, le=(1 << 63) - 1)]


class ClientFrame(msgspec.Struct, rename="camel", frozen=True, gc=False):
    """One protocol message from a client. A field that a client sends but fanout has no use for is not among these."""

    action: Natural
    channel: str | None = None
    channel_serial: str | None = None
    flags: Natural | None = None
    params: dict[str, str | int | float | bool | None] | None = None
    msg_serial: Natural | None = None
    id: str | None = None
    messages: list[ClientMessage] | None = None
    presence: list[ClientPresence] | None = None
    auth: Auth | None = None
    annotations: list[ClientAnnotation] | None = None


_JSON = msgspec.json.Decoder(ClientFrame)
_JSON_LIST = msgspec.json.Decoder(list[msgspec.Raw])
_MSGPACK = msgspec.msgpack.Decoder(ClientFrame)


def decode(payload: bytes | bytearray | memoryview, wire: int) -> ClientFrame:
    """Reads one frame. Raises ClientError: 40009 for one longer than `FRAME_BYTES`, 40000 for anything else amiss."""
    if len(payload) > FRAME_BYTES:
        raise ClientError(error(40009, f"a frame of {len(payload)} bytes, {FRAME_BYTES} is the limit"))
    try:
        return _JSON.decode(payload) if wire == JSON else _MSGPACK.decode(payload)
    except RecursionError:
        raise ClientError(error(40000, "the frame is nested too deeply")) from None
    except ValueError as reason:  # msgspec's own errors and broken UTF-8
        raise ClientError(error(40000, f"the frame cannot be read: {reason}")) from None


def decode_list(payload: bytes) -> list[ClientFrame]:
    """Reads a JSON list of frames, each as `decode` does. Raises ClientError like that."""
    try:
        frames = _JSON_LIST.decode(payload)
    except RecursionError:
        raise ClientError(error(40000, "the frames are nested too deeply")) from None
    except ValueError as reason:
        raise ClientError(error(40000, f"the frames cannot be read: {reason}")) from None
    return [decode(memoryview(frame), JSON) for frame in frames]


def encode(frame: dict[str, Any], wire: int) -> bytes:
    """Prints one frame. Values of type bytes are for MessagePack alone: TypeError on the JSON wire."""
    return orjson.dumps(frame) if wire == JSON else msgspec.msgpack.encode(frame)


def decode_data(data: Any, encoding: Any, wire: int) -> tuple[str | bytes | None, str | None]:
    """The payload and encoding to store for a message's `data` and `encoding` as they came.

    Text whose last step is `base64` is decoded on both wires, since what is stored goes to both. On JSON a bare object
    or array becomes its JSON text with the step `json` added. Raises ClientError 40013 for what does not decode and
    for anything that is not text, binary, absent, or such an object.
    """
    if encoding is not None and not isinstance(encoding, str):
        raise ClientError(error(40013, "encoding is not a string"))
    encoding = encoding or None
    if data is None or isinstance(data, bytes):
        return data, encoding
    if isinstance(data, str):
        if encoding is not None and encoding.rpartition("/")[2] == "base64":
            return _base64(data), encoding.rpartition("/")[0] or None
        return data, encoding
    if wire == JSON and isinstance(data, dict | list):
        try:
            text = orjson.dumps(data).decode()
        except TypeError:  # orjson's own error: nested too deeply, or a number beyond 64 bits
            raise ClientError(error(40013, "data is nested too deeply, or holds a number beyond 64 bits")) from None
        return text, f"{encoding}/json" if encoding else "json"
    raise ClientError(error(40013, "data must be text or binary; encode anything else as JSON"))


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):  # ValueError: characters outside ASCII
        raise ClientError(error(40013, "the encoding says base64 but the data is not")) from None
