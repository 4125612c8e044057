"""Attacks on the MQTT port: each gets its documented answer, and nobody else notices."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path

import pytest

from fanout import Config, Server
from fanout.transports import mqtt, mqtt_waiting
from tests.hostile.bystander import served_throughout
from tests.support.mqtt_client import (
    CONNACK,
    DISCONNECT,
    PUBLISH,
    RawMqtt,
    connect_packet,
    mqtt_client,
    packet,
    publish_packet,
    subscribe_packet,
    text,
)  # fmt: skip

KEY = "app.key:secret"
PATIENCE_S = 5.0  # the machine is shared; on its own the answer takes a millisecond
GONE_S = 60.0  # what an attacker had sent is heard to its end, a piece in each turn
FLAT_BYTES = 32 << 20  # what the process may grow by: one connection's buffers, and noise

MALFORMED, PROTOCOL, FILTER, TOPIC, TOO_LARGE = 0x81, 0x82, 0x8F, 0x90, 0x95


@contextlib.asynccontextmanager
async def attacked_node(folder: Path) -> AsyncIterator[Server]:
    """A node with a bystander on it, who is served before, during and after; and no connection is left in the end."""
    config = Config(port=0, mqtt_port=0, key=(KEY,), secret="0123456789abcdef", data=folder)
    async with Server(config) as server:
        await server.ready()
        assert server.mqtt_port is not None
        async with mqtt_client(server.mqtt_port) as bystander:
            await bystander.connect("bystander", key=KEY)
            await bystander.subscribe(("echo", 1))
            async with served_throughout(partial(served, bystander)):
                yield server
            await served(bystander, b"after")
        async with asyncio.timeout(GONE_S):
            while server._node.doors.mqtt.open_connections:  # noqa: ASYNC110  there is no event of it
                await asyncio.sleep(0.02)


async def served(bystander: RawMqtt, payload: bytes) -> None:
    async with asyncio.timeout(PATIENCE_S):
        await bystander.publish("echo", payload, qos=1, packet_id=1)
        kinds = set()
        for _ in range(2):
            received = await bystander.receive()
            assert received is not None
            kinds.add(received.kind)
            if received.kind == PUBLISH:
                _, given, packet_id = received.publish(5)
                assert given == payload
                bystander.send(packet(0x40, packet_id.to_bytes(2)))
        assert len(kinds) == 2


def resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def attacks(version: int) -> list[tuple[str, bytes, int]]:
    """What may not come behind CONNECT, and the reason code that MQTT 5.0 has for it."""
    none = b"\0" if version == 5 else b""
    return [
        ("a length that does not end", b"\x30\xff\xff\xff\xff\x7f", MALFORMED),
        ("an oversize packet", b"\x30\xff\xff\xff\x7f", TOO_LARGE),
        ("a packet of no kind", b"\x00\x00", MALFORMED),
        ("a packet of a server's", b"\x20\x02\0\0", PROTOCOL),
        ("a second CONNECT", connect_packet(version, "x", key=KEY), PROTOCOL),
        ("QoS 3", packet(0x36, text("t"), b"\0\x01", none), MALFORMED),
        ("a surrogate in a topic", packet(0x30, text(b"\xed\xa0\x80"), none), MALFORMED),
        ("broken UTF-8 in a filter", packet(0x82, b"\0\x01", none, text(b"\xff"), b"\0"), MALFORMED),
        ("a NUL in a topic", packet(0x30, text("a\0"), none), MALFORMED),
        ("a wildcard in a topic", packet(0x30, text("a/#"), none), TOPIC),
        ("a topic longer than its packet", packet(0x30, b"\xff\xffab"), MALFORMED),
        ("packet identifier 0", packet(0x32, text("t"), b"\0\0", none), PROTOCOL),
        ("a SUBSCRIBE of nothing", packet(0x82, b"\0\x01", none), PROTOCOL),
        ("a filter that is none", packet(0x82, b"\0\x01", none, text("a#"), b"\0"), FILTER),
        ("a SUBSCRIBE without its flags", packet(0x80, b"\0\x01", none, text("a"), b"\0"), MALFORMED),
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", MALFORMED),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", PROTOCOL),
    ]


@pytest.mark.parametrize("version", [4, 5])
async def test_each_attack_ends_its_own_connection_with_its_code(tmp_path: Path, version: int) -> None:
    async with attacked_node(tmp_path) as node:
        assert node.mqtt_port is not None
        for what, attack, reason in attacks(version):
            async with mqtt_client(node.mqtt_port, version) as client:
                assert (await client.connect("attacker", key=KEY)).body[1] == 0
                client.send(attack)
                if version == 5:
                    told = await client.receive()
                    assert told is not None, what
                    assert (told.kind, told.body[0]) == (DISCONNECT, reason), what
                assert await client.closed(), what


async def test_what_does_not_begin_with_connect_is_told_nothing(tmp_path: Path) -> None:
    async with attacked_node(tmp_path) as node:
        assert node.mqtt_port is not None
        for attack in (
            b"GET / HTTP/1.1\r\n\r\n",
            b"\x16\x03\x01\x02\x00",
            publish_packet(4, "t", b"x"),
            b"\x10\xff\xff\xff\x7f",
            packet(0x10, text("MQTX"), b"\x04\x02\0\x3c", text("x")),
            packet(0x10, text("MQTT"), b"\x04\x03\0\x3c", text("x")),
            packet(0x10, text("MQTT"), b"\x04\x02\0\x3c", text(b"\xff")),
            packet(0x10, text("MQTT"), b"\x04\x02\0\x3c"),
            packet(0x10, text("MQTT"), b"\x05\x02\0\x3c\0", text(b"\xff")),
            packet(0x10, text("MQTT"), b"\x05\x02\0\x3c\x02\x7e\0", text("x")),  # a property that there is not
            packet(0x10, text("MQTT"), b"\x05\x02\0\x3c\x0a\x11\0\0\0\x01\x11\0\0\0\x01", text("x")),  # one twice
        ):
            async with mqtt_client(node.mqtt_port) as client:
                client.send(attack)
                assert await client.closed()


async def test_who_does_not_say_connect_in_time_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "SECONDS", 0.3)
    said = connect_packet(4, "slow", key=KEY)
    async with attacked_node(tmp_path) as node, contextlib.AsyncExitStack() as stack:
        assert node.mqtt_port is not None
        clients = [await stack.enter_async_context(mqtt_client(node.mqtt_port)) for _ in range(100)]
        for number, client in enumerate(clients):
            client.send(said[: number % len(said)])
        assert all(await asyncio.gather(*(client.closed() for client in clients)))
        assert len(node._node.doors.mqtt_shared.waiting) == 0


async def test_too_many_that_say_nothing_make_room_for_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mqtt_waiting, "CONNECTIONS_MAX", 20)
    async with attacked_node(tmp_path) as node, contextlib.AsyncExitStack() as stack:
        assert node.mqtt_port is not None
        clients = [await stack.enter_async_context(mqtt_client(node.mqtt_port)) for _ in range(60)]
        assert all(await asyncio.gather(*(client.closed() for client in clients[:40])))
        assert (await clients[-1].connect("last", key=KEY)).body[1] == 0


async def test_half_a_connect_of_many_is_held_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt_waiting, "BYTES_MAX", 1 << 20)
    most = packet(0x10, text("MQTT"), b"\x04\xc2\0\x3c", text("x"), text("u" * 65_000), text("p" * 60_000))
    async with attacked_node(tmp_path) as node, contextlib.AsyncExitStack() as stack:
        assert node.mqtt_port is not None
        clients = [await stack.enter_async_context(mqtt_client(node.mqtt_port)) for _ in range(30)]
        for client in clients:
            client.send(most[:-1])
        assert all(await asyncio.gather(*(client.closed() for client in clients[:10])))
        assert node._node.doors.mqtt_shared.waiting._bytes <= 1 << 20
        clients[-1].send(most[-1:])
        assert (await clients[-1].expect(CONNACK)).body[1] == 4


@pytest.mark.parametrize(
    "flood",
    [
        pytest.param(b"\xc0\x00" * 4096, id="pings"),
        pytest.param(packet(0x62, b"\0\x01") * 2048, id="releases of nothing"),
        pytest.param(packet(0x50, b"\0\x01") * 2048, id="receipts of nothing"),
        pytest.param(packet(0x40, b"\0\x01") * 2048, id="acknowledgements of nothing"),
        pytest.param(subscribe_packet(5, 1, ("a", 0)) * 512, id="subscribing"),
        pytest.param(publish_packet(5, "flood", b"x" * 200, qos=1, packet_id=1) * 100, id="publishing"),
    ],
)
async def test_a_client_that_never_reads_fills_no_memory(tmp_path: Path, flood: bytes) -> None:
    async with attacked_node(tmp_path) as node:
        assert node.mqtt_port is not None
        async with mqtt_client(node.mqtt_port) as client:
            await client.connect("flood", key=KEY)
            client.reader._transport.pause_reading()  # type: ignore[attr-defined]
            before = resident()
            with contextlib.suppress(ConnectionError, TimeoutError):
                async with asyncio.timeout(3):
                    for _ in range(300):
                        client.send(flood)
                        await client.writer.drain()
            assert resident() - before < FLAT_BYTES


async def test_a_subscriber_that_never_reads_holds_up_nobody(tmp_path: Path) -> None:
    async with attacked_node(tmp_path) as node:
        assert node.mqtt_port is not None
        async with mqtt_client(node.mqtt_port) as silent, mqtt_client(node.mqtt_port) as reader:
            for name, client in (("silent", silent), ("reader", reader)):
                await client.connect(name, key=KEY)
                await client.subscribe(("big", 0))
            silent.reader._transport.pause_reading()  # type: ignore[attr-defined]
            for number in range(200):
                await node.publish("big", b"%d" % number + b"x" * 60_000)
            for number in range(200):
                assert (await reader.message())[1].startswith(b"%dx" % number)
