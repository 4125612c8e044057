"""A client of MQTT 5.0 whose session is kept: it subscribes with QoS 1, and goes on by its session after every loss.

It does what applications do where that matters for exactness: a message with DUP set that it was given already is
dropped; one that comes again without it counts, and is found to be doubled. A session that the server does not have
(session present 0) is a gap in every channel, and they are subscribed to once more. There are no message ids on MQTT:
payloads have to differ.

What it says is a handful of packets; messages are parsed by the library that the node reads its clients with.
Everything belongs to the loop that connected it.
"""

import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from fanout._core import MqttReader, mqtt_encode
from fanout.audit.returning import Returning
from fanout.audit.tcp_link import TcpLink, open_tcp
from fanout.packets import PUBACK, Ack, Fault, Publish

__all__ = ["NO_SESSION", "Mqtt", "connect_packet", "packets_of", "subscribe_packet"]

NO_SESSION: Final = 0
"""What a gap is counted under whose only word is that the session is not there."""

KEEP_ALIVE_S: Final = 6  # the node notices soon who is gone
PING_EVERY_S: Final = 3.0
SESSION_S: Final = 3_600
RECEIVE_MAXIMUM: Final = 64
REMEMBERED: Final = 1_000  # messages: of a killed node's client, all come again since its session was written last
PACKET_BYTES: Final = 1 << 20

_CONNACK, _PUBLISH, _SUBACK, _DISCONNECT = 2, 3, 9, 14
_PING: Final = b"\xc0\x00"
_BUSY: Final = frozenset({0x80, 0x88, 0x89, 0x97})  # of CONNACK: another time, or another node, may do
_VERSION: Final = 5


