"""What a client may publish, message by message (Ably protocol, "Publish, ACK, NACK" and "Identity rules").

One publish is one to many messages that are accepted or refused together. Sessions and REST ask the same question here.
"""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from fanout.auth.connection_key import CONNECTION_ID
from fanout.auth.keys import check_client_id
from fanout.errors import ClientError, error
from fanout.session.extras import extras_bytes
from fanout.session.limits import Limits
from fanout.types import Identity, OutMessage
from fanout.wire import ClientAnnotation, ClientMessage, decode_data

__all__ = ["Checked", "byte_size", "check_messages", "message_ids", "resolve_client_id"]

# An id of this form is given by the server alone. Were others free to use it, whoever has seen a connection's id could
# publish under the ids that it is about to use, and its own messages would be taken for repeats.
_SERVER_ID = re.compile(rf"({CONNECTION_ID.pattern}):[0-9]+:[0-9]+")


class Checked(NamedTuple):
    """Messages ready for the log, and their size in bytes by the protocol's rule."""

    messages: list[OutMessage]
    size: int


def check_messages(
    messages: Sequence[ClientMessage],
    *,
    wire: int,
    identity: Identity,
    connection_id: str | None,
    id_base: str,
    limits: Limits,
) -> Checked:
    """Checks one publish and completes it: client id of the identity, ids `id_base:index` where none is given.

    Raises ClientError: 40000 no messages, 40034 too many, 40009 too large, 40012 client id, 40013 data or encoding,
    40016 name, 40031 id, 40032 extras, 93002 for anything but a new message.
    """
    if not messages:
        raise ClientError(error(40000, "a publish without messages"))
    if len(messages) > limits.messages_per_frame:
        raise ClientError(error(40034, f"{len(messages)} in one publish, {limits.messages_per_frame} is the limit"))
    ids = message_ids(messages, id_base, connection_id, limits)
    checked, size = [], 0
    for message, message_id in zip(messages, ids, strict=True):
        one = _check(message, message_id, wire, identity, connection_id, limits)
        size += byte_size(one.name) + byte_size(one.client_id) + byte_size(one.data)
        if one.extras is not None:
            size += extras_bytes(one.extras, limits.extras_depth)
        if size > limits.message_bytes:
            raise ClientError(error(40009, f"a publish of more than {limits.message_bytes} bytes"))
        checked.append(one)
    return Checked(checked, size)


def _check(
    message: ClientMessage, message_id: str, wire: int, identity: Identity, connection_id: str | None, limits: Limits
) -> OutMessage:
    if message.action not in (None, 0):
        raise ClientError(error(93002))
    if message.name is not None and not isinstance(message.name, str):
        raise ClientError(error(40016, "it is not a string"))
    data, encoding = decode_data(message.data, message.encoding, wire)
    if encoding is not None and len(encoding.encode()) > limits.encoding_bytes:
        raise ClientError(error(40013, f"an encoding longer than {limits.encoding_bytes} bytes"))
    client_id = resolve_client_id(message.client_id, identity)
    extras = message.extras
    if isinstance(extras, dict) and "delta" in extras:  # the server's word about how it sent a message, which is over
        extras = {name: value for name, value in extras.items() if name != "delta"} or None
    return OutMessage(message_id, data, message.name, encoding, client_id, connection_id, extras)


def resolve_client_id(given: Any, identity: Identity) -> str | None:
    """Who speaks, if a client says `given` about itself. Raises ClientError 40012 for what it is not."""
    if given is None:
        return None if identity.client_id == "*" else identity.client_id
    client_id = check_client_id(given)
    if identity.client_id not in ("*", client_id):
        raise ClientError(error(40012, "it is not the one this client is identified by"))
    return client_id


def message_ids(
    messages: Sequence[ClientMessage | ClientAnnotation], base: str, connection_id: str | None, limits: Limits
) -> list[str]:
    """The ids of one publish: as given, or `base:index`. Raises ClientError 40031."""
    given = [message.id for message in messages]
    if all(message_id is None for message_id in given):
        return [f"{base}:{index}" for index in range(len(given))]
    for message_id in given:
        if not isinstance(message_id, str) or not message_id:
            raise ClientError(error(40031, "a non-empty string for every message of a publish, or for none"))
        if len(message_id.encode()) > limits.message_id_bytes:
            raise ClientError(error(40031, f"longer than {limits.message_id_bytes} bytes"))
        found = _SERVER_ID.fullmatch(message_id)
        if found and found[1] != connection_id:
            raise ClientError(error(40031, "an id of this form belongs to the connection it names"))
    common = given[0].rpartition(":")[0]
    if len(given) > 1 and given != [f"{common}:{index}" for index in range(len(given))]:
        raise ClientError(error(40031, "several messages have ids with one base, followed by :0, :1 and so on"))
    return given


def byte_size(value: str | bytes | None) -> int:
    """What it takes in the log."""
    if value is None:
        return 0
    if isinstance(value, bytes) or value.isascii():
        return len(value)
    return len(value.encode())
