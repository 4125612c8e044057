"""HTTP polling: the conversation of a WebSocket in requests, over real sockets and the native engine."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, Self

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.errors import error
from fanout.transports import driver, turns
from fanout.transports.polled import _cut_frames
from fanout.types import Record
from fanout.wire import FRAME_BYTES
from tests.unit.transports.front_door import KEY, STRANGER, FrontDoor, Wire, frame, native_front_door

HEARTBEAT = {"action": 0, "id": "h"}
ATTACH = {"action": 10, "channel": "room"}
CONNECT = {"key": KEY, "v": "6", "stream": "false"}
ORIGIN = {"origin": "https://site.example"}


class Client:
    """A page that polls."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self.http = http
        self.key = ""
        self.connection_id = ""

    async def connect(self, **query: str) -> Self:
        (connected,) = await self.get("/comet/connect", **(CONNECT | query))
        assert connected["action"] == 4
        self.key = connected["connectionDetails"]["connectionKey"]
        self.connection_id = connected["connectionId"]
        return self

    async def get(self, path: str, **query: str) -> list[dict[str, Any]]:
        response = await self.http.get(path, params=query, headers=ORIGIN)
        assert response.headers["access-control-allow-origin"] == ORIGIN["origin"]
        assert response.status_code == 200, response.text
        messages: list[dict[str, Any]] = response.json()
        return messages

    async def poll(self) -> list[dict[str, Any]]:
        return await self.get(f"/comet/{self.key}/recv", key=KEY)

    async def messages(self, count: int) -> list[dict[str, Any]]:
        """So many protocol messages, in as many polls as it takes."""
        messages: list[dict[str, Any]] = []
        while len(messages) < count:
            messages += await self.poll()
        return messages

    async def send(self, *frames: dict[str, Any]) -> None:
        response = await self.http.post(f"/comet/{self.key}/send", params={"key": KEY}, json=frames, headers=ORIGIN)
        assert (response.status_code, response.content) == (204, b"")

    async def refused(self, path: str, **query: str) -> int:
        """The number of the error, as a page of another origin reads it."""
        response = await self.http.get(path, params=query, headers=ORIGIN)
        assert "x-ably-errorcode" in response.headers["access-control-expose-headers"]
        assert response.headers["x-ably-errorcode"] == str(response.json()["error"]["code"])
        return int(response.headers["x-ably-errorcode"])


@contextlib.asynccontextmanager
async def client_of(door: FrontDoor) -> AsyncIterator[Client]:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{door.port}", timeout=20) as http:
        yield Client(http)


@contextlib.asynccontextmanager
async def polling(**options: Any) -> AsyncIterator[tuple[FrontDoor, Client]]:
    async with native_front_door(**options) as door, client_of(door) as client:
        yield door, client


def records(count: int, size: int = 10) -> list[Record]:
    return [Record("topic", 0, n, -1, 1000 + n, b"room", b"x" * size, None) for n in range(count)]


# -- the conversation --


@pytest.mark.parametrize("io_threads", [0, 1])
async def test_a_conversation_in_requests(io_threads: int) -> None:
    async with polling(io_threads=io_threads) as (door, client):
        await client.connect()
        await client.send(HEARTBEAT, ATTACH)
        heard, attached = await client.messages(2)
        assert heard == HEARTBEAT
        assert (attached["action"], attached["channel"]) == (11, "room")
        door.engine.records(records(3))
        frames = await client.messages(1)
        ids = [message["id"] for frame in frames for message in frame["messages"]]
        assert ids == [f"topic:0:{n}" for n in range(3)]
        await client.send({"action": 15, "msgSerial": 0, "channel": "room", "messages": [{"data": "hello"}]})
        (ack,) = await client.messages(1)
        assert (ack["action"], ack["msgSerial"]) == (1, 0)


async def test_a_poll_waits_for_what_comes() -> None:
    async with polling() as (_, client):
        await client.connect()
        poll = asyncio.create_task(client.poll())
        await asyncio.sleep(0.1)
        assert not poll.done()
        await client.send(HEARTBEAT)
        assert await poll == [HEARTBEAT]


async def test_a_second_poll_takes_the_place_of_the_first() -> None:
    async with polling() as (_, client):
        await client.connect()
        polls = []
        for _ in range(3):
            polls.append(asyncio.create_task(client.poll()))
            await asyncio.sleep(0.05)
        await client.send(HEARTBEAT)
        assert [await poll for poll in polls] == [[], [], [HEARTBEAT]]


