"""Bad input on a live server, on the protocol's level: the documented answer and number, and nobody else notices.

All of a class's tests run against one server. A witness receives numbered messages all the while; at the end it must
have every one, in order, on the connection it had in the beginning. Malformed HTTP and WebSocket framing are the
business of tests/hostile; here is one of each, on the live server.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
import pytest_asyncio

from fanout.wire import FRAME_BYTES, Action
from tests.support.node import KEY, NodeProcess, node_process
from tests.support.wsclient import MESSAGE, RESUMED, RawClient, Refused

LIMITED = "app.limited:secret"
RIGHTS = {"open": ["subscribe", "publish"], "read": ["subscribe"]}
PUBLISH, SUBSCRIBE = 1 << 17, 1 << 18
WITNESS_EVERY_S = 0.01

MESSAGE_FRAME = {"action": MESSAGE, "channel": "room", "msgSerial": 0}

BROKEN_JSON = [
    b"{",
    b"",
    b"null",
    b"[]",
    b'"text"',
    b"{}",
    b'{"action":"15"}',
    b'{"action":-1}',
    b'{"action":15.5}',
    b'{"action":null}',
    b'{"action":10,"channel":5}',
    b'{"action":10,"channel":"c","flags":"all"}',
    b'{"action":10,"channel":"c","params":["rewind"]}',
    b'{"action":10,"channel":"c","channelSerial":1}',
    b'{"action":10}',
    b'{"action":12}',
    b'{"action":15,"channel":"c","messages":[{}]}',
    b'{"action":15,"channel":"c","msgSerial":"0","messages":[{}]}',
    b'{"action":15,"channel":"c","msgSerial":-1,"messages":[{}]}',
    b'{"action":15,"channel":"c","msgSerial":0,"messages":{}}',
    b'{"action":15,"channel":"c","msgSerial":0,"messages":["text"]}',
    b'{"action":15,"channel":"c\xed\xa0\x80"}'.replace(b"\xed\xa0\x80", b"\\ud800"),  # half of a surrogate pair
    b"[" * 100_000,
]
BROKEN_MSGPACK = [
    b"\xc1",  # never used
    b"\x81",  # a map that ends too early
    b"\x81\xa6action",
    b"\xdf\xff\xff\xff\xff",  # four billion entries to come
    b"\x90",
    msgspec.msgpack.encode({"action": "15"}),
    msgspec.msgpack.encode({"action": 10, "channel": b"bytes"}),
    b"\x91" * 100_000,
]
REFUSED_MESSAGES: list[tuple[int, list[dict[str, Any]]]] = [
    (40000, []),
    (40034, [{"data": ""}] * 1001),
    (40009, [{"data": "x" * 65_537}]),
    (40009, [{"data": "x" * 40_000}] * 2),
    (40009, [{"name": "x" * 65_537}]),
    (40013, [{"data": 5}]),
    (40013, [{"data": "?", "encoding": "base64"}]),
    (40013, [{"data": "x", "encoding": 7}]),
    (40016, [{"name": 5}]),
    (40012, [{"clientId": "*"}]),
    (40012, [{"clientId": 5}]),
    (40031, [{"id": 5}]),
    (40031, [{"id": "x" * 257}]),
    (40031, [{"id": "a:0"}, {"id": "b:1"}]),
    (40031, [{"id": "abcdefghijklmnop:0:0"}]),
    (40032, [{"extras": "text"}]),
    (93002, [{"action": 1, "serial": "x"}]),
]
ILL_NAMED = ["", ":room", "[", "[meta]log", "[filter=x]room", "[?rewind=1]", "ro\nom", "x" * 2_000]


class Witness:
    """Receives what its own server's publisher numbers, while others misbehave."""

    def __init__(self, publisher: RawClient, reader: RawClient) -> None:
        self._publisher, self._reader = publisher, reader
        self._sent = 0

    async def publish(self) -> None:
        """Until cancelled."""
        while True:
            await self._publisher.publish("witness", {"data": str(self._sent)})
            self._sent += 1
            await asyncio.sleep(WITNESS_EVERY_S)

    async def serves_on(self) -> None:
        """Waits until one more message has come, published after this was called."""
        last = self._sent + 1
        await self._reader.until(lambda: len(self._reader.received.get("witness", ())) > last, 5)

    def noticed_nothing(self) -> None:
        texts = [message.text for message in self._reader.received["witness"]]
        assert texts == [str(number) for number in range(len(texts))]
        assert self._sent - len(texts) <= 1
        assert self._reader.connections == self._publisher.connections == 1


