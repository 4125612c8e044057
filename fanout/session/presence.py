"""Presence on a connection: who enters, updates and leaves, as a client says it (Ably protocol, "Presence").

One frame is accepted or refused as a whole. Each of its events is completed: the client id by the identity rules, the
id `connection id:msgSerial:index`. A client that enters again after an interruption sends the id that its member had:
one of this connection's is kept, so that nobody takes the member for a new one; any other is replaced, also one that is
yet to come: behind it all that the member says would be old. Who enters a channel without being attached is attached.

What the set holds is not known here: whether a member is new, or one too many, is found out where events are written.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from fanout.auth.capabilities import allows
from fanout.auth.keys import check_client_id
from fanout.auth.realms import realm_of
from fanout.errors import ClientError, error
from fanout.session.attach import Attachments
from fanout.session.effects import Present
from fanout.session.extras import extras_bytes
from fanout.session.limits import Limits
from fanout.session.names import parse_name
from fanout.session.publish import Accepted
from fanout.types import Identity, PresenceEvent
from fanout.wire import ClientFrame, ClientPresence, Flag, decode_data

__all__ = ["accept_presence"]

_ACTIONS: Final = {1: "enter", 2: "enter", 3: "leave", 4: "update"}
"""What a client may say. Old ones say `present` where they enter again."""

_OWN_ID: Final = re.compile(r":([0-9]{1,19}):[0-9]{1,19}")


def accept_presence(
    serial: int,
    spelling: str,
    frame: ClientFrame,
    *,
    attachments: Attachments,
    identity: Identity,
    connection_id: str,
    generation: int,
    wire: int,
    limits: Limits,
    now_ms: int,
) -> Accepted:
    """Checks the PRESENCE frame with this msgSerial.

    Raises ClientError: 40000 no events or an unknown action, 40034 too many, 40009 too large, 40010 channel name, 40012
    client id, 91000 none, 40013 data or encoding, 40031 id, 40032 extras, 40160 not permitted, 40165 not asked for at
    the attach; and what refuses an ATTACH.
    """
    channel = parse_name(spelling, limits.channel_bytes, realm_of(identity.key_name)).channel
    attached = attachments.find(spelling)
    if attached is not None and not attached.requested & Flag.PRESENCE:
        raise ClientError(error(40165, "PRESENCE was not among the modes asked for"))
    if not allows(identity.capability, channel, "presence"):
        raise ClientError(error(40160, "this credential does not allow to be present on this channel"))
    given: Sequence[ClientPresence] = frame.presence or []
    if not given:
        raise ClientError(error(40000, "a presence frame without events"))
    if len(given) > limits.messages_per_frame:
        raise ClientError(
            error(40034, f"{len(given)} presence events at once, {limits.messages_per_frame} is the limit")
        )
    events, size = [], 0
    for index, one in enumerate(given):
        client_id = _client_id(one.client_id, identity)
        event_id = _kept_id(one.id, connection_id, serial) or f"{connection_id}:{serial}:{index}"
        event = _event(one, client_id, event_id, generation, wire, limits)
        size += event.size
        if size > limits.message_bytes:
            raise ClientError(error(40009, f"presence events of more than {limits.message_bytes} bytes"))
        events.append(event)
    attaching = attachments.ensure(spelling, now_ms)
    return Accepted([*attaching, Present(serial, channel, events, size)], len(events), size)


def _event(
    given: ClientPresence, client_id: str, event_id: str, generation: int, wire: int, limits: Limits
) -> PresenceEvent:
    action = _ACTIONS.get(given.action) if isinstance(given.action, int) else None
    if action is None:
        raise ClientError(error(40000, "a presence action is one of enter, leave and update"))
    data, encoding = decode_data(given.data, given.encoding, wire)
    if encoding is not None and len(encoding.encode()) > limits.encoding_bytes:
        raise ClientError(error(40013, f"an encoding longer than {limits.encoding_bytes} bytes"))
    size = len(client_id.encode()) + _bytes(data) + extras_bytes(given.extras, limits.extras_depth)
    return PresenceEvent(action, event_id, client_id, data, encoding, given.extras, size, generation)


def _client_id(given: Any, identity: Identity) -> str:
    """The member's client id (Ably protocol, "Identity rules")."""
    if given is not None:
        client_id = check_client_id(given)
        if identity.client_id not in ("*", client_id):
            raise ClientError(error(40012, "it is not the one this client is identified by"))
        return client_id
    if identity.client_id in (None, "*"):
        raise ClientError(error(91000, "name the client, or connect as one"))
    return check_client_id(identity.client_id)


def _kept_id(given: Any, connection_id: str, serial: int) -> str | None:
    """The id that the client sent, if its member can have had it before the frame with this msgSerial."""
    if given is None:
        return None
    if not isinstance(given, str):
        raise ClientError(error(40031, "it is not a string"))
    own = _OWN_ID.fullmatch(given, len(connection_id)) if given.startswith(connection_id) else None
    return given if own and int(own[1]) <= serial else None


def _bytes(data: str | bytes | None) -> int:
    if data is None:
        return 0
    return len(data) if isinstance(data, bytes) else len(data.encode())