async def test_what_is_not_fetched_waits_in_the_ring_and_comes_in_order() -> None:
    async with polling() as (door, client):
        await client.connect()
        await client.send(ATTACH)
        await client.messages(1)
        before = door.engine.stats()["bytes_out"]
        door.engine.records(records(5_000, size=2_000))
        await asyncio.sleep(0.3)
        assert door.engine.stats()["bytes_out"] - before <= 64 << 10
        seen: list[str] = []
        while len(seen) < 5_000:
            seen += [message["id"] for frame in await client.poll() for message in frame["messages"]]
        assert seen == [f"topic:0:{n}" for n in range(5_000)]


async def test_a_message_that_is_larger_than_the_pipe_comes_whole() -> None:
    async with polling() as (door, client):
        await client.connect()
        await client.send(ATTACH)
        await client.messages(1)
        door.engine.records(records(1, size=300_000))
        (message,) = await client.messages(1)
        assert message["messages"][0]["data"] == "x" * 300_000


async def test_messages_are_heard_in_order_and_no_more_than_the_log_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_PENDING_MAX", 4)
    monkeypatch.setattr(turns, "TURN_S", 0.0)
    async with polling() as (door, client):
        await client.connect()
        door.publisher.hold = True
        frames = [{"action": 15, "msgSerial": n, "channel": "room", "messages": [{"data": str(n)}]} for n in range(20)]
        sent = asyncio.create_task(client.send(*frames))
        answered = 0
        while answered < 20:
            await asyncio.sleep(0.02)
            assert len(door.publisher.published) - answered <= 4
            waiting, door.publisher.waiting = door.publisher.waiting, []
            for done in waiting:
                done()
            answered += len(waiting)
        await sent
        assert [messages[0].data for _, messages in door.publisher.published] == [str(n) for n in range(20)]


# -- beginnings and ends --


async def test_who_is_refused_is_told_in_a_list_or_by_an_error() -> None:
    async with polling() as (door, client):
        (wrong,) = await client.get("/comet/connect", **(CONNECT | {"key": "app.key:wrong"}))
        assert (wrong["action"], wrong["error"]["code"]) == (9, 40101)
        (old,) = await client.get("/comet/connect", **(CONNECT | {"v": "none"}))
        assert old["error"]["code"] == 40017
        assert len(door.comet) == 0
        await client.connect()
        path = f"/comet/{client.key}/recv"
        assert await client.refused(path) == 40101
        assert await client.refused(path, key="app.key:wrong") == 40101
        assert await client.refused(path, key=STRANGER) == 80015
        assert await client.refused("/comet/none/recv", key=KEY) == 80018
        assert await client.refused("/comet/none", key=KEY) == 40400
        await client.send(HEARTBEAT)
        assert await client.poll() == [HEARTBEAT]


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 40000),
        (b"{}", 40000),
        (b'[{"action":0}', 40000),
        (b'[{"action":"0"}]', 40000),
        (b"[[[" * 10_000, 40000),
        (b'[{"action":0,"id":"' + b"x" * FRAME_BYTES + b'"}]', 40009),
    ],
)
async def test_what_is_not_a_list_of_frames_is_refused_and_the_connection_lives(body: bytes, code: int) -> None:
    async with polling() as (_, client):
        await client.connect()
        response = await client.http.post(f"/comet/{client.key}/send", params={"key": KEY}, content=body)
        assert response.json()["error"]["code"] == code
        await client.send(HEARTBEAT)
        assert await client.poll() == [HEARTBEAT]


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_close_is_answered_and_then_the_connection_is_gone(method: str) -> None:
    async with polling() as (door, client):
        await client.connect()
        poll = asyncio.create_task(client.poll())
        response = await client.http.request(method, f"/comet/{client.key}/close", params={"key": KEY})
        assert response.status_code == 204
        assert await poll == [{"action": 8}]
        assert len(door.comet) == 0
        assert await client.refused(f"/comet/{client.key}/recv", key=KEY) == 80008


async def test_who_disconnects_can_come_back_over_a_websocket() -> None:
    async with polling() as (door, client):
        await client.connect()
        await client.http.get(f"/comet/{client.key}/disconnect", params={"key": KEY})
        assert await client.poll() == []
        assert len(door.comet) == 0
        wire = await Wire.websocket(door, f"key={KEY}&v=6&resume={client.key}")
        connected = await wire.message()
        assert (connected["connectionId"], connected.get("error")) == (client.connection_id, None)
        await wire.close()