@pytest.mark.asyncio(loop_scope="class")
class TestBadInput:
    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def node(cls, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[NodeProcess]:
        keys = (KEY, f"{LIMITED}={json.dumps(RIGHTS)}")
        async with node_process(tmp_path_factory.mktemp("node"), keys=keys) as node:
            yield node

    @pytest_asyncio.fixture(scope="class", loop_scope="class", autouse=True)
    @classmethod
    async def watched(cls, node: NodeProcess) -> AsyncIterator[Witness]:
        clients = [await RawClient(node.port, KEY).connect() for _ in range(2)]
        await clients[1].attach("witness")
        witness = Witness(*clients)
        publishing = asyncio.create_task(witness.publish())
        yield witness
        publishing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await publishing
        witness.noticed_nothing()
        for client in clients:
            await client.close()

    @pytest_asyncio.fixture(loop_scope="class", autouse=True)
    async def served_after_each(self, watched: Witness) -> AsyncIterator[None]:
        yield
        await watched.serves_on()

    async def refused(
        self, node: NodeProcess, payload: bytes, wire: str, binary: bool | None = None
    ) -> tuple[int, int]:
        """Sends one message; returns the number of the ERROR and the code of the CLOSE."""
        client = await RawClient(node.port, KEY, wire).connect()
        client.send_bytes(payload, binary=binary)
        code = await client.ended()
        (frame,) = client.frames
        assert frame["action"] == Action.ERROR
        assert "channel" not in frame
        assert frame["error"]["statusCode"] == frame["error"]["code"] // 100
        return frame["error"]["code"], code or 0

    @pytest.mark.parametrize("payload", BROKEN_JSON, ids=lambda payload: payload[:40].decode())
    async def test_frame_that_is_no_protocol_message_in_json(self, node: NodeProcess, payload: bytes) -> None:
        assert await self.refused(node, payload, "json") == (40000, 1008)

    @pytest.mark.parametrize("payload", BROKEN_MSGPACK, ids=lambda payload: payload[:12].hex())
    async def test_frame_that_is_no_protocol_message_in_msgpack(self, node: NodeProcess, payload: bytes) -> None:
        assert await self.refused(node, payload, "msgpack") == (40000, 1008)

    @pytest.mark.parametrize("wire", ["json", "msgpack"])
    async def test_text_where_binary_is_due_and_the_other_way_round(self, node: NodeProcess, wire: str) -> None:
        frame = b'{"action":0}'
        assert await self.refused(node, frame, wire, binary=wire == "json") == (40000, 1008)

    async def test_text_that_is_not_utf8(self, node: NodeProcess) -> None:
        client = await RawClient(node.port, KEY).connect()
        client.send_bytes(b'{"action":0,"id":"\xff"}')
        assert await client.ended() == 1007

    async def test_oversize_frame(self, node: NodeProcess) -> None:
        client = await RawClient(node.port, KEY).connect()
        client.send_bytes(b'{"action":0,"id":"%s"}' % (b"x" * FRAME_BYTES))
        assert await client.ended() == 1009

    async def test_unknown_actions_and_fields_are_ignored(self, node: NodeProcess) -> None:
        client = await RawClient(node.port, KEY).connect()
        for action in (3, 18, 77, 1 << 40):
            client.send({"action": action, "channel": "room", "unheard": {"of": [1, None]}})
        client.send({"action": Action.HEARTBEAT, "id": "alive", "unheard": 1})
        await client.until(lambda: bool(client.frames))
        assert list(client.frames) == [{"action": Action.HEARTBEAT, "id": "alive"}]
        await client.close()

    @pytest.mark.parametrize("channel", ILL_NAMED, ids=lambda channel: repr(channel[:20]))
    async def test_ill_named_channel(self, node: NodeProcess, channel: str) -> None:
        client = await RawClient(node.port, KEY).connect()
        with pytest.raises(Refused) as attached:
            await client.attach(channel)
        with pytest.raises(Refused) as published:
            await client.publish(channel, {"data": "x"})
        assert (attached.value.code, published.value.code) == (40010, 40010)
        await self.lives(client)

    async def test_wrong_parameters_and_too_many_channels_refuse_the_channel_alone(self, node: NodeProcess) -> None:
        client = await RawClient(node.port, KEY).connect()
        for params in ({"rewind": "soon"}, {"rewind": "0"}, {"echo": "maybe"}, {"modes": "shout"}):
            with pytest.raises(Refused) as refused:
                await client.attach("room", params=params)
            assert refused.value.code == 40000
        for number in range(200):
            await client.attach(f"room:{number}")
        with pytest.raises(Refused) as refused:
            await client.attach("room:200")
        assert refused.value.code == 90010
        await self.lives(client)

    @pytest.mark.parametrize("serial", ["x", "AAAA", "\u0000", "A" * 100_000], ids=lambda serial: serial[:4])
    async def test_invented_position_is_not_resumed(self, node: NodeProcess, serial: str) -> None:
        client = await RawClient(node.port, KEY).connect()
        attached = await client.attach("room", channelSerial=serial)
        assert attached["error"]["code"] == 90005
        assert not attached["flags"] & RESUMED
        await self.lives(client)

    async def test_position_of_another_channel_is_not_resumed(self, node: NodeProcess) -> None:
        client = await RawClient(node.port, KEY).connect()
        elsewhere = await client.attach("elsewhere")
        attached = await client.attach("room", channelSerial=elsewhere["channelSerial"])
        assert attached["error"]["code"] == 90005
        await self.lives(client)

    async def test_missing_capability_and_mode(self, node: NodeProcess) -> None:
        client = await RawClient(node.port, LIMITED).connect()
        with pytest.raises(Refused) as refused:
            await client.attach("closed")
        assert refused.value.code == 40160
        for channel in ("closed", "read"):
            with pytest.raises(Refused) as refused:
                await client.publish(channel, {"data": "x"})
            assert refused.value.code == 40160
        attached = await client.attach("read", flags=PUBLISH | SUBSCRIBE)
        assert attached["flags"] & (PUBLISH | SUBSCRIBE) == SUBSCRIBE
        await client.attach("open", flags=SUBSCRIBE)
        with pytest.raises(Refused) as refused:
            await client.publish("open", {"data": "x"})
        assert refused.value.code == 40165
        assert client.received == {}
        await self.lives(client, "open:[")

    @pytest.mark.parametrize(("code", "messages"), REFUSED_MESSAGES)
    async def test_refused_publish(self, node: NodeProcess, code: int, messages: list[dict[str, Any]]) -> None:
        client = await RawClient(node.port, KEY).connect()
        await client.attach("room")
        with pytest.raises(Refused) as refused:
            await client.publish("room", *messages)
        assert refused.value.code == code
        await client.publish("room", {"data": "accepted"})
        await client.until(lambda: bool(client.received))
        assert [message.text for message in client.received["room"]] == ["accepted"]
        await client.close()

    @pytest.mark.parametrize(
        ("said", "code"),
        [
            ({"action": Action.PRESENCE}, 40000),
            ({"action": Action.ANNOTATION}, 40000),
            ({"action": Action.ANNOTATION, "annotations": [{"type": "a:total.v1", "messageSerial": "s"}]}, 93002),
            ({"action": Action.OBJECT}, 40160),
        ],
    )
    async def test_what_is_empty_or_not_offered_is_refused(
        self, node: NodeProcess, said: dict[str, Any], code: int
    ) -> None:
        client = await RawClient(node.port, KEY).connect()
        client.send(said | {"channel": "room", "msgSerial": 0})
        await client.until(lambda: bool(client.frames))
        assert client.frames[0]["action"] == Action.NACK
        assert client.frames[0]["error"]["code"] == code
        await client.close()

    async def test_gap_in_the_sequence_of_publishes(self, node: NodeProcess) -> None:
        client = await RawClient(node.port, KEY).connect()
        await client.publish("room", {"data": "0"})
        client.send(MESSAGE_FRAME | {"msgSerial": 5, "messages": [{"data": "5"}]})
        assert await client.ended() == 1008
        assert client.frames[-1]["error"]["code"] == 40000

    async def test_other_credentials_halfway(self, node: NodeProcess) -> None:
        client = await RawClient(node.port, KEY).connect()
        client.send({"action": Action.AUTH, "auth": {"accessToken": "x"}})
        assert await client.ended() == 1008
        assert client.frames[-1]["error"]["code"] == 40101

    @pytest.mark.parametrize("key", ["app.full:wrong", "app.nobody:secret", "nonsense", ""])
    async def test_wrong_key(self, node: NodeProcess, key: str) -> None:
        client = RawClient(node.port, key)
        with pytest.raises(Refused) as refused:
            await client.connect()
        assert refused.value.code == 40101
        assert await client.ended() == 1008

    @pytest.mark.parametrize(
        ("query", "code"),
        [
            ({"v": ""}, 40017),
            ({"v": "1"}, 40017),
            ({"v": "x"}, 40017),
            ({"format": "xml"}, 40003),
            ({"heartbeatInterval": "x"}, 40003),
            ({"clientId": "x" * 5_000}, 40012),
        ],
        ids=lambda query: str(query)[:40],
    )
    async def test_wrong_query(self, node: NodeProcess, query: dict[str, str], code: int) -> None:
        client = RawClient(node.port, KEY, query=query)
        with pytest.raises(Refused) as refused:
            await client.connect()
        assert refused.value.code == code

    @pytest.mark.parametrize("key", ["x", "A" * 5_000])
    async def test_invented_connection_key_gets_a_connection_of_its_own(self, node: NodeProcess, key: str) -> None:
        client = await RawClient(node.port, KEY, query={"resume": key}).connect()
        assert client.hello["error"]["code"] == 80018
        await self.lives(client)

    @pytest.mark.parametrize(
        ("request_", "status"),
        [
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),  # somebody speaks TLS
            (b"GARBAGE\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nhost: x\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n", 426),
            (b"GET /" + b"x" * 100_000 + b" HTTP/1.1\r\n\r\n", 431),
        ],
        ids=["tls", "garbage", "handshake without a version", "endless"],
    )
    async def test_http_garbage(self, node: NodeProcess, request_: bytes, status: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", node.port)
        writer.write(request_)
        async with asyncio.timeout(10):
            answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        writer.close()

    async def lives(self, client: RawClient, channel: str = "lives") -> None:
        """The connection goes on as if nothing had been."""
        client.send({"action": Action.HEARTBEAT, "id": channel})
        await client.until(lambda: {"action": Action.HEARTBEAT, "id": channel} in client.frames)
        assert client.connections == 1
        await client.close()
