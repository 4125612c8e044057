"""No Local keeps a client's own messages from it, whichever of its connections they came by (MQTT 5.0 §3.8.3.1)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from fanout import Config, Server
from tests.support.mqtt_client import ACK, PUBLISH, RawMqtt, mqtt_client

KEY = "app.key:secret"
DUP = 8
NO_LOCAL = 4
KEPT = b"\x11\0\0\x0e\x10"  # session expiry interval: an hour


@asynccontextmanager
async def started(data: Path) -> AsyncIterator[Server]:
    async with Server(Config(port=0, mqtt_port=0, key=(KEY,), data=data)) as node:
        await node.ready()
        yield node


@asynccontextmanager
async def connected(
    node: Server, *, name: str = "me", present: bool = False, will: tuple[str, bytes] | None = None
) -> AsyncIterator[RawMqtt]:
    assert node.mqtt_port is not None
    async with mqtt_client(node.mqtt_port) as client:
        greeting = await client.connect(name, key=KEY, clean=False, said=KEPT, will=will)
        assert greeting.body[:2] == bytes([present, 0])
        yield client


async def given(client: RawMqtt) -> tuple[bytes, int]:
    """What is given next, and whether DUP is set."""
    one = await client.expect(PUBLISH)
    return one.publish(5)[1], one.flags & DUP


@pytest.mark.parametrize("topic_filter", ["t", "+"])
async def test_what_came_by_an_earlier_connection_is_not_given_to_a_later_one(
    tmp_path: Path, topic_filter: str
) -> None:
    async with started(tmp_path) as node, connected(node) as client:
        assert await client.subscribe((topic_filter, 1 | NO_LOCAL)) == (1,)
        await node.publish("t", "theirs")
        assert await given(client) == (b"theirs", 0)
        await client.publish("t", b"mine", qos=1, packet_id=1)
        await client.expect(ACK)
    async with started(tmp_path) as node, connected(node, present=True) as client:  # any other node is as good
        await node.publish("t", "theirs too")
        assert [await given(client), await given(client)] == [(b"theirs", DUP), (b"theirs too", 0)]


async def test_its_own_will_is_not_given_to_a_client_that_is_back(tmp_path: Path) -> None:
    async with started(tmp_path) as node, connected(node, name="watcher") as watcher:
        await watcher.subscribe(("t", 1))
        async with connected(node, will=("t", b"lost")) as client:
            await client.subscribe(("t", 1 | NO_LOCAL))
        assert await given(watcher) == (b"lost", 0)
        async with connected(node, present=True) as client:
            await node.publish("t", "theirs")
            assert await given(client) == (b"theirs", 0)


async def test_its_own_retained_message_is_given_to_others_alone(tmp_path: Path) -> None:
    async with started(tmp_path) as node, connected(node) as client, connected(node, name="other") as other:
        await client.publish("mine", b"kept", qos=1, packet_id=1, retain=True)
        await client.expect(ACK)
        await other.publish("theirs", b"kept", qos=1, packet_id=1, retain=True)
        await other.expect(ACK)
        await other.subscribe(("mine", NO_LOCAL))
        assert (await other.message())[:2] == ("mine", b"kept")
        await client.subscribe(("mine", NO_LOCAL), ("theirs", 0 | NO_LOCAL))
        assert (await client.message())[:2] == ("theirs", b"kept")


async def test_clients_of_one_credential_are_not_one_client(tmp_path: Path) -> None:
    async with started(tmp_path) as node, connected(node) as client, connected(node, name="other") as other:
        await client.subscribe(("t", NO_LOCAL))
        await other.publish("t", b"theirs")
        assert (await client.message())[1] == b"theirs"


async def test_a_message_id_is_not_used_again_by_a_later_connection(tmp_path: Path) -> None:
    async with started(tmp_path) as node, connected(node, name="watcher") as watcher:
        await watcher.subscribe(("t", 0))
        for number, present in enumerate([False, True, True]):
            async with connected(node, present=present) as client:
                await client.publish("t", b"%d" % number, qos=1, packet_id=1)
                await client.expect(ACK)
            assert (await watcher.message())[1] == b"%d" % number
