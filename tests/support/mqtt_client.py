"""An MQTT client that says exactly the packets that it is told to say, valid or not."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

__all__ = [
    "ACK", "CONNACK", "DISCONNECT", "PINGRESP", "PUBCOMP", "PUBLISH", "PUBREC", "PUBREL", "SUBACK", "UNSUBACK",
    "Raw", "RawMqtt", "connect_packet", "mqtt_client", "packet", "publish_packet", "subscribe_packet", "text",
]  # fmt: skip

CONNACK, PUBLISH, ACK, PUBREC, PUBREL, PUBCOMP, SUBACK, UNSUBACK, PINGRESP, DISCONNECT = 2, 3, 4, 5, 6, 7, 9, 11, 13, 14
WAIT_S = 20


def text(value: str | bytes) -> bytes:
    """A string with its length before it (MQTT 5.0 §1.5.4)."""
    data = value.encode() if isinstance(value, str) else value
    return len(data).to_bytes(2) + data


def packet(first: int, *parts: bytes) -> bytes:
    """A packet with its length (MQTT 5.0 §2.1)."""
    body = b"".join(parts)
    length, size = b"", len(body)
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (128 if size else 0)])
        if not size:
            return bytes([first]) + length + body


def properties(said: bytes) -> bytes:
    assert len(said) < 128
    return bytes([len(said)]) + said


def connect_packet(
    version: int,
    client_id: str = "",
    *,
    key: str | None = None,
    token: str | None = None,
    clean: bool = True,
    keep_alive: int = 60,
    said: bytes = b"",
    will: tuple[str, bytes] | None = None,
) -> bytes:
    """CONNECT; `said` are its properties with version 5."""
    flags = (2 if clean else 0) | (4 if will else 0)
    parts = [text(client_id)]
    if will:
        parts += [*([b"\0"] if version == 5 else []), text(will[0]), text(will[1])]
    if key is not None:
        flags |= 0xC0
        parts += [text(part) for part in key.split(":")]
    elif token is not None:
        flags |= 0x80
        parts.append(text(token))
    head = [text("MQTT"), bytes([version, flags]), keep_alive.to_bytes(2)]
    return packet(0x10, *head, *([properties(said)] if version == 5 else []), *parts)


def publish_packet(
    version: int,
    topic: str,
    payload: bytes,
    *,
    qos: int = 0,
    packet_id: int = 0,
    retain: bool = False,
    dup: bool = False,
    said: bytes = b"",
) -> bytes:
    """PUBLISH; `said` are its properties with version 5."""
    first = 0x30 | qos << 1 | retain | dup << 3
    return packet(
        first,
        text(topic),
        packet_id.to_bytes(2) if qos else b"",
        properties(said) if version == 5 else b"",
        payload,
    )


def subscribe_packet(version: int, packet_id: int, *filters: tuple[str, int], said: bytes = b"") -> bytes:
    """SUBSCRIBE: filters and their options."""
    none = properties(said) if version == 5 else b""
    return packet(0x82, packet_id.to_bytes(2), none, *(text(name) + bytes([options]) for name, options in filters))


@dataclass(frozen=True)
class Raw:
    """A packet as it came."""

    kind: int
    flags: int
    body: bytes

    def publish(self, version: int) -> tuple[str, bytes, int]:
        """Topic, payload and identifier of a PUBLISH; its properties, of less than 128 bytes, are left out."""
        assert self.kind == PUBLISH
        size = int.from_bytes(self.body[:2])
        at = 2 + size
        packet_id = 0
        if self.flags & 6:
            packet_id, at = int.from_bytes(self.body[at : at + 2]), at + 2
        if version == 5:
            assert self.body[at] < 128
            at += 1 + self.body[at]
        return self.body[2 : 2 + size].decode(), self.body[at:], packet_id


class RawMqtt:
    """One connection. Made by `mqtt_client`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, version: int) -> None:
        self.reader, self.writer, self.version = reader, writer, version

    def send(self, *packets: bytes) -> None:
        self.writer.write(b"".join(packets))

    async def receive(self) -> Raw | None:
        """The next packet; None when the server has closed."""
        async with asyncio.timeout(WAIT_S):
            try:
                first = (await self.reader.readexactly(1))[0]
                length, shift = 0, 0
                while True:
                    digit = (await self.reader.readexactly(1))[0]
                    length |= (digit & 127) << shift
                    shift += 7
                    if digit < 128:
                        break
                return Raw(first >> 4, first & 15, await self.reader.readexactly(length))
            except (asyncio.IncompleteReadError, ConnectionResetError):
                return None

    async def expect(self, kind: int) -> Raw:
        """The next packet, which is of this kind."""
        received = await self.receive()
        assert received is not None, "closed"
        assert received.kind == kind, received
        return received

    async def connect(self, client_id: str = "", **said: object) -> Raw:
        """Says CONNECT and returns CONNACK."""
        self.send(connect_packet(self.version, client_id, **said))  # type: ignore[arg-type]
        return await self.expect(CONNACK)

    async def subscribe(self, *filters: tuple[str, int], packet_id: int = 1, said: bytes = b"") -> Sequence[int]:
        """Subscribes and returns what SUBACK says."""
        self.send(subscribe_packet(self.version, packet_id, *filters, said=said))
        answer = await self.expect(SUBACK)
        assert answer.body[:2] == packet_id.to_bytes(2)
        return tuple(answer.body[-len(filters) :])

    async def publish(self, topic: str, payload: bytes, **how: object) -> None:
        """Says PUBLISH."""
        self.send(publish_packet(self.version, topic, payload, **how))  # type: ignore[arg-type]
        await self.writer.drain()

    async def message(self) -> tuple[str, bytes, int]:
        """Topic, payload and identifier of the next packet, a PUBLISH."""
        return (await self.expect(PUBLISH)).publish(self.version)

    async def closed(self) -> bool:
        """Whether the server says nothing more and closes."""
        return await self.receive() is None


@asynccontextmanager
async def mqtt_client(port: int, version: int = 5, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[RawMqtt]:
    """A connection on which nothing was said yet."""
    hostname = "localhost" if tls else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=hostname)
    try:
        yield RawMqtt(reader, writer, version)
    finally:
        writer.transport.abort()
