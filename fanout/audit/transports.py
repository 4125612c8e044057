"""What subscribers of an audit speak, by name, and what they have in common."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Protocol

from fanout.audit.client import Client
from fanout.audit.mqtt import Mqtt
from fanout.audit.returning import Refused
from fanout.audit.story import Story
from fanout.audit.stream import CHANNELS_MAX, Stream

__all__ = ["QUERY", "TRANSPORTS", "WIRES", "Follower", "follower"]

TRANSPORTS: Final = {"websocket": 200, "sse": CHANNELS_MAX, "mqtt": 200}
"""How many channels one client of each follows at most (docs/operating.md, "Limits")."""

WIRES: Final = ("json", "msgpack")
QUERY: Final = {"heartbeatInterval": "5000"}  # the shortest: a frozen node is noticed soon


class Follower(Protocol):
    """A client that only listens, whatever it speaks. See `fanout.audit.returning.Returning`."""

    connections: int
    refusals: int
    errors: Counter[int]
    refused: Refused | None
    story: Story

    @property
    def is_connected(self) -> bool:
        """Whether the server has let it in on the link of now."""

    async def follow(self, channels: Iterable[str]) -> None:
        """Connects, once, and follows these channels until it is closed. Raises Refused, OSError or picows' WSError."""

    def tend(self) -> None:
        """To be called about once a second: gives up a link that is silent for too long."""

    def cut(self) -> None:
        """Resets the connection; it comes back by itself."""

    def leave(self) -> None:
        """Resets the connection, and stays away until `come_back`."""

    def come_back(self) -> None:
        """Ends an absence that `leave` began."""

    def abandon(self) -> None:
        """Comes back on a new link, and leaves the old one open to the server, and silent, for a while."""

    def pause(self) -> None:
        """Stops reading."""

    def resume(self) -> None:
        """Reads again."""

    async def close(self) -> None:
        """Ends the connection for good, without a word."""


def follower(
    transport: str,
    number: int,
    urls: Sequence[str],
    key: str,
    *,
    receive_buffer: int | None,
    on_message: Callable[[str, dict[str, Any]], None],
    on_gap: Callable[[str, int | None], None],
) -> Follower:
    """The client of that `number` of those who speak `transport`: they take turns in what wires it has.

    `urls` are of the ports where that is spoken.
    """
    if transport == "mqtt":
        return Mqtt(urls, key, receive_buffer=receive_buffer, on_message=on_message, on_gap=on_gap)
    if transport == "sse":
        lines = number % 2 == 1
        return Stream(urls, key, lines=lines, receive_buffer=receive_buffer, on_message=on_message, on_gap=on_gap)
    return Client(
        urls,
        key,
        WIRES[number % 2],
        query=QUERY,
        receive_buffer=receive_buffer,
        on_message=on_message,
        on_gap=on_gap,
    )
