"""Presence events for others: copied to a topic of the user's, for the channels whose rule names one.

A copy is written next to the event's own record, in one append, so an event is answered once the log has both. Its key
is the channel and its value JSON, in the form that the integrations of Ably's service use:

    {"source": "channel.presence", "channel": "chat:1", "presence": [{"action": 2, "clientId": "me", …}]}

`action` is the protocol's number: 2 enter, 3 leave, 4 update. What is written again after a failure is copied again,
under the same id; a leave that a node writes for a member may be written by two nodes, under ids of their own.
"""

import base64
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from fanout.errors import SourceError
from fanout.presence.records import Key
from fanout.sources.base import Appended, Appends, Done, NewRecord

__all__ = ["Copies"]

ACTIONS: Final = {b"enter": 2, b"leave": 3, b"update": 4}


class Copies:
    """Takes presence records to write, and adds the copies. Belongs to the event loop."""

    def __init__(
        self,
        log: Appends,
        topic_of: Callable[[str], str | None],
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`topic_of` tells where a channel's events are copied to; `now` reads the time in ms."""
        self._log = log
        self._topic_of = topic_of
        self._now = now

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        """As `Source.append`; `done` hears of the records, without the copies."""
        copies = [copy for record in records if (copy := self._copy(record)) is not None]

        def appended(result: list[Appended] | SourceError) -> None:
            done(result if isinstance(result, SourceError) else result[: len(records)])

        self._log.append([*records, *copies], appended)

    def _copy(self, record: NewRecord) -> NewRecord | None:
        key = Key(*orjson.loads(record.key or b"[]"))
        topic = self._topic_of(key.channel)
        if topic is None:
            return None
        headers = dict(record.headers)
        event: dict[str, Any] = {
            "action": ACTIONS[headers["fanout.action"] or b""],
            "id": _text(headers["fanout.id"]),
            "timestamp": self._now(),
            "clientId": key.client_id,
            "connectionId": key.connection_id,
        }
        data = record.value if record.value is not None else headers.get("fanout.data")
        encoding = _text(headers.get("fanout.encoding"))
        kind = headers["fanout.type"]
        if kind == b"text":
            event["data"] = _text(data)
        elif kind == b"binary":
            event["data"] = base64.b64encode(data or b"").decode()
            encoding = "base64" if encoding is None else f"{encoding}/base64"
        if encoding is not None:
            event["encoding"] = encoding
        if (extras := headers.get("fanout.extras")) is not None:
            event["extras"] = orjson.Fragment(extras)
        value = orjson.dumps({"source": "channel.presence", "channel": key.channel, "presence": [event]})
        return NewRecord(topic, key.channel.encode(), value, [])


def _text(content: bytes | None) -> str | None:
    return None if content is None else content.decode()
