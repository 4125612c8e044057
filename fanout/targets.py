"""Where what is published goes: the record that a message becomes, by the first `[[publish]]` that is for its channel.

Without a rule the key is the channel, so that a channel's messages keep their order; the value is the payload as
published; the rest goes into headers, which ARCHITECTURE.md lists. Records of a rule say their channel in the header
`fanout.channel`, for their key may be another. The value of an enveloped one is JSON, in the form that the
integrations of Ably's service use:

    {"source": "channel.message", "channel": "chat:1", "messages": [{"id": …, "timestamp": …, "data": …}]}

with binary data in base64; the same headers go with it, and readers of ours take the payload out of it again.
"""

import base64
import time
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Final

import orjson

from fanout.rules.publish import PublishRule, fill
from fanout.sources.base import NewRecord
from fanout.types import OutMessage

__all__ = ["Target", "Targets"]

CHANNELS_KNOWN: Final = 10_000  # whose target is remembered; 0.5 KiB each

Header = tuple[str, bytes | None]


class Target:
    """What becomes of the messages of one channel."""

    __slots__ = ("_channel", "_key", "_now", "_rule", "_values", "topic")

    def __init__(
        self, channel: str, topic: str, rule: PublishRule | None, parts: tuple[str, ...], now: Callable[[], int]
    ) -> None:
        self.topic = topic
        self._channel = channel
        self._key = channel.encode()
        self._rule = rule
        self._values = {"channel": channel} | {str(number): part for number, part in enumerate(parts, 1)}
        self._now = now

    def record(self, message: OutMessage) -> NewRecord:
        """The message's record. Raises ValueError for text that UTF-8 cannot hold."""
        data, kind = message.data, b"binary"
        if data is None:
            kind = b"none"
        elif isinstance(data, str):
            data, kind = data.encode(), b"text"
        headers = _headers(message, kind)
        rule = self._rule
        if rule is None:
            return NewRecord(self.topic, self._key, data, headers)
        said = {
            "name": message.name or "",
            "clientId": message.client_id or "",
            "connectionId": message.connection_id or "",
            "id": message.id,
        }
        values = self._values | said
        headers.append(("fanout.channel", self._key))
        headers.extend((name, fill(template, values).encode()) for name, template in rule.headers.items())
        if rule.format == "enveloped":
            headers.append(("fanout.format", b"enveloped"))
            data = self._envelope(message)
        return NewRecord(self.topic, fill(rule.key, values).encode(), data, headers)

    def _envelope(self, message: OutMessage) -> bytes:
        said: dict[str, Any] = {"id": message.id, "timestamp": self._now()}
        data, encoding = message.data, message.encoding
        if isinstance(data, bytes):
            data = base64.b64encode(data).decode()
            encoding = "base64" if encoding is None else f"{encoding}/base64"
        given = {
            "clientId": message.client_id,
            "connectionId": message.connection_id,
            "name": message.name,
            "data": data,
            "encoding": encoding,
            "extras": message.extras,
        }
        said |= {field: value for field, value in given.items() if value is not None}
        for name, content in message.headers:
            if name in ("fanout.action", "fanout.serial"):  # of a change: what it is, and of which message
                said[name.removeprefix("fanout.")] = content.decode()
        return orjson.dumps({"source": "channel.message", "channel": self._channel, "messages": [said]})


class Targets:
    """The targets of all channels. Belongs to the event loop."""

    def __init__(
        self,
        topic: str,
        rules: Sequence[PublishRule] = (),
        now: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """What no rule is for goes to `topic`; `now` reads the time in ms."""
        self._topic = topic
        self._rules = rules
        self._now = now
        self.of = lru_cache(CHANNELS_KNOWN)(self._find)
        """The target of a channel."""

    def presence_topic(self, channel: str) -> str | None:
        """Where the presence events of a channel are copied to."""
        rule, _ = self._rule_of(channel)
        return None if rule is None else rule.presence

    def _find(self, channel: str) -> Target:
        rule, parts = self._rule_of(channel)
        topic = self._topic if rule is None or rule.topic is None else rule.topic
        return Target(channel, topic, rule, parts, self._now)

    def _rule_of(self, channel: str) -> tuple[PublishRule | None, tuple[str, ...]]:
        for rule in self._rules:
            if (parts := rule.parts(channel)) is not None:
                return rule, parts
        return None, ()


def _headers(message: OutMessage, kind: bytes) -> list[Header]:
    """What a message says beside its payload; what is absent has no header."""
    headers: list[Header] = [("fanout.id", message.id.encode()), ("fanout.type", kind)]
    if message.name is not None:
        headers.append(("fanout.name", message.name.encode()))
    if message.encoding is not None:
        headers.append(("fanout.encoding", message.encoding.encode()))
    if message.client_id is not None:
        headers.append(("fanout.clientId", message.client_id.encode()))
    if message.connection_id is not None:
        headers.append(("fanout.connectionId", message.connection_id.encode()))
    if message.extras is not None:
        headers.append(("fanout.extras", orjson.dumps(message.extras)))
    headers.extend(message.headers)
    return headers
