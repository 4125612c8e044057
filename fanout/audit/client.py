"""A client of the protocol as lean as an audit needs it: thousands fit into one process.

It does what SDKs do where that matters for exactness (Ably protocol, "Connection life" and "Channels"):

- It remembers each channel's last `channelSerial`, comes back after every loss (`returning.py`) with its connection
  key, and attaches its channels again from those serials.
- It sends again what has no answer: under the old numbers if its connection was resumed, else counted anew from 0.
- What comes for a channel that is not attached on this link is dropped, and the serial moves on all the same: a server
  that speaks too early loses messages here, as it would with them.

Times are in seconds. Everything belongs to the loop that connected it.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

import msgspec
import orjson

from fanout.audit.link import Link, open_link
from fanout.audit.returning import ANSWER_S, Refused, Returning
from fanout.wire import Action, Flag

__all__ = ["Client"]

ATTACH_S: Final = 25.0  # until an ATTACH without an answer is sent again: a node that is frozen is noticed before


@dataclass(slots=True)
class _Pending:
    """One publish until its answer."""

    frame: dict[str, Any]
    answer: "asyncio.Future[list[str]]"
    sent: Callable[[], None] | None


@dataclass(slots=True)
class _Channel:
    attach: dict[str, Any]
    serial: str | None = None
    is_attached: bool = False
    asked: float = 0.0
    answer: "asyncio.Future[dict[str, Any]] | None" = None


class Client(Returning[Link]):
    """One client over a WebSocket. `on_message(channel, message)` is given what comes; `on_gap(channel, code)` hears
    where the server did not continue, with its code, None if it gave none.
    """

    def __init__(
        self,
        urls: Sequence[str],
        key: str,
        wire: str = "json",
        *,
        query: Mapping[str, str] | None = None,
        source: str | None = None,
        receive_buffer: int | None = None,
        on_message: Callable[[str, dict[str, Any]], None] = lambda channel, message: None,
        on_gap: Callable[[str, int | None], None] = lambda channel, code: None,
    ) -> None:
        """`query` has more parameters, or others; the rest as of `Returning`."""
        super().__init__(urls, source=source, receive_buffer=receive_buffer)
        self.connection_id: str | None = None
        self.hello: dict[str, Any] = {}
        """The last CONNECTED."""
        self._query = {"v": "5", "format": wire, "key": key} | dict(query or {})
        self._binary = wire == "msgpack"
        self._on_message = on_message
        self._on_gap = on_gap
        self._connection_key: str | None = None
        self._channels: dict[str, _Channel] = {}
        self._pending: dict[int, _Pending] = {}
        self._next_serial = 0

    # -- connection --

    async def _open(self, url: str) -> None:
        query = self._query
        if self._connection_key is not None:
            query = query | {"resume": self._connection_key}
        node = urlsplit(url)
        scheme = "wss" if node.scheme == "https" else "ws"
        address = f"{scheme}://{node.netloc}/?{urlencode(query)}"
        await open_link(address, self, source=self._source, receive_buffer=self._receive_buffer)

    @property
    def is_settled(self) -> bool:
        """Whether it is connected, all its channels are attached and all its publishes answered."""
        return self.is_connected and not self._pending and all(one.is_attached for one in self._channels.values())

    async def follow(self, channels: Iterable[str]) -> None:
        """See `fanout.audit.transports.Follower`."""
        await self.connect()
        for channel in channels:
            await self.attach(channel)

    async def close(self) -> None:
        """Ends the connection for good, without a word. Publishes without an answer never get one."""
        await super().close()
        for pending in self._pending.values():
            pending.answer.cancel()

    def tend(self) -> None:
        """To be called about once a second: gives up a link that is silent for too long, asks again for a channel."""
        if not self.is_connected or self._is_paused:
            return
        if self._is_silent(self.hello["connectionDetails"]["maxIdleInterval"] / 1000):
            self.cut()
            return
        now = time.monotonic()
        for channel in self._channels.values():
            if not channel.is_attached and now - channel.asked > ATTACH_S:
                self._attach(channel)

    # -- protocol --

    def send(self, frame: dict[str, Any]) -> None:
        """One frame, as it is."""
        self.send_bytes(msgspec.msgpack.encode(frame) if self._binary else orjson.dumps(frame))

    def send_bytes(self, payload: bytes, *, binary: bool | None = None) -> None:
        """One WebSocket message of any content; of the wire's own kind unless told."""
        if self._link is not None:
            self._link.send(payload, binary=self._binary if binary is None else binary)

    async def attach(self, channel: str, **fields: Any) -> dict[str, Any]:
        """Returns ATTACHED. Raises Refused when the channel is, TimeoutError after 20 s."""
        state = self._channels[channel] = _Channel({"action": Action.ATTACH, "channel": channel, **fields})
        state.answer = asyncio.get_running_loop().create_future()
        self._attach(state)
        async with asyncio.timeout(ANSWER_S):
            return await state.answer

    async def publish(
        self, channel: str, *messages: dict[str, Any], sent: Callable[[], None] | None = None
    ) -> list[str]:
        """Returns the serials once the server has acknowledged; survives cuts. Raises Refused for a NACK.

        `sent` is called each time that it is sent.
        """
        number, self._next_serial = self._next_serial, self._next_serial + 1
        frame = {"action": Action.MESSAGE, "channel": channel, "msgSerial": number, "messages": messages}
        pending = self._pending[number] = _Pending(frame, asyncio.get_running_loop().create_future(), sent)
        if self.is_connected:  # else it goes out after CONNECTED
            self._send_publish(pending)
        return await pending.answer

    def _attach(self, channel: _Channel) -> None:
        channel.asked = time.monotonic()
        self.send(channel.attach | ({"channelSerial": channel.serial} if channel.serial else {}))

    def _send_publish(self, pending: _Pending) -> None:
        if pending.sent is not None:
            pending.sent()
        self.send(pending.frame)

    # -- what comes --

    def heard(self, link: Link, payload: bytes) -> None:
        """See `Owner`."""
        self._heard_at = time.monotonic()
        self._frame(payload)

    def lost(self, link: Link) -> None:
        """See `Owner`."""
        for channel in self._channels.values():
            channel.is_attached = False
        super().lost(link)

    def _frame(self, payload: bytes) -> None:
        frame = msgspec.msgpack.decode(payload) if self._binary else orjson.loads(payload)
        match frame["action"]:
            case Action.MESSAGE:
                self._is_given(frame)
            case Action.ATTACHED:
                self._is_attached(frame)
            case Action.CONNECTED:
                self._is_connected(frame)
            case Action.ACK | Action.NACK:
                self._is_answered(frame)
            case Action.ERROR:
                self._is_refused(frame)
            case Action.DETACHED:
                self._is_detached(frame)
            case _:
                self._other(frame)

    def _is_given(self, frame: dict[str, Any]) -> None:
        channel = self._channels.get(frame["channel"])
        if channel is None:
            return
        channel.serial = frame["channelSerial"]
        if channel.is_attached:
            for message in frame["messages"]:
                self._on_message(frame["channel"], message)

    def _is_connected(self, frame: dict[str, Any]) -> None:
        self.hello = frame
        self._connection_key = frame["connectionDetails"]["connectionKey"]
        resumed = self.connection_id in (None, frame["connectionId"])
        if not resumed:
            self.refusals += 1
            self._count_anew()
        self.connection_id = frame["connectionId"]
        for channel in self._channels.values():
            self._attach(channel)
        for pending in self._pending.values():
            self._send_publish(pending)
        self._is_in("" if resumed else f", not resumed: {(frame.get('error') or {}).get('message')}")

    def _count_anew(self) -> None:
        pending = list(self._pending.values())
        for number, one in enumerate(pending):
            one.frame["msgSerial"] = number
        self._pending = dict(enumerate(pending))
        self._next_serial = len(pending)

    def _is_attached(self, frame: dict[str, Any]) -> None:
        channel = self._channels.get(frame["channel"])
        if channel is None:
            return
        if channel.serial is not None and not frame["flags"] & Flag.RESUMED:
            self._on_gap(frame["channel"], (frame.get("error") or {}).get("code"))
        channel.serial = frame["channelSerial"]
        channel.is_attached = True
        if channel.answer is not None and not channel.answer.done():
            channel.answer.set_result(frame)

    def _is_detached(self, frame: dict[str, Any]) -> None:
        """The server asks to attach again: at once; or, if it was not attached, later."""
        channel = self._channels.get(frame["channel"])
        if channel is None:
            return
        if channel.is_attached:
            channel.is_attached = False
            self._attach(channel)

    def _is_answered(self, frame: dict[str, Any]) -> None:
        first = frame["msgSerial"]
        if first not in self._pending:
            self._other(frame)
            return
        for index in range(frame["count"]):
            pending = self._pending.pop(first + index)
            if pending.answer.done():
                continue
            if "error" in frame:
                pending.answer.set_exception(Refused(frame["error"]))
            else:
                pending.answer.set_result(frame["res"][index]["serials"])

    def _is_refused(self, frame: dict[str, Any]) -> None:
        channel = self._channels.get(frame.get("channel", ""))
        if channel is not None and channel.answer is not None and not channel.answer.done():
            channel.answer.set_exception(Refused(frame["error"]))
            del self._channels[frame["channel"]]
        elif "channel" in frame or not self._is_refused_for_good(frame["error"]):
            if channel is not None:
                channel.is_attached = False
                self.errors[frame["error"]["code"]] += 1
            self._other(frame)

    def _other(self, frame: dict[str, Any]) -> None:
        """What nothing here waits for: heartbeats, DISCONNECTED, presence, errors."""
