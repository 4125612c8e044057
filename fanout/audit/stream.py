"""A client of streams: several channels as one HTTP response that does not end (docs/protocol.md, "Streams").

It does what browsers' EventSource does where that matters for exactness: it remembers the id of the last whole event,
and comes back with it after every loss (`returning.py`). A gap is an `error` event that names a channel.

Everything belongs to the loop that connected it.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import orjson

from fanout.audit.events import Event, Events, Lines, Reply
from fanout.audit.returning import Returning
from fanout.audit.tcp_link import TcpLink, open_tcp

__all__ = ["CHANNELS_MAX", "Stream"]

CHANNELS_MAX: Final = 32  # docs/protocol.md, "Streams"
IDLE_S: Final = 15.0  # then the server says something, if only a comment
REFUSAL_BYTES_MAX: Final = 64 << 10
_LATER: Final = frozenset({80003})  # "connect again"; so are all of status 429 and from 500 on


class Stream(Returning[TcpLink]):
    """One stream. `on_message(channel, message)` is given what comes; `on_gap(channel, code)` hears where the server
    did not continue.
    """

    def __init__(
        self,
        urls: Sequence[str],
        key: str,
        *,
        lines: bool = False,
        source: str | None = None,
        receive_buffer: int | None = None,
        on_message: Callable[[str, dict[str, Any]], None],
        on_gap: Callable[[str, int | None], None],
    ) -> None:
        """Of JSON `lines`, else of server-sent events; the rest as of `Returning`."""
        super().__init__(urls, source=source, receive_buffer=receive_buffer)
        self.last_id = ""
        """Where it goes on after a loss."""
        self._key = key
        self._lines = lines
        self._channels: tuple[str, ...] = ()
        self._on_message = on_message
        self._on_gap = on_gap
        self._reply = Reply()
        self._events: Events | Lines = Events()
        self._refusal = b""

    async def follow(self, channels: Iterable[str]) -> None:
        """See `fanout.audit.transports.Follower`."""
        self._channels = tuple(channels)
        await self.connect()

    def tend(self) -> None:
        """To be called about once a second: gives up a link that is silent for too long."""
        if self.is_connected and self._is_silent(IDLE_S):
            self.cut()

    # -- what comes --

    async def _open(self, url: str) -> None:
        self._reply, self._events = Reply(), Lines() if self._lines else Events()
        self._refusal = b""
        await open_tcp(urlsplit(url), self, source=self._source, receive_buffer=self._receive_buffer)

    def opened(self, link: TcpLink) -> None:
        """See `Owner`."""
        super().opened(link)
        path = "/event-stream" if self._lines else "/sse"
        query = urlencode({"v": "3", "key": self._key, "channels": ",".join(self._channels)})
        last = f"last-event-id: {self.last_id}\r\n" if self.last_id else ""
        link.send(f"GET {path}?{query} HTTP/1.1\r\nhost: fanout\r\n{last}\r\n".encode())

    def heard(self, link: TcpLink, payload: bytes) -> None:
        """See `Owner`."""
        self._heard_at = time.monotonic()
        try:
            body = self._reply.feed(payload)
        except ConnectionError:
            link.end()
            return
        if self._reply.status == 200:
            if not self.is_connected:
                self._is_in()
            for event in self._events.feed(body):
                self._take(event)
        elif self._reply.status:
            self._refusal += body
            if self._reply.is_whole or len(self._refusal) > REFUSAL_BYTES_MAX:
                self._is_turned_away(link)

    def _take(self, event: Event) -> None:
        if event.id is not None:
            self.last_id = event.id
        if event.kind == "message" and event.data is not None:
            self._on_message(event.data["channel"], event.data)
        elif event.kind == "error" and "channel" in event.data:
            self._on_gap(event.data["channel"], event.data["code"])
        # Any other error is the last event: whoever comes back is told whether that is for good.

    def _is_turned_away(self, link: TcpLink) -> None:
        status = self._reply.status
        try:
            error = orjson.loads(self._refusal)["error"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            error = {"code": status, "message": "refused"}
        if status == 429 or status >= 500 or error["code"] in _LATER:
            self.errors[error["code"]] += 1
        else:
            self._is_refused_for_good(error)
        link.end()
