"""Server-sent events and streams of lines, as clients see them: byte by byte, cut anywhere, and as curl reads them."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fanout import Config, Server
from tests.support.presence_client import LEAVE, PresenceClient
from tests.support.proxy import proxy_to
from tests.support.sources import eventually
from tests.support.stream_client import Event, StreamClient, get

KEY = "app.key:secret"
MESSAGES = 400
NOTED_S = 1.2  # until a node notes who takes nothing
EVIL = '\n\nid: evil\nevent: error\rdata: evil\r\n\r\n{"id":"evil"}\n'
BREAKS = ["a\nb", "a\r\nb", "a\rb", "\n", "\n\nevent: error\ndata: x\n\n", "data: y", ":z", "", "\x00é\u2028"]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Server]:
    config = Config(port=0, key=(KEY, 'app.none:secret={"x":["subscribe"]}'), secret="0123456789abcdef", data=tmp_path)
    async with Server(config) as server:
        await server.ready()
        yield server


async def test_a_stream_begins_with_its_position_and_gives_each_message_with_the_one_behind_it(node: Server) -> None:
    async with StreamClient(node.port, query={"channels": "c"}, headers={"origin": "http://page"}) as client:
        assert client.status == 200
        assert "content-type: text/event-stream\r\n" in client.head
        assert "access-control-allow-origin: http://page\r\n" in client.head
        first = await client.event()
        assert first is not None
        assert first.id
        assert first.data is None
        await node.publish("c", "hello", name="n")
        await node.publish("c", {"an": "object"})
        text, other = await client.messages(2)
        assert (text.kind, text.json["channel"], text.json["data"], text.json["name"]) == ("message", "c", "hello", "n")
        assert (other.json["data"], other.json["encoding"]) == ('{"an":"object"}', "json")
        assert len({first.id, text.id, other.id}) == 3


async def test_lines_say_the_same(node: Server) -> None:
    async with StreamClient(node.port, "/event-stream", {"channels": "c"}) as lines:
        accept = {"accept": "text/event-stream"}
        async with StreamClient(node.port, "/event-stream", {"channel": "c"}, accept) as events:
            assert "content-type: application/x-ndjson\r\n" in lines.head
            assert "content-type: text/event-stream\r\n" in events.head
            events.path = "/sse"  # what it is
            await node.publish("c", b"\x00\xff")
            [line], [event] = await lines.messages(1), await events.messages(1)
            assert (line.id, line.kind, line.json) == (event.id, event.kind, event.json)
            assert (line.json["data"], line.json["encoding"]) == ("AP8=", "base64")


@pytest.mark.parametrize("path", ["/sse", "/event-stream"])
async def test_bare_text_is_one_event_whatever_is_in_it(node: Server, path: str) -> None:
    async with StreamClient(node.port, path, {"channels": "c", "enveloped": "false"}) as client:
        for text in BREAKS:
            await node.publish("c", text)
        found = [event.data for event in await client.messages(len(BREAKS))]
        if path == "/sse":
            assert found == [text.replace("\r\n", "\n").replace("\r", "\n") for text in BREAKS]
        else:
            assert [json.loads(data or "") for data in found] == BREAKS


async def test_enveloped_text_comes_as_it_is(node: Server) -> None:
    async with StreamClient(node.port, query={"channels": "c"}) as client:
        for text in BREAKS:
            await node.publish("c", text)
        assert [event.json["data"] for event in await client.messages(len(BREAKS))] == BREAKS


@pytest.mark.parametrize("channels", ["c", "c,d"])
@pytest.mark.parametrize("enveloped", ["true", "false"])
@pytest.mark.parametrize("path", ["/sse", "/event-stream"])
async def test_nothing_that_a_publisher_says_begins_an_event(
    node: Server, path: str, enveloped: str, channels: str
) -> None:
    evil: dict[str, Any] = {"name": EVIL, "client_id": f"x{EVIL}", "encoding": EVIL}
    async with StreamClient(node.port, path, {"channels": channels, "enveloped": enveloped}) as client:
        first = await client.event()
        assert first is not None
        for data in (EVIL, EVIL.encode(), {EVIL: [EVIL]}):
            await node.publish("c", data, id=EVIL + str(type(data)), extras={EVIL: {EVIL: EVIL}}, **evil)
        await node.publish("c", "last")
        events = await client.messages(4)
        assert {event.kind for event in events} == {"message"}
        assert not any("evil" in (event.id or "") for event in events)
        if enveloped == "true":
            assert events[-1].json["data"] == "last"
        else:
            assert events[-1].data == ("last" if path == "/sse" else '"last"')


@pytest.mark.parametrize("channels", ["c", "a,c,b"])
@pytest.mark.parametrize("path", ["/sse", "/event-stream"])
async def test_a_stream_that_is_cut_anywhere_goes_on_with_what_comes_next(
    node: Server, channels: str, path: str
) -> None:
    names = channels.split(",")
    got: dict[str, list[str]] = {name: [] for name in names}

    async def publish() -> None:
        for number in range(MESSAGES):
            await node.publish(names[number % len(names)], str(number))
            if number % 40 == 39:
                await asyncio.sleep(0.02)

    last, cuts = "", 0
    publishing: asyncio.Task[None] | None = None
    async with asyncio.timeout(60):
        while (left := MESSAGES - sum(map(len, got.values()))) > 0:
            headers = {"last-event-id": last} if last else {}
            async with StreamClient(node.port, path, {"channels": channels}, headers, last_id=last) as client:
                assert client.status == 200
                first = await client.event()
                assert first is not None
                assert first.data is None
                publishing = publishing or asyncio.create_task(publish())
                for event in await client.messages(min(left, random.randint(1, 60))):
                    assert event.kind == "message"
                    got[event.json["channel"]].append(event.json["data"])
                last = client.last_id
            cuts += 1
    assert publishing is not None
    await publishing
    assert got == {name: [str(n) for n in range(MESSAGES) if n % len(names) == at] for at, name in enumerate(names)}
    assert cuts >= MESSAGES // 60


async def test_rewind_gives_the_past_unless_there_is_a_position(node: Server) -> None:
    for number in range(5):
        await node.publish("c", str(number))
    async with StreamClient(node.port, query={"channels": "c,d", "rewind": "2"}) as client:
        assert [event.json["data"] for event in await client.messages(2)] == ["3", "4"]
        last = client.last_id
    await node.publish("c", "5")
    query = {"channels": "c,d", "rewind": "2", "lastEvent": last}
    async with StreamClient(node.port, query=query) as client:
        assert [event.json["data"] for event in await client.messages(1)] == ["5"]
    async with StreamClient(node.port, query={"channels": "[?rewind=1]c"}) as client:
        [event] = await client.messages(1)
        assert (event.json["channel"], event.json["data"]) == ("[?rewind=1]c", "5")


async def test_presence_comes_as_events_and_no_set_is_given(node: Server) -> None:
    member = PresenceClient(node.port, KEY)
    await member.connect()
    await member.enter("c", "bob")
    async with asyncio.timeout(20):
        while not [one async for one in node.presence("c")]:  # noqa: ASYNC110  this node has yet to read it
            await asyncio.sleep(0.01)
    async with StreamClient(node.port, query={"channels": "c"}) as client:
        await node.publish("c", "x")
        assert [event.kind for event in await client.messages(1)] == ["message"]
        await member.say("c", {"action": LEAVE, "clientId": "bob"})
        [event] = await client.messages(1)
        assert (event.kind, event.json["action"], event.json["clientId"]) == ("presence", LEAVE, "bob")
    await member.close()


async def test_what_is_wrong_before_it_begins_is_an_http_error(node: Server) -> None:
    refused: list[tuple[dict[str, str], int, int]] = [
        ({"channels": "c", "v": "x"}, 400, 40017),
        ({}, 400, 40010),
        ({"channels": ":c"}, 400, 40010),
        ({"channels": f"c{EVIL}"}, 400, 40010),
        ({"channels": "c", "key": "app.key:wrong"}, 401, 40101),
        ({"channels": "c", "key": "app.none:secret"}, 401, 40160),
        ({"channels": ",".join(map(str, range(33)))}, 400, 40003),
        ({"channels": "c,d", "lastEvent": "one"}, 400, 40003),
        ({"channels": "c", "enveloped": "no"}, 400, 40003),
        ({"channels": "c", "rewind": "x"}, 400, 40000),
    ]
    for query, status, code in refused:
        got, body = await get(node.port, query)
        assert (got, body["error"]["code"]) == (status, code), query
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.port}") as client:
        head = await client.head("/sse", params={"channels": "c", "key": KEY, "v": "3"})
        assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream")
        asked = await client.options("/sse", headers={"origin": "http://page"})
        assert "last-event-id" in asked.headers["access-control-allow-headers"]


@pytest.mark.parametrize("said", [{}, {"v": "1.2"}, {"v": "3"}, {"v": "99"}])
async def test_a_stream_needs_no_version_and_takes_the_first_one(node: Server, said: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{node.port}/sse"
    async with (
        httpx.AsyncClient() as client,
        client.stream("GET", url, params={"channels": "c", "key": KEY} | said) as answer,
    ):
        assert answer.status_code == 200
        await node.publish("c", "x")
        async with asyncio.timeout(20):
            assert await anext(line async for line in answer.aiter_lines() if line == "event: message")


async def test_a_position_of_another_log_is_told_and_the_stream_goes_on(node: Server) -> None:
    async with StreamClient(node.port, query={"channels": "c", "lastEvent": "nonsense"}) as client:
        [wrong] = await client.messages(1)
        assert (wrong.kind, wrong.json["code"], wrong.json["channel"]) == ("error", 90005, "c")
        await node.publish("c", "x")
        assert [event.kind for event in await client.messages(1)] == ["message"]


async def test_a_token_that_expires_ends_the_stream(node: Server) -> None:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.port}", auth=("app.key", "secret")) as client:
        answer = await client.post(
            "/keys/app.key/requestToken", json={"keyName": "app.key", "ttl": 1500, "timestamp": 0}
        )
        details: dict[str, Any] = answer.json()
    query = {"channels": "c", "accessToken": details["token"]}
    async with StreamClient(node.port, query=query) as client:
        assert client.status == 200
        [wrong] = await client.messages(1)
        assert (wrong.kind, wrong.json["code"]) == ("error", 40142)
        assert await client.event() is None


async def test_curl_reads_it(node: Server) -> None:
    url = f"http://127.0.0.1:{node.port}/sse?v=3&key={KEY}&channels=c"
    curl = await asyncio.create_subprocess_exec("curl", "-sN", "--http1.1", url, stdout=asyncio.subprocess.PIPE)
    assert curl.stdout is not None
    async with asyncio.timeout(20):
        assert (await curl.stdout.readline()).startswith(b"id: ")
        await node.publish("c", "hello")
        while not (line := await curl.stdout.readline()).startswith(b"data: "):
            pass
    assert json.loads(line.removeprefix(b"data: "))["data"] == "hello"
    curl.kill()
    await curl.wait()


async def test_streams_that_are_cut_by_the_network_leave_nothing(node: Server) -> None:
    async with proxy_to(node.port) as proxy:
        clients = [await StreamClient(proxy.port, query={"channels": "c"}).__aenter__() for _ in range(50)]
        assert all(client.status == 200 for client in clients)
        proxy.cut()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.port}") as client, asyncio.timeout(20):
        left = ""
        while left != "fanout_connections 0.0":
            lines = (await client.get("/metrics")).text.splitlines()
            left = next(line for line in lines if line.startswith("fanout_connections "))


async def test_a_client_that_never_reads_is_nobodys_burden(tmp_path: Path) -> None:
    config = Config(port=0, key=(KEY,), secret="0123456789abcdef", data=tmp_path, history_mib=4)
    async with Server(config) as server:
        await server.ready()
        query = {"channels": "c"}
        async with StreamClient(server.port, query=query) as idle, StreamClient(server.port, query=query) as client:
            expected, got, is_noted = [], [], False
            for number in range(2_400):  # more than all buffers on the way hold
                expected.append(f"{number} " + "x" * 10_000)
                await server.publish("c", expected[-1])
                if number % 20 == 19:
                    got += [event.json["data"] for event in await client.messages(20)]
                    if not is_noted and server.stats()["short_writes"]:
                        is_noted = True
                        await asyncio.sleep(NOTED_S)
            assert got == expected
            assert server.stats()["history_bytes"] < 8 << 20
            # Memory has long passed it; the log has not.
            await server.publish("c", "last")
            assert [event.json["data"] for event in await idle.messages(2_401)] == [*expected, "last"]
            assert server.stats()["continuity_lost"] == 1
            assert server.stats()["replay_bytes"] < 16 << 20


async def test_requests_that_are_never_finished_hold_nobody_up(node: Server) -> None:
    halves = [await asyncio.open_connection("127.0.0.1", node.port) for _ in range(500)]
    for _, writer in halves:
        writer.write(b"GET /sse?v=3&channels=c HTTP/1.1\r\nhost:")
    async with StreamClient(node.port, query={"channels": "c"}) as client:
        await node.publish("c", "x")
        assert [event.json["data"] for event in await client.messages(1)] == ["x"]
    async with asyncio.timeout(20):
        for reader, writer in halves:
            assert b" 408 " in await reader.readline()
            writer.close()


async def test_what_a_client_says_out_of_turn_is_dropped_and_much_of_it_ends_the_stream(node: Server) -> None:
    async with StreamClient(node.port, query={"channels": "c"}) as client:
        client.writer.write(b"GET /time HTTP/1.1\r\nhost: x\r\n\r\n")
        await node.publish("c", "x")
        assert [event.json["data"] for event in await client.messages(1)] == ["x"]
        client.writer.write(b"x" * (256 << 10))
        async with asyncio.timeout(20):
            with contextlib.suppress(ConnectionError):
                while not client.ended:
                    await client.text()


async def test_who_was_away_longer_than_memory_reaches_misses_nothing(tmp_path: Path) -> None:
    config = Config(port=0, key=(KEY,), secret="0123456789abcdef", data=tmp_path, history="1s")
    async with Server(config) as first:
        await first.ready()
        async with StreamClient(first.port, query={"channels": "c,d"}) as client:
            await client.event()
            last = client.last_id
        for number in range(300):
            await first.publish("cd"[number % 2], str(number))
    async with Server(config) as second:  # which never saw it
        await second.ready()
        await eventually(lambda: second.stats()["messages"] == second.stats()["messages_expired"] > 0)
        await second.publish("c", "300")
        async with StreamClient(second.port, query={"channels": "c,d", "lastEvent": last}) as client:
            events = await client.messages(301)
            assert {event.kind for event in events} == {"message"}
            for channel, start in (("c", 0), ("d", 1)):
                found = [event.json["data"] for event in events if event.json["channel"] == channel]
                assert found == [str(number) for number in range(start, 301, 2)]


async def everything(port: int, begun: asyncio.Event, came: asyncio.Event) -> list[Event]:
    """What a stream gives until it ends, ids alone left out; `came` tells of the first."""
    events = []
    async with StreamClient(port, query={"channels": "c"}) as client:
        begun.set()
        while (event := await client.event()) is not None:
            if event.data is not None:
                events.append(event)
                came.set()
    return events


async def test_a_node_that_drains_ends_its_streams_and_says_so(tmp_path: Path) -> None:
    config = Config(port=0, key=(KEY,), secret="0123456789abcdef", data=tmp_path)
    async with Server(config) as server:
        await server.ready()
        begun, came = asyncio.Event(), asyncio.Event()
        reading = asyncio.create_task(everything(server.port, begun, came))
        await begun.wait()
        await server.publish("c", "last")
        await came.wait()  # the log has it before the node has read it back
    message, wrong = await reading
    assert message.json["data"] == "last"
    assert (wrong.kind, wrong.json["code"], "channel" in wrong.json) == ("error", 80003, False)