class Mqtt(Returning[TcpLink]):
    """One client. `on_message(channel, message)` is given what comes; `on_gap(channel, code)` hears that the server did
    not continue.
    """

    def __init__(
        self,
        urls: Sequence[str],
        key: str,
        *,
        source: str | None = None,
        receive_buffer: int | None = None,
        on_message: Callable[[str, dict[str, Any]], None],
        on_gap: Callable[[str, int | None], None],
    ) -> None:
        """`urls` are of nodes' ports for MQTT; the rest as of `Returning`."""
        super().__init__(urls, source=source, receive_buffer=receive_buffer)
        self.repeated = 0
        """Messages that came again with DUP set."""
        self._key = key
        self._client_id = f"audit-{secrets.token_hex(8)}"
        self._channels: tuple[str, ...] = ()
        self._on_message = on_message
        self._on_gap = on_gap
        self._rest = b""
        self._reader = MqttReader(PACKET_BYTES)
        self._recent = deque[tuple[str, bytes]](maxlen=REMEMBERED)
        self._is_subscribed = False
        self._told_repeated = 0
        self._pinged_at = 0.0

    async def follow(self, channels: Iterable[str]) -> None:
        """See `fanout.audit.transports.Follower`."""
        self._channels = tuple(channels)
        await self.connect()

    def tend(self) -> None:
        """To be called about once a second: says that it is there, gives up a link that is silent for too long."""
        if not self.is_connected or self._is_paused:
            return
        if self._is_silent(PING_EVERY_S):
            self.cut()
        elif self._link is not None and time.monotonic() - self._pinged_at > PING_EVERY_S:
            self._pinged_at = time.monotonic()
            self._link.send(_PING)

    def lost(self, link: TcpLink) -> None:
        """See `Owner`."""
        if again := self.repeated - self._told_repeated:
            self._told_repeated = self.repeated
            self.story.tell(f"{again:,} messages had come again")
        super().lost(link)

    # -- what comes --

    async def _open(self, url: str) -> None:
        self._rest = b""
        await open_tcp(urlsplit(url), self, source=self._source, receive_buffer=self._receive_buffer)

    def opened(self, link: TcpLink) -> None:
        """See `Owner`."""
        super().opened(link)
        said = connect_packet(self._client_id, self._key, SESSION_S, RECEIVE_MAXIMUM, KEEP_ALIVE_S)
        self._reader = MqttReader(PACKET_BYTES)
        self._reader.feed(said)  # by which it knows the version
        self._reader.take()
        link.send(said)

    def heard(self, link: TcpLink, payload: bytes) -> None:
        """See `Owner`."""
        self._heard_at = time.monotonic()
        *packets, self._rest = packets_of(self._rest + payload)
        for packet in packets:
            kind = packet[0] >> 4  # the other is PINGRESP
            if kind == _PUBLISH:
                self._is_given(link, packet)
            elif kind == _CONNACK:
                self._is_answered(link, packet)
            elif kind == _SUBACK:
                self._is_granted(link, packet)
            elif kind == _DISCONNECT:  # the server closes
                self.story.tell(f"DISCONNECT, reason 0x{packet[2] if len(packet) > 2 else 0:02x}")

    def _is_answered(self, link: TcpLink, packet: bytes) -> None:
        present, reason = packet[2] & 1, packet[3]
        if reason:
            self.story.tell(f"CONNACK, reason 0x{reason:02x}")
            if reason in _BUSY:
                self.errors[reason] += 1
            else:
                self._is_refused_for_good({"code": reason, "message": "refused by CONNACK"})
            link.end()
        elif present:
            self._is_in(", with its session")
        else:
            if self._is_subscribed:
                for channel in self._channels:
                    self._on_gap(channel, NO_SESSION)
            link.send(subscribe_packet(1, self._channels))

    def _is_granted(self, link: TcpLink, packet: bytes) -> None:
        granted = packet[-len(self._channels) :]
        if granted == b"\x01" * len(self._channels):
            self._is_subscribed = True
            self._is_in(", without a session")
        else:
            self._is_refused_for_good({"code": max(granted), "message": "refused by SUBACK"})
            link.end()

    def _is_given(self, link: TcpLink, packet: bytes) -> None:
        self._reader.feed(packet)
        said = self._reader.take()
        if isinstance(said, Fault):
            raise ConnectionResetError(f"no PUBLISH: {said.text}")
        assert isinstance(said, Publish)
        message = said.topic, said.payload
        self.story.given(said.topic, said.payload.decode(), again=said.dup)
        if said.dup and message in self._recent:
            self.repeated += 1
        else:
            self._recent.append(message)
            self._on_message(said.topic, {"id": "", "data": said.payload.decode()})
        if said.qos:
            link.send(mqtt_encode(Ack(PUBACK, said.packet_id), _VERSION))


def connect_packet(client_id: str, key: str, session_s: int, receive_maximum: int, keep_alive_s: int) -> bytes:
    """CONNECT of a session that is to be kept (MQTT 5.0 §3.1)."""
    name, _, secret = key.partition(":")
    wishes = b"\x11" + session_s.to_bytes(4) + b"\x21" + receive_maximum.to_bytes(2)
    head = _text("MQTT") + bytes((_VERSION, 0xC0)) + keep_alive_s.to_bytes(2) + bytes((len(wishes),)) + wishes
    return _packet(0x10, head + _text(client_id) + _text(name) + _text(secret))


def subscribe_packet(packet_id: int, channels: Iterable[str]) -> bytes:
    """SUBSCRIBE to these channels with QoS 1 (§3.8)."""
    return _packet(0x82, packet_id.to_bytes(2) + b"\0" + b"".join(_text(channel) + b"\x01" for channel in channels))


def packets_of(data: bytes) -> Iterator[bytes]:
    """The packets that are whole, and at the end what is left (§2.1.4)."""
    while True:
        size, at = 0, 1
        while at < len(data) and data[at] & 0x80 and at < 4:
            size |= (data[at] & 0x7F) << 7 * (at - 1)
            at += 1
        if at >= len(data):
            break
        end = at + 1 + (size | data[at] << 7 * (at - 1))
        if end > len(data):
            break
        yield data[:end]
        data = data[end:]
    yield data


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(2) + encoded


def _packet(head: int, body: bytes) -> bytes:
    length, size = bytearray(), len(body)
    while size >= 0x80:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    length.append(size)
    return bytes((head,)) + bytes(length) + body
