"""Changing messages: update, delete, append (Ably protocol, "Update, delete, append").

A MESSAGE with one of these actions has one message, which names another one by its serial, what of it is to be changed,
and, in `version`, who says so and why. Sessions and REST ask the same question here: may this client do that, as far as
the message itself need not be known? The rest is `fanout.mutate`'s.

The right to change any message is enough; the right to change one's own is, for a client that is identified, if the
message was published under the same client id.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fanout.auth.capabilities import allows
from fanout.errors import ClientError, error
from fanout.session.extras import extras_bytes
from fanout.session.limits import Limits
from fanout.session.messages import byte_size, message_ids, resolve_client_id
from fanout.types import Identity, OutChange
from fanout.wire import ClientMessage, decode_data

__all__ = ["CheckedChange", "check_change", "is_change", "target_serial"]

_ACTIONS: Final = {1: "update", 2: "delete", 5: "append"}


class CheckedChange(NamedTuple):
    """A change ready for `fanout.mutate`, and its size in bytes by the rule for messages."""

    change: OutChange
    size: int


def is_change(messages: Sequence[ClientMessage]) -> bool:
    """Whether a MESSAGE asks for a change: one of its messages has such an action."""
    return any(_action(message) is not None for message in messages)


def check_change(
    messages: Sequence[ClientMessage],
    *,
    channel: str,
    wire: int,
    identity: Identity,
    connection_id: str | None,
    id_base: str,
    limits: Limits,
) -> CheckedChange:
    """Checks a change and completes it. Its id is given by the client, or `id_base:0`.

    Raises ClientError: 40000 for more than one message or another action, 40003 serial or version, 40160 for rights,
    40161 for the right to change one's own without being anybody, and as for a publish 40009, 40012, 40013, 40016,
    40031, 40032.
    """
    if len(messages) != 1:
        raise ClientError(error(40000, "a change is about one message, and in a frame of its own"))
    (message,) = messages
    action = _action(message)
    if action is None:
        raise ClientError(error(40000, "the action of a change is 1 (update), 2 (delete) or 5 (append)"))
    owner = _owner(identity, channel, "delete" if action == "delete" else "update")
    if message.name is not None and not isinstance(message.name, str):
        raise ClientError(error(40016, "it is not a string"))
    data, encoding = decode_data(message.data, message.encoding, wire)
    if data is None:
        encoding = None
    if action == "append" and (data is None or encoding is not None):
        raise ClientError(error(40013, "what is appended is text or binary, without further encoding"))
    if encoding is not None and len(encoding.encode()) > limits.encoding_bytes:
        raise ClientError(error(40013, f"an encoding longer than {limits.encoding_bytes} bytes"))
    version, size = _version(message.version, identity, limits)
    size += byte_size(message.name) + byte_size(data) + extras_bytes(message.extras, limits.extras_depth)
    if size > limits.message_bytes:
        raise ClientError(error(40009, f"a change of more than {limits.message_bytes} bytes"))
    (change_id,) = message_ids(messages, id_base, connection_id, limits)
    return CheckedChange(
        OutChange(
            action=action,
            serial=target_serial(message.serial, limits),
            id=change_id,
            data=data,
            name=message.name,
            encoding=encoding,
            connection_id=connection_id,
            extras=message.extras,
            version=version,
            owner=owner,
        ),
        size,
    )


def target_serial(serial: Any, limits: Limits) -> str:
    """The serial of the message that is meant. Raises ClientError 40003."""
    if not isinstance(serial, str) or not 0 < byte_size(serial) <= limits.serial_bytes:
        raise ClientError(error(40003, f"the serial of a message is text of at most {limits.serial_bytes} bytes"))
    return serial


def _action(message: ClientMessage) -> str | None:
    action = message.action
    return _ACTIONS.get(action) if isinstance(action, int) and not isinstance(action, bool) else None


def _owner(identity: Identity, channel: str, verb: str) -> str | None:
    """Whose messages may be changed; None for everybody's."""
    if allows(identity.capability, channel, f"message-{verb}-any"):
        return None
    if not allows(identity.capability, channel, f"message-{verb}-own"):
        raise ClientError(error(40160, f"this credential does not allow to {verb} messages on this channel"))
    if identity.client_id in (None, "*"):
        raise ClientError(error(40161, f"to {verb} messages of one's own takes a client id"))
    return identity.client_id


def _version(given: Any, identity: Identity, limits: Limits) -> tuple[dict[str, Any], int]:
    """What is said about the change, and its size."""
    if given is not None and not isinstance(given, dict):
        raise ClientError(error(40003, "version is an object"))
    given = given or {}
    version: dict[str, Any] = {}
    client_id = resolve_client_id(given.get("clientId"), identity)
    if client_id is not None:
        version["clientId"] = client_id
    if (description := given.get("description")) is not None:
        if not isinstance(description, str):
            raise ClientError(error(40003, "description is text"))
        version["description"] = description
    if (metadata := given.get("metadata")) is not None:
        version["metadata"] = metadata
    try:
        return version, extras_bytes(version, limits.extras_depth)
    except ClientError:
        raise ClientError(error(40003, "version cannot be written as JSON")) from None
