"""MQTT 3.1.1 and 5.0, packet by packet, on the port and over WebSocket."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import websockets

from fanout import Config, Server
from fanout.transports import terms, turns
from tests.support.credentials import made_jwt
from tests.support.mqtt_client import (
    ACK,
    CONNACK,
    DISCONNECT,
    PINGRESP,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    PUBREL,
    UNSUBACK,
    RawMqtt,
    connect_packet,
    mqtt_client,
    packet,
    publish_packet,
    subscribe_packet,
    text,
)  # fmt: skip

KEY = "app.key:secret"
READER = 'app.reader:secret={"open":["subscribe"]}'
SECRET = "0123456789abcdef"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Server]:
    config = Config(port=0, mqtt_port=0, key=(KEY, READER), secret=SECRET, data=tmp_path)
    async with Server(config) as server:
        await server.ready()
        yield server


@pytest.fixture(params=[4, 5])
async def client(node: Server, request: pytest.FixtureRequest) -> AsyncIterator[RawMqtt]:
    assert node.mqtt_port is not None
    async with mqtt_client(node.mqtt_port, request.param) as client:
        yield client


class TestConnecting:
    async def test_who_is_let_in_is_told_what_is_taken(self, client: RawMqtt) -> None:
        greeting = await client.connect("me", key=KEY)
        assert greeting.body[:2] == b"\0\0"
        client.send(b"\xc0\x00")
        await client.expect(PINGRESP)

    @pytest.mark.parametrize("key", ["app.key:wrong", "app.none:secret", "token:more"])
    async def test_wrong_credentials_are_refused(self, client: RawMqtt, key: str) -> None:
        refused = await client.connect("me", key=key)
        assert refused.body[1] == (4 if client.version == 4 else 0x86)
        assert await client.closed()

    async def test_no_credentials_are_refused(self, client: RawMqtt) -> None:
        assert (await client.connect("me")).body[1] == (4 if client.version == 4 else 0x86)

    async def test_a_client_without_a_name_is_given_one(self, client: RawMqtt) -> None:
        greeting = await client.connect(key=KEY)
        assert greeting.body[1] == 0
        assert (b"\x12\0" in greeting.body) == (client.version == 5)

    async def test_a_later_connection_of_the_same_name_takes_over(self, node: Server, client: RawMqtt) -> None:
        assert node.mqtt_port is not None
        await client.connect("me", key=KEY)
        async with mqtt_client(node.mqtt_port, client.version) as other:
            await other.connect("me", key=KEY)
            if client.version == 5:
                assert (await client.expect(DISCONNECT)).body[0] == 0x8E
            assert await client.closed()
            other.send(b"\xc0\x00")
            await other.expect(PINGRESP)

    async def test_who_says_nothing_for_too_long_is_disconnected(self, client: RawMqtt) -> None:
        await client.connect("me", key=KEY, keep_alive=1)
        if client.version == 5:
            assert (await client.expect(DISCONNECT)).body[0] == 0x8D
        assert await client.closed()

    @pytest.mark.parametrize(("level", "told"), [(3, b"\0\x01"), (6, b"\0\x84\0"), (255, b"\0\x84\0")])
    async def test_a_version_that_is_not_spoken_is_told(self, client: RawMqtt, level: int, told: bytes) -> None:
        client.send(packet(0x10, text("MQTT"), bytes([level]), b"\x02\0\x3c\0", text("me")))
        assert (await client.expect(CONNACK)).body == told
        assert await client.closed()

    @pytest.mark.parametrize(
        ("key", "topic", "codes"),
        [(KEY, "a/+", (5, 0x90)), (KEY, "[bad", (5, 0x90)), (READER, "open", (5, 0x87))],
    )
    async def test_a_will_that_may_not_be_is_refused_by_its_code(
        self, client: RawMqtt, key: str, topic: str, codes: tuple[int, int]
    ) -> None:
        client.send(connect_packet(client.version, "me", key=key.partition("=")[0], will=(topic, b"gone")))
        assert (await client.expect(CONNACK)).body[:2] == bytes([0, codes[client.version - 4]])
        assert await client.closed()

    async def test_an_authentication_of_its_own_is_refused(self, node: Server) -> None:
        assert node.mqtt_port is not None
        async with mqtt_client(node.mqtt_port) as client:
            refused = await client.connect("me", key=KEY, said=b"\x15" + text("SCRAM"))
            assert refused.body[1] == 0x8C

    async def test_who_has_a_token_is_told_of_its_end(self, client: RawMqtt, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(terms, "ASK_BEFORE_MS", 1_500)
        now_s = int(time.time())
        token = made_jwt(KEY, iat=now_s, exp=now_s + 4)
        assert (await client.connect("me", token=token)).body[1] == 0
        assert await client.subscribe(("[mqtt]tokenevents", 0)) == (0,)
        assert (await client.message())[:2] == ("[mqtt]tokenevents", b"expirywarning")
        if client.version == 5:
            assert (await client.expect(DISCONNECT)).body[0] == 0x87
        assert await client.closed()
        async with mqtt_client(client.writer.get_extra_info("peername")[1], client.version) as late:
            assert (await late.connect("me", token=token)).body[1] == (4 if client.version == 4 else 0x86)


class TestPublishing:
    async def test_each_quality_of_service_is_acknowledged_as_it_is_to_be(self, node: Server, client: RawMqtt) -> None:
        await client.connect("me", key=KEY)
        assert await client.subscribe(("t", 0)) == (0,)
        await client.publish("t", b"zero")
        await client.publish("t", b"one", qos=1, packet_id=7)
        await client.publish("t", b"two", qos=2, packet_id=8)
        received = [await client.receive() for _ in range(5)]
        kinds = sorted(one.kind for one in received if one)
        assert kinds == [PUBLISH, PUBLISH, PUBLISH, ACK, PUBREC]
        told = {one.kind: one.body for one in received if one and one.kind != PUBLISH}
        assert told == {ACK: b"\0\x07", PUBREC: b"\0\x08"}
        payloads = [one.publish(client.version)[1] for one in received if one and one.kind == PUBLISH]
        assert payloads == [b"zero", b"one", b"two"]
        client.send(b"\x62\x02\0\x08")
        assert (await client.expect(PUBCOMP)).body == b"\0\x08"

    async def test_a_message_with_qos_2_that_is_sent_again_is_one(self, client: RawMqtt) -> None:
        await client.connect("me", key=KEY)
        await client.subscribe(("t", 0))
        for dup in (False, True):
            await client.publish("t", b"two", qos=2, packet_id=8, dup=dup)
        await client.publish("t", b"end")
        received = [await client.receive() for _ in range(4)]
        assert [one.publish(client.version)[1] for one in received if one and one.kind == PUBLISH] == [b"two", b"end"]

    async def test_what_is_not_allowed_is_refused_by_its_code(self, node: Server, client: RawMqtt) -> None:
        await client.connect("me", key="app.reader:secret")
        await client.publish("t", b"x", qos=1, packet_id=7)
        if client.version == 5:
            assert (await client.expect(ACK)).body[:3] == b"\0\x07\x87"
            await client.publish("t", b"x" * 70_000, qos=1, packet_id=8)
            assert (await client.expect(ACK)).body[2] in (0x87, 0x97)
        else:
            assert await client.closed()

    async def test_an_alias_stands_for_its_topic(self, node: Server) -> None:
        assert node.mqtt_port is not None
        async with mqtt_client(node.mqtt_port) as client:
            await client.connect("me", key=KEY)
            await client.subscribe(("t", 0))
            await client.publish("t", b"1", said=b"\x23\0\x05")
            await client.publish("", b"2", said=b"\x23\0\x05")
            assert [(await client.message())[:2] for _ in range(2)] == [("t", b"1"), ("t", b"2")]
            await client.publish("", b"3", said=b"\x23\0\x06")
            assert (await client.expect(DISCONNECT)).body[0] == 0x94


class TestSubscribing:
    async def test_a_refused_filter_leaves_the_others(self, client: RawMqtt) -> None:
        await client.connect("me", key="app.reader:secret")
        told = await client.subscribe(("open", 2), ("closed", 0), ("$share/g/open", 1))
        assert told == ((1, 0x80, 0x80) if client.version == 4 else (1, 0x87, 0x9E))

    async def test_filters_past_those_that_a_client_may_have_are_refused(self, client: RawMqtt) -> None:
        await client.connect("me", key=KEY)
        told = await client.subscribe(*[("same", 0)] * 5_000)
        assert told == (0,) * 200 + (0x80 if client.version == 4 else 0x97,) * 4_800

    async def test_messages_are_given_with_the_lower_quality_of_service(self, client: RawMqtt) -> None:
        await client.connect("me", key=KEY)
        await client.subscribe(("t", 1))
        await client.publish("t", b"zero")
        await client.publish("t", b"one", qos=1, packet_id=7)
        packets = [await client.receive() for _ in range(3)]
        given = [one for one in packets if one and one.kind == PUBLISH]
        assert [one.flags & 6 for one in given] == [0, 2]
        client.send(packet(0x40, given[1].publish(client.version)[2].to_bytes(2)))

    async def test_who_says_pubrec_of_nothing_is_told_so_unless_that_ends_it(self, node: Server) -> None:
        assert node.mqtt_port is not None
        async with mqtt_client(node.mqtt_port) as client:
            await client.connect("me", key=KEY)
            client.send(packet(0x50, b"\0\x01\x80"), b"\xc0\x00")
            await client.expect(PINGRESP)
            client.send(packet(0x50, b"\0\x01"))
            assert (await client.expect(PUBREL)).body[:3] == b"\0\x01\x92"

    async def test_unsubscribing_ends_it(self, client: RawMqtt) -> None:
        await client.connect("me", key=KEY)
        await client.subscribe(("a", 0), ("b", 0))
        none = b"\0" if client.version == 5 else b""
        client.send(packet(0xA2, b"\0\x05", none, text("a"), text("c")))
        told = await client.expect(UNSUBACK)
        assert told.body == b"\0\x05" + (b"\0\0\x11" if client.version == 5 else b"")
        await client.publish("a", b"x")
        await client.publish("b", b"y")
        assert (await client.message())[:2] == ("b", b"y")

    async def test_its_own_messages_are_kept_from_who_wants_that(self, node: Server) -> None:
        assert node.mqtt_port is not None
        async with mqtt_client(node.mqtt_port) as client:
            await client.connect("me", key=KEY)
            await client.subscribe(("t", 4))
            await client.publish("t", b"mine", qos=1, packet_id=1)
            await client.expect(ACK)
            await node.publish("t", "yours")
            assert (await client.message())[:2] == ("t", b"yours")

    async def test_the_client_takes_as_many_as_it_says(self, node: Server) -> None:
        assert node.mqtt_port is not None
        async with mqtt_client(node.mqtt_port) as client:
            await client.connect("me", key=KEY, said=b"\x21\0\x02")
            await client.subscribe(("t", 1))
            for number in range(5):
                await node.publish("t", f"{number}")
            first = [await client.message() for _ in range(2)]
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await client.receive()
            client.send(packet(0x40, first[0][2].to_bytes(2)))
            assert (await client.message())[1] == b"2"


class TestOverWebSocket:
    async def test_packets_may_lie_in_any_messages(self, node: Server) -> None:
        url = f"ws://127.0.0.1:{node.port}/mqtt"
        said = connect_packet(5, "me", key=KEY) + subscribe_packet(5, 1, ("t", 1)) + publish_packet(5, "t", b"x")
        async with websockets.connect(url, subprotocols=[websockets.Subprotocol("mqtt")]) as socket:
            assert socket.subprotocol == "mqtt"
            for at in range(0, len(said), 7):
                await socket.send(said[at : at + 7])
            received = b""
            async with asyncio.timeout(20):
                while not received.endswith(b"x"):
                    message = await socket.recv()
                    assert message, "a message without packets is none"
                    received += message  # type: ignore[operator]
        assert [received[0] >> 4, received.count(b"\x90")] == [CONNACK, 1]

    async def test_a_ping_asks_once_whether_it_is_heard_and_as_a_brief_one(
        self, node: Server, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[bool] = []

        def take(self: turns.Turns, caller: turns.Caller, *, brief: bool) -> bool:
            asked.append(brief)
            return True

        monkeypatch.setattr(turns.Turns, "take", take)
        url = f"ws://127.0.0.1:{node.port}/"
        async with (
            websockets.connect(url, subprotocols=[websockets.Subprotocol("mqtt")]) as socket,
            asyncio.timeout(20),
        ):
            await socket.send(connect_packet(5, "me", key=KEY))
            await socket.recv()
            asked.clear()  # what coming in took
            await socket.send(b"\xc0\x00")
            assert await socket.recv() == bytes((PINGRESP << 4, 0))
            assert asked == [True]

    async def test_text_is_no_packet(self, node: Server) -> None:
        url = f"ws://127.0.0.1:{node.port}/"
        async with websockets.connect(url, subprotocols=[websockets.Subprotocol("mqtt")]) as socket:
            await socket.send("text")
            with pytest.raises(websockets.ConnectionClosed):
                await socket.recv()
            assert socket.close_code == 1003


class TestLeaving:
    async def test_a_drain_sends_clients_elsewhere(self, tmp_path: Path) -> None:
        config = Config(
            port=0, mqtt_port=0, key=(KEY,), secret=SECRET, data=tmp_path, mqtt_server_reference="other:1883"
        )
        async with Server(config) as server:
            await server.ready()
            assert server.mqtt_port is not None
            async with mqtt_client(server.mqtt_port) as client:
                await client.connect("me", key=KEY)
                draining = asyncio.create_task(server.drain(0))
                told = await client.expect(DISCONNECT)
                assert told.body[0] == 0x9C
                assert b"\x1c" + text("other:1883") in told.body
                assert await client.closed()
                await draining

    @pytest.mark.parametrize("leaves", [b"\xe0\x00", b"\xe0\x02\x04\0", b"\xe0\x01\x80", b""])
    async def test_the_will_is_published_when_the_client_is_lost(self, node: Server, leaves: bytes) -> None:
        assert node.mqtt_port is not None
        async with mqtt_client(node.mqtt_port) as watcher, mqtt_client(node.mqtt_port) as client:
            await watcher.connect("watcher", key=KEY)
            await watcher.subscribe(("gone", 0))
            await client.connect("me", key=KEY, will=("gone", b"bye"))
            if leaves:
                client.send(leaves)
                assert await client.closed()
            else:
                client.writer.transport.abort()
            if leaves == b"\xe0\x00":
                await watcher.publish("gone", b"end")
                assert (await watcher.message())[1] == b"end"
            else:
                assert (await watcher.message())[1] == b"bye"


class TestSlowReaders:
    async def test_whom_memory_has_passed_is_given_all_from_the_log(self, tmp_path: Path) -> None:
        config = Config(port=0, mqtt_port=0, key=(KEY,), secret=SECRET, data=tmp_path, history="1s", history_mib=1)
        async with Server(config) as server:
            await server.ready()
            assert server.mqtt_port is not None
            async with mqtt_client(server.mqtt_port) as client:
                await client.connect("slow", key=KEY, said=b"\x21\0\x0a")  # ten at a time
                await client.subscribe(("t", 1))
                for number in range(400):
                    await server.publish("t", b"%d:" % number + b"x" * 10_000)
                numbers: list[int] = []
                while not numbers or numbers[-1] < 399:
                    received = await client.expect(PUBLISH)
                    _, payload, packet_id = received.publish(5)
                    number = int(payload.partition(b":")[0])
                    if numbers and number <= numbers[-1]:
                        assert received.flags & 8, "given again without DUP"
                    else:
                        numbers.append(number)
                    client.send(packet(0x40, packet_id.to_bytes(2)))
                assert numbers == list(range(400))
                assert server._node.messages.engine.stats()["continuity_lost"] > 0
