"""Nothing that a client is sent is larger than it takes (MQTT 5.0 §3.1.2.11.4)."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fanout import Config, Server
from tests.support.mqtt_client import (
    ACK,
    CONNACK,
    DISCONNECT,
    RawMqtt,
    connect_packet,
    mqtt_client,
    subscribe_packet,
)

KEY = "app.key:secret"
REASON_STRING = 0x1F


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Server]:
    config = Config(port=0, mqtt_port=0, key=(KEY,), data=tmp_path, mqtt_server_reference="other.example:1883")
    async with Server(config) as node:
        await node.ready()
        yield node


@asynccontextmanager
async def taking(node: Server, size: int) -> AsyncIterator[RawMqtt]:
    """A client that takes packets of so many bytes."""
    assert node.mqtt_port is not None
    async with mqtt_client(node.mqtt_port) as client:
        greeting = await client.connect("me", key=KEY, said=maximum(size))
        assert greeting.body[1] == 0
        yield client


def maximum(size: int) -> bytes:
    return b"\x27" + size.to_bytes(4)


async def test_a_refusal_is_told_without_words_that_are_too_many(node: Server) -> None:
    for size, has_words in ((400, True), (40, False)):
        async with taking(node, size) as client:
            await client.publish("[meta]x", b"x", qos=1, packet_id=1)
            answer = await client.expect(ACK)
            assert (answer.body[2] >= 0x80, REASON_STRING in answer.body[3:]) == (True, has_words)


async def test_who_is_sent_away_is_told_without_words_that_are_too_many(node: Server) -> None:
    async with taking(node, 30) as client:
        client.send(b"\xf0\x00")
        assert (await client.expect(DISCONNECT)).body.rstrip(b"\0") == b"\x82"
        assert await client.closed()


@pytest.mark.parametrize("size", [40, 24])
async def test_a_client_that_moves_is_told_where_to_if_it_takes_that(node: Server, size: int) -> None:
    async with taking(node, size) as client:
        draining = asyncio.create_task(node.drain(0))
        told = await client.expect(DISCONNECT)
        assert (told.body[0], b"other.example:1883" in told.body) == (0x9C, size == 40)
        await draining


@pytest.mark.parametrize("topic_filter", ["t/big", "t/+"])
async def test_a_retained_message_that_is_too_large_is_left_out(node: Server, topic_filter: str) -> None:
    async with taking(node, 1_000) as publisher:
        for topic, payload in (("t/big", b"x" * 500), ("t/small", b"small")):
            await publisher.publish(topic, payload, qos=1, packet_id=1, retain=True)
            await publisher.expect(ACK)
    async with taking(node, 100) as client:
        await client.subscribe((topic_filter, 1), ("t/small", 1))
        small = (await client.message())[:2]
        assert small == ("t/small", b"small")


@pytest.mark.parametrize(("size", "told"), [(12, True), (4, False)])
async def test_who_takes_no_connack_is_not_let_in_and_has_no_will(node: Server, size: int, told: bool) -> None:
    assert node.mqtt_port is not None
    async with taking(node, 1_000) as watcher, mqtt_client(node.mqtt_port) as client:
        await watcher.subscribe(("t", 0))
        client.send(connect_packet(5, "other", key=KEY, said=maximum(size), will=("t", b"lost")))
        if told:
            assert (await client.expect(CONNACK)).body[1] == 0x95
        assert await client.closed()
        await watcher.publish("t", b"end")
        assert (await watcher.message())[1] == b"end"


async def test_who_takes_no_suback_is_sent_away(node: Server) -> None:
    async with taking(node, 60) as client:
        await client.subscribe(("t", 0))
        client.send(subscribe_packet(5, 2, *((f"t/{number}", 0) for number in range(100))))
        assert (await client.expect(DISCONNECT)).body[0] == 0x95
        assert await client.closed()