async def test_a_websocket_takes_the_connection_over_while_it_is_polled() -> None:
    async with polling() as (door, client):
        await client.connect()
        await client.send(ATTACH)
        (attached,) = await client.messages(1)
        poll = asyncio.create_task(client.poll())
        await asyncio.sleep(0.05)
        wire = await Wire.websocket(door, f"key={KEY}&v=6&resume={client.key}")
        assert (await wire.message())["connectionId"] == client.connection_id
        (told,) = await poll
        assert (told["action"], told["error"]["code"]) == (6, 80016)
        assert await client.refused(f"/comet/{client.key}/recv", key=KEY) == 80008
        await wire.tell(ATTACH | {"channelSerial": attached["channelSerial"]})
        assert (await wire.message())["flags"] & 4  # RESUMED
        await wire.close()


async def test_polling_takes_the_connection_over_from_polling() -> None:
    async with polling() as (door, client), client_of(door) as other:
        await client.connect()
        poll = asyncio.create_task(client.poll())
        await asyncio.sleep(0.05)
        await other.connect(resume=client.key)
        assert other.connection_id == client.connection_id
        assert (await poll)[0]["error"]["code"] == 80016
        await other.send(HEARTBEAT)
        assert await client.poll() == [HEARTBEAT]  # a former key of the same connection is as good
        assert len(door.comet) == 1


async def test_the_transport_that_was_taken_over_goes_though_the_newer_one_went_first() -> None:
    async with polling() as (door, client), client_of(door) as other:
        door.comet._idle_s = 0.3
        await client.connect()
        await other.connect(resume=client.key)
        closing = asyncio.create_task(other.poll())
        await other.http.post(f"/comet/{other.key}/close", params={"key": KEY})
        assert (await closing)[-1] == {"action": 8}  # CLOSED
        async with asyncio.timeout(10):
            while len(door.connections):  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def test_who_stops_polling_is_gone_and_can_come_back() -> None:
    async with polling() as (door, client):
        door.comet._idle_s = 0.2
        await client.connect()
        for _ in range(3):
            poll = asyncio.create_task(client.poll())
            await asyncio.sleep(0.3)  # while it polls it is here
            await client.send(HEARTBEAT)
            assert await poll == [HEARTBEAT]
        await asyncio.sleep(0.5)
        assert len(door.comet) == len(door.connections) == 0
        former = client.connection_id
        await client.connect(resume=client.key)
        assert client.connection_id == former


async def test_a_client_that_left_while_it_polled_is_gone_after_the_next_message() -> None:
    async with polling() as (door, client):
        door.comet._idle_s = 0.2
        await client.connect()
        await client.send(ATTACH)
        await client.messages(1)
        poll = asyncio.create_task(client.poll())
        await asyncio.sleep(0.05)
        poll.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await poll
        door.engine.records(records(1))
        for _ in range(100):
            if not len(door.comet):
                break
            await asyncio.sleep(0.02)
        assert len(door.comet) == 0


async def test_a_client_waits_for_a_node_that_is_not_ready() -> None:
    async with polling() as (door, client):
        door.ready.clear()
        connecting = asyncio.create_task(client.connect())
        await asyncio.sleep(0.1)
        assert not connecting.done()
        door.ready.set()
        assert (await connecting).connection_id


async def test_a_full_node_sends_away_and_polled_connections_count() -> None:
    async with polling(limit=2) as (door, client):
        await client.connect()
        assert door.open_connections() == 2  # the connection, and the one that its requests come over
        (told,) = await client.get("/comet/connect", **CONNECT)
        assert (told["action"], told["error"]["code"]) == (6, error(80003).code)


async def test_draining_tells_those_who_poll() -> None:
    async with polling() as (door, client):
        await client.connect()
        poll = asyncio.create_task(client.poll())
        await asyncio.sleep(0.05)
        await door.connections.drain(0)
        (told,) = await poll
        assert (told["action"], told["error"]["code"]) == (6, 80003)


async def test_a_page_may_send_from_another_origin() -> None:
    async with polling() as (_, client):
        await client.connect()
        asked = await client.http.options(f"/comet/{client.key}/send", headers=ORIGIN)
        assert asked.status_code == 204
        assert "content-type" in asked.headers["access-control-allow-headers"]


# -- frames --


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([1, 8, 9]), st.sampled_from([0, 1, 125, 126, 65_535, 65_536])), max_size=6),
    st.integers(1, 40_000),
)
def test_frames_are_cut_however_their_bytes_come(frames: list[tuple[int, int]], piece: int) -> None:
    data = b"".join(frame(kind, bytes([kind]) * size) for kind, size in frames)
    unread, messages, closed = bytearray(), list[bytes](), False
    for at in range(0, len(data), piece):
        unread += data[at : at + piece]
        closed |= _cut_frames(unread, messages)
    assert messages == [b"\x01" * size for kind, size in frames if kind == 1]
    assert closed == any(kind == 8 for kind, _ in frames)
    assert not unread
