"""A presence member as a record of the log, and its end.

Key = JSON array of channel, connection id and client id, so that compaction keeps the newest of each member. The value
is the member's data; the headers say the rest, as ARCHITECTURE.md lists. A record without a value is a leave: what its
member said with it, if anything, is in the header `fanout.data`. `fanout.node` names the node that answers for the
member: the one that its connection is on. `fanout.generation` counts how often that connection had been continued, so
that what an earlier node of it writes late is known for what it is.
"""

import secrets
from typing import Final, NamedTuple

import orjson

from fanout.routing import PRESENCE_TOPIC
from fanout.sources.base import NewRecord
from fanout.types import PresenceEvent

__all__ = ["ENTER", "LEAVE", "Key", "event_record", "leave_record"]

ENTER: Final = "enter"
LEAVE: Final = "leave"


class Key(NamedTuple):
    """What tells one member from every other."""

    channel: str
    connection_id: str
    client_id: str


def event_record(key: Key, event: PresenceEvent, node: str) -> NewRecord:
    """What a client said of one of its members."""
    data, kind = event.data, b"binary"
    if data is None:
        data, kind = b"", b"none"
    elif isinstance(data, str):
        data, kind = data.encode(), b"text"
    headers = [
        ("fanout.action", event.action.encode()),
        ("fanout.id", event.id.encode()),
        ("fanout.node", node.encode()),
        *_generation(event.generation),
        ("fanout.type", kind),
    ]
    if event.encoding is not None:
        headers.append(("fanout.encoding", event.encoding.encode()))
    if event.extras is not None:
        headers.append(("fanout.extras", orjson.dumps(event.extras)))
    if event.action != LEAVE:
        return NewRecord(PRESENCE_TOPIC, orjson.dumps(tuple(key)), data, headers)
    if kind != b"none":
        headers.append(("fanout.data", data))
    return NewRecord(PRESENCE_TOPIC, orjson.dumps(tuple(key)), None, headers)


def leave_record(key: Key, node: str, generation: int) -> NewRecord:
    """The leave of a member that could not say it itself: it leaves with what it showed last.

    It counts for the member as of that `generation`, and not if its connection has been continued since.

    Its id does not begin with the connection's, by which clients know such a leave, and judge by time whether it is
    newer than what they have: no connection id holds a colon (Ably protocol, "Newness").
    """
    headers = [
        ("fanout.action", LEAVE.encode()),
        ("fanout.id", f"gone:{secrets.token_urlsafe(9)}:0".encode()),
        ("fanout.node", node.encode()),
        *_generation(generation),
        ("fanout.type", b"none"),
    ]
    return NewRecord(PRESENCE_TOPIC, orjson.dumps(tuple(key)), None, headers)


def _generation(generation: int) -> list[tuple[str, bytes]]:
    """The header; none for most connections, which are never continued."""
    return [("fanout.generation", str(generation).encode())] if generation else []
