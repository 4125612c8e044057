"""Retained messages on their way to one MQTT client, ahead of what is delivered (MQTT 5.0 §3.3.1.3).

Each is given with the lower of its own QoS and its subscription's (§3.8.4). One with QoS 1 needs a place among those
that the client takes before it acknowledges one. Where there is none it waits here, and what is delivered with QoS 1
waits behind it, in the log. What waits is nobody's but the connection's, and not given once it has expired.

Belongs to the event loop.
"""

import asyncio
from collections import deque
from collections.abc import Collection, Iterable
from typing import Any, Final, NamedTuple

from msgspec.structs import replace

from fanout._core import mqtt_encode
from fanout.packets import Publish

__all__ = ["RETAINED_BYTES", "Giving"]

RETAINED_BYTES: Final = 512 << 10
"""Retained messages that one client is yet to be given, as packets, those of another SUBSCRIBE among them."""


class _Waiting(NamedTuple):
    filter: str
    publish: Publish
    size: int
    since: float  # by the loop's clock

    def aged(self, now: float) -> Publish | None:
        """With what is left of its expiry interval (§3.3.2.3.3); None if nothing is."""
        properties = self.publish.properties
        if properties.expiry is None:
            return self.publish
        left_s = properties.expiry - int(now - self.since)
        return replace(self.publish, properties=replace(properties, expiry=left_s)) if left_s > 0 else None


class Giving:
    """See the module's text."""

    __slots__ = ("_engine", "_version", "_waiting", "bytes")

    def __init__(self, engine: Any, version: int) -> None:
        """`version` is 4 for MQTT 3.1.1, 5 for MQTT 5.0."""
        self._engine = engine
        self._version = version
        self._waiting = deque[_Waiting]()
        self.bytes = 0
        """What waits, as packets."""

    def size(self, publish: Publish) -> int:
        """What it takes as a packet."""
        return len(self._packet(publish, publish.qos))

    def give(self, connection: int, topic_filter: str, publishes: Iterable[Publish]) -> bytes:
        """The packets that may go at once; the others wait for `go_on`. `connection` is the engine's number."""
        now = []
        for publish in publishes:
            packet_id = self._number(connection, publish)
            if packet_id is None:
                size = self.size(publish)
                self._waiting.append(_Waiting(topic_filter, publish, size, asyncio.get_running_loop().time()))
                self.bytes += size
            else:
                now.append(self._packet(publish, packet_id))
        return b"".join(now)

    def go_on(self, connection: int) -> None:
        """The client has acknowledged something."""
        if not self._waiting:
            return
        now = asyncio.get_running_loop().time()
        while self._waiting:
            publish = self._waiting[0].aged(now)
            packet_id = 0 if publish is None else self._engine.packet_id(connection)
            if publish is not None and not packet_id:
                return
            self.bytes -= self._waiting.popleft().size
            if publish is not None:
                self._engine.send(connection, self._packet(publish, packet_id))
        self._engine.window_free(connection)

    def leave(self, connection: int, filters: Collection[str]) -> None:
        """These filters are subscribed to no more."""
        if not self._waiting:
            return
        self._waiting = deque(one for one in self._waiting if one.filter not in filters)
        self.bytes = sum(one.size for one in self._waiting)
        if not self._waiting:
            self._engine.window_free(connection)

    def _number(self, connection: int, publish: Publish) -> int | None:
        """The packet identifier, which is in use from now on; 0 with QoS 0; None if there is no place for it now."""
        if publish.qos == 0:
            return 0
        if self._waiting:
            return None
        return self._engine.packet_id(connection) or None

    def _packet(self, publish: Publish, packet_id: int) -> bytes:
        return mqtt_encode(replace(publish, packet_id=packet_id), self._version)
