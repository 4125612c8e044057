"""A node inside a program: what `Server` promises to whoever embeds it, on asyncio's loop and on uvloop's."""

import asyncio
import gc
import logging
import os
import queue
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
import websockets
from prometheus_client.parser import text_string_to_metric_families

from fanout import (
    ClientError,
    Config,
    ConfigError,
    ContinuityLost,
    Identity,
    Message,
    Record,
    Server,
    SourceError,
    Subscription,
)
from fanout.sources.base import Appended, Done, Health, NewRecord, Sink
from tests.support.sources import NeverReadBack

pytestmark = pytest.mark.every_loop

EVERYTHING = {"*": frozenset({"*"})}


@pytest.fixture(params=[0, 1, 2], ids=lambda threads: f"{threads}-threads")
def config(request: pytest.FixtureRequest, tmp_path: Path) -> Config:
    return Config(port=0, data=tmp_path / "data", io_threads=request.param)


@asynccontextmanager
async def client(server: Server, **query: str) -> AsyncIterator[websockets.ClientConnection]:
    """A protocol client, connected."""
    parameters = "&".join(f"{name}={value}" for name, value in {"v": "6", "key": server.key, **query}.items())
    async with websockets.connect(f"ws://127.0.0.1:{server.port}/?{parameters}") as socket_:
        yield socket_


async def frame(socket_: websockets.ClientConnection, action: int) -> dict[str, Any]:
    """The client's next frame of this action."""
    async with asyncio.timeout(10):
        while True:
            received: dict[str, Any] = orjson.loads(await socket_.recv())
            if received["action"] == action:
                return received


CONNECTED, DISCONNECTED, ERROR, ATTACH, ATTACHED, MESSAGE, ACK = 4, 6, 9, 10, 11, 15, 1


async def some(subscription: Subscription, count: int) -> list[Message]:
    async with asyncio.timeout(10):
        return [await anext(subscription) for _ in range(count)]


class TestPublishing:
    async def test_returns_the_serial_that_subscribers_see(self, config: Config) -> None:
        async with Server(config) as server:
            subscription = server.subscribe("chat")
            serial = await server.publish(
                "chat", "hi", name="greet", id="one", client_id="me", extras={"headers": {"a": 1}}
            )
            (message,) = await some(subscription, 1)
        assert (message.serial, message.id, message.name) == (serial, "one", "greet")
        assert (message.data, message.encoding, message.client_id) == ("hi", None, "me")
        assert message.extras == {"headers": {"a": 1}}
        assert message.position

    @pytest.mark.parametrize(
        ("data", "received", "encoding"),
        [
            ({"a": [1]}, '{"a":[1]}', "json"),
            ([1, "x"], '[1,"x"]', "json"),
            (b"\xff\x00", b"\xff\x00", None),
            ("ü", "ü", None),
            (None, None, None),
        ],
    )
    async def test_carries_text_bytes_json_and_nothing(
        self, tmp_path: Path, data: Any, received: Any, encoding: str | None
    ) -> None:
        async with Server(Config(port=0, data=tmp_path)) as server:
            subscription = server.subscribe("chat")
            await server.publish("chat", data)
            (message,) = await some(subscription, 1)
        assert (message.data, message.encoding) == (received, encoding)

    async def test_reaches_all_also_where_one_cannot_be_told_of_it(
        self, config: Config, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with Server(config) as server:
            one, broken, other = (server.subscribe("chat") for _ in range(3))

            def fails() -> None:
                raise OverflowError("broken")

            monkeypatch.setattr(broken, "wake", fails)
            taken = asyncio.gather(some(one, 1), some(other, 1))
            await asyncio.sleep(0.05)  # both wait for what comes
            await server.publish("chat", "a")
            assert [message.data for (message,) in await taken] == ["a", "a"]
            assert "an event of the engine ends with an error" in caplog.text

    async def test_again_under_one_id_is_one_message(self, config: Config) -> None:
        async with Server(config) as server:
            subscription = server.subscribe("chat")
            serials = [await server.publish("chat", "a", id="same") for _ in range(3)]
            await server.publish("chat", "b")
            assert len(set(serials)) == 1
            assert [message.data for message in await some(subscription, 2)] == ["a", "b"]

    async def test_refuses_what_cannot_be_sent(self, tmp_path: Path) -> None:
        async with Server(Config(port=0, data=tmp_path)) as server:
            with pytest.raises(TypeError, match="data is text, bytes, a dict, a list or None, not float"):
                await server.publish("chat", 1.5)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="surrogates"):
                await server.publish("chat", "\ud800")
            for channel in ("", "x" * 2_000, ":a", "a\0b", "[meta]log"):
                with pytest.raises(ClientError) as refused:
                    await server.publish(channel, "x")
                assert refused.value.info.code == 40010
            wrong: list[dict[str, Any]] = [{"name": 5}, {"client_id": b"a"}, {"encoding": ["json"]}, {"id": 7}]
            for options in wrong:
                with pytest.raises(TypeError, match=f"{next(iter(options))} is text or None, not "):
                    await server.publish("chat", "x", **options)
            with pytest.raises(TypeError, match="channel is text, not bytes"):
                await server.publish(b"chat", "x")  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="channel is text, not NoneType"):
                server.subscribe(None)  # type: ignore[arg-type]
            deep: dict[str, Any] = {}
            for _ in range(32):
                deep = {"a": deep}
            impossible: list[Any] = [deep, {"a": float("nan")}, {"a": b"bytes"}, []]
            for extras in impossible:
                with pytest.raises(ClientError) as refused:
                    await server.publish("chat", "x", extras=extras)
                assert refused.value.info.code == 40032
            await server.publish("chat", "the server goes on")

    async def test_a_thousand_at_once_arrive_in_order(self, config: Config) -> None:
        async with Server(config) as server:
            subscription = server.subscribe("chat")
            await asyncio.gather(*(server.publish("chat", str(number)) for number in range(1_000)))
            assert [message.data for message in await some(subscription, 1_000)] == [str(n) for n in range(1_000)]


class TestSubscribing:
    async def test_continues_after_a_position_also_after_a_restart(self, config: Config) -> None:
        async with Server(config) as server:
            subscription = server.subscribe("chat")
            for text in "abc":
                await server.publish("chat", text)
            first = (await some(subscription, 3))[0]
            again = server.subscribe("chat", since=first.position)
            assert [message.data for message in await some(again, 2)] == ["b", "c"]
        async with Server(config) as server:
            again = server.subscribe("chat", since=first.position)
            await server.publish("chat", "d")
            assert [message.data for message in await some(again, 3)] == ["b", "c", "d"]

    async def test_from_a_taken_position_misses_nothing(self, config: Config) -> None:
        async with Server(config) as server:
            await server.ready()
            await server.publish("chat", "before")
            await some(server.subscribe("chat", since=server.position("other")), 0)
            position = server.position("chat")
            await server.publish("chat", "after")
            assert (await some(server.subscribe("chat", since=position), 1))[0].data in ("before", "after")

    async def test_of_a_foreign_position_says_so_and_goes_on(self, config: Config) -> None:
        async with Server(config) as server:
            await server.publish("news", "x")
            foreign = await some_position(server, "news")
            subscription = server.subscribe("chat", since=foreign)
            with pytest.raises(ContinuityLost, match="foreign"):
                await some(subscription, 1)
            await server.publish("chat", "new")
            assert (await some(subscription, 1))[0].data == "new"

    async def test_too_slow_for_the_history_is_given_the_rest_from_the_log(self, tmp_path: Path) -> None:
        async with Server(Config(port=0, data=tmp_path, history_mib=1)) as server:
            subscription = server.subscribe("chat")
            for number in range(40):
                await server.publish("chat", f"{number:05d}" + "x" * 50_000)
            given = await some(subscription, 40)
        assert [int(str(message.data)[:5]) for message in given] == list(range(40))

    async def test_ends_with_the_server(self, config: Config) -> None:
        async with Server(config) as server:
            reading = asyncio.create_task(collect(server.subscribe("chat")))
            await server.publish("chat", "a")
            await asyncio.sleep(0.2)
        assert await asyncio.wait_for(reading, 5) == ["a"]

    async def test_ends_also_if_iterated_only_after_the_server_is_left(self, config: Config) -> None:
        async with Server(config) as server:
            subscription = server.subscribe("chat")
        assert await asyncio.wait_for(collect(subscription), 5) == []

    async def test_cancelled_gives_everything_back(self, config: Config) -> None:
        async with Server(config) as server:
            reading = [asyncio.create_task(collect(server.subscribe("chat"))) for _ in range(50)]
            await asyncio.sleep(0.05)
            for task in reading:
                task.cancel()
            await asyncio.wait(reading)
            await server.publish("chat", "nobody is harmed")


async def collect(subscription: Subscription) -> list[Any]:
    return [message.data async for message in subscription]


async def some_position(server: Server, channel: str) -> str:
    """The position after the next message of a channel."""
    subscription = server.subscribe(channel)
    await server.publish(channel, "y")
    return (await some(subscription, 1))[0].position


class TestClients:
    async def test_and_the_program_speak_to_each_other(self, config: Config) -> None:
        async with Server(config) as server, client(server) as socket_:
            await frame(socket_, CONNECTED)
            await socket_.send(orjson.dumps({"action": ATTACH, "channel": "chat"}).decode())
            await frame(socket_, ATTACHED)
            subscription = server.subscribe("chat")
            await server.publish("chat", {"from": "program"})
            assert orjson.loads((await frame(socket_, MESSAGE))["messages"][0]["data"]) == {"from": "program"}
            sent = {"action": MESSAGE, "channel": "chat", "msgSerial": 0, "messages": [{"data": "from client"}]}
            await socket_.send(orjson.dumps(sent).decode())
            acknowledged = await frame(socket_, ACK)
            heard = await some(subscription, 2)
            assert heard[1].data == "from client"
            assert acknowledged["res"][0]["serials"] == [heard[1].serial]

    async def test_are_given_together_what_a_topic_that_lingers_gathers(self, config: Config) -> None:
        async with Server(replace(config, linger=("fanout.messages=1s",))) as server, client(server) as socket_:
            await socket_.send(orjson.dumps({"action": ATTACH, "channel": "chat"}).decode())
            await frame(socket_, ATTACHED)
            for text in "abc":
                await server.publish("chat", text)  # returns when the log has it, not when clients do
            assert [message["data"] for message in (await frame(socket_, MESSAGE))["messages"]] == ["a", "b", "c"]

    async def test_are_let_in_by_the_programs_own_rule(self, tmp_path: Path) -> None:
        asked: list[tuple[str, str | None]] = []

        def authorize(credential: str, client_id: str | None) -> Identity | None:
            asked.append((credential, client_id))
            return Identity("own.rule", client_id, EVERYTHING) if credential == "a.b:open" else None

        async with Server(Config(port=0, data=tmp_path), authorize=authorize) as server:
            assert server.key is None
            async with client(server, key="a.b:open", clientId="me") as socket_:
                connected = await frame(socket_, CONNECTED)
                assert connected["connectionDetails"]["clientId"] == "me"
            async with client(server, key="a.b:shut") as socket_:
                assert (await frame(socket_, ERROR))["error"]["code"] == 40101
        assert asked == [("a.b:open", "me"), ("a.b:shut", None)]

    async def test_are_answered_when_the_programs_rule_fails(self, tmp_path: Path) -> None:
        def authorize(credential: str, client_id: str | None) -> Identity | None:
            raise ZeroDivisionError

        async with Server(Config(port=0, data=tmp_path), authorize=authorize) as server:
            async with client(server, key="a.b:c") as socket_:
                assert (await frame(socket_, DISCONNECTED))["error"]["code"] == 80003
            async with httpx.AsyncClient(base_url=server.url) as http:
                assert (await http.get("/channels/a/messages", auth=("a.b", "c"))).status_code == 500
                assert (await http.get("/time")).status_code == 200

    async def test_beyond_the_limit_are_told_503(self, tmp_path: Path) -> None:
        async with Server(Config(port=0, data=tmp_path, max_connections=2)) as server:
            async with client(server), client(server):
                reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
                assert (await reader.read()).startswith(b"HTTP/1.1 503 ")
                writer.close()
            async with httpx.AsyncClient(base_url=server.url) as http:
                text = (await http.get("/metrics")).text
                assert metric(text, "fanout_connections_refused_total") == 1
                assert metric(text, "fanout_connections_opened_total") == 2


def metric(text: str, name: str) -> float:
    (value,) = (
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name
    )
    return value


class TestOwnRouting:
    async def test_sends_a_record_to_the_channels_that_it_names(self, tmp_path: Path) -> None:
        def route(record: Record) -> list[str] | None:
            text = (record.value or b"").decode()
            return None if text == "skip" else ["all", f"by-{text}"]

        async with Server(Config(port=0, data=tmp_path), route=route) as server:
            every, one = server.subscribe("all"), server.subscribe("by-b")
            for text in ("a", "skip", "b"):
                await server.publish("ignored", text)
            assert [message.data for message in await some(every, 2)] == ["a", "b"]
            assert [message.data for message in await some(one, 1)] == ["b"]

    async def test_that_fails_skips_the_record_and_not_the_rest(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        def route(record: Record) -> str:
            return {b"good": "chat"}[record.value or b""]

        async with Server(Config(port=0, data=tmp_path), route=route) as server:
            subscription = server.subscribe("chat")
            for text in ("bad", "bad", "good"):
                await server.publish("x", text)
            assert [message.data for message in await some(subscription, 1)] == ["good"]
        assert caplog.text.count("route failed") == 1

    async def test_by_templates_reads_the_topics_of_the_rules(self, tmp_path: Path) -> None:
        config = Config(
            port=0, data=tmp_path, route=("fanout.messages=#{value.room}:#{header.fanout.name}",), io_threads=0
        )
        async with Server(config) as server:
            subscription = server.subscribe("lobby:greet")
            await server.publish("any", {"room": "lobby"}, name="greet")
            await server.publish("any", {"room": "hall"}, name="greet")
            await server.publish("any", "no room")
            await server.publish("any", {"room": "lobby", "last": True}, name="greet")
            heard = [orjson.loads(message.data or "") for message in await some(subscription, 2)]
            assert heard == [{"room": "lobby"}, {"room": "lobby", "last": True}]
            assert server.stats()["failed_value"] == 1


class EchoSource(NeverReadBack):
    """A log in memory, of one partition, that reads back what is appended on a thread of its own."""

    def __init__(self) -> None:
        self.topics: list[str] = []
        self.stopped = 0
        self._waiting: queue.SimpleQueue[tuple[Sequence[NewRecord], Done] | None] = queue.SimpleQueue()

    async def start(
        self,
        sink: Sink,
        topics: Sequence[str],
        history_ms: int,
        state_topics: Sequence[str] = (),
        on_demand: Sequence[str] = (),
    ) -> None:
        self.topics = list(topics)
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._read, args=(sink, loop))
        self._thread.start()

    def _read(self, sink: Sink, loop: asyncio.AbstractEventLoop) -> None:
        sink.partition(self.topics[0], b"sixteen bytes :)", 0, 0)
        sink.ready()
        offset = 0
        while appended := self._waiting.get():
            records, done = appended
            places = [Appended(r.topic, 0, offset + i, 1_700_000_000_000) for i, r in enumerate(records)]
            offset += len(records)
            read = [
                Record(p.topic, 0, p.offset, -1, p.timestamp, r.key, r.value, list(r.headers))
                for r, p in zip(records, places, strict=True)
            ]
            loop.call_soon_threadsafe(done, places)
            sink.records(read)

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        self._waiting.put((records, done))

    def health(self) -> Health:
        return Health(True, "")

    def lag(self) -> dict[tuple[str, int], int]:
        return {(self.topics[0], 0): 7}

    async def stop(self) -> None:
        if not self.stopped:
            self._waiting.put(None)
            await asyncio.to_thread(self._thread.join)
        self.stopped += 1


class TestOwnSource:
    async def test_is_the_log_for_as_long_as_the_server_runs(self, config: Config) -> None:
        source = EchoSource()
        async with Server(config, source=source) as server:
            subscription = server.subscribe("chat")
            serials = [await server.publish("chat", f"message {number}") for number in range(3)]
            messages = await some(subscription, 3)
            assert server.health().ok
            async with httpx.AsyncClient(base_url=server.url) as http:
                metrics = (await http.get("/metrics")).text
            assert 'fanout_lag_records{partition="0",topic="fanout.messages"} 7.0' in metrics
        assert [(m.serial, m.data) for m in messages] == [(s, f"message {n}") for n, s in enumerate(serials)]
        assert source.topics == ["fanout.messages", "fanout.checkpoints"]
        assert source.stopped == 1
        assert not list(config.data.glob("*.db*"))

    async def test_beside_kafka_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="kafka is given, and so is a source: a node reads one log"):
            Server(Config(kafka="localhost:9092"), source=EchoSource())


class TestLife:
    async def test_two_in_one_process_share_nothing(self, tmp_path: Path) -> None:
        one, two = (Config(port=0, data=tmp_path / name) for name in ("one", "two"))
        async with Server(one) as first, Server(two) as second:
            assert first.port != second.port
            assert first.key != second.key
            here, there = first.subscribe("chat"), second.subscribe("chat")
            await first.publish("chat", "first")
            await second.publish("chat", "second")
            assert [message.data for message in await some(here, 1)] == ["first"]
            assert [message.data for message in await some(there, 1)] == ["second"]
            assert first.stats()["published"] == second.stats()["published"] == 1
            async with client(first) as socket_:
                await frame(socket_, CONNECTED)
                assert (first.stats()["connections"], second.stats()["connections"]) == (1, 0)

    async def test_keys_and_positions_stay_good_over_restarts(self, config: Config) -> None:
        async with Server(config) as server:
            key = server.key
        async with Server(config) as server:
            assert server.key == key

    async def test_that_cannot_listen_says_so_and_leaves_nothing_behind(self, config: Config) -> None:
        async with Server(config):
            pass  # what is made once in a process is made now
        before = held()
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            with pytest.raises(ConfigError, match=f"port: {port} on 127.0.0.1 is taken by another program"):
                async with Server(Config(port=port, data=config.data, io_threads=config.io_threads)):
                    pass
        assert held() == before
        with pytest.raises(ConfigError, match="host: 'no such host' is not known"):
            async with Server(Config(port=0, host="no such host", data=config.data)):
                pass

    async def test_of_a_directory_in_use_says_so(self, config: Config) -> None:
        async with Server(config):
            with pytest.raises(SourceError, match="in use by another node"):
                async with Server(config):
                    pass

    async def test_leaves_no_descriptor_and_no_thread_behind(self, config: Config) -> None:
        async def once() -> None:
            async with Server(config) as server, client(server) as socket_:
                await frame(socket_, CONNECTED)
                await server.publish("chat", "x")
                await server.drain(0)

        await once()
        before = held()
        for _ in range(3):
            await once()
        assert held() == before

    async def test_that_does_not_run_says_so(self, config: Config) -> None:
        server = Server(config)

        async def refuses_everything() -> None:
            for call in (server.stats, server.health, lambda: server.position("a"), lambda: server.subscribe("a")):
                with pytest.raises(RuntimeError, match="the server is not running: use it inside `async with`"):
                    call()
            for coroutine in (server.publish("a", "x"), server.ready()):
                with pytest.raises(RuntimeError, match="not running"):
                    await coroutine

        await refuses_everything()
        with pytest.raises(RuntimeError, match="not running"):
            await server.drain()
        async with server:
            await server.publish("a", "x")
        await refuses_everything()
        await server.drain()  # has happened

    async def test_is_entered_once(self, config: Config) -> None:
        server = Server(config)
        async with server:
            pass
        with pytest.raises(RuntimeError, match="entered once"):
            async with server:
                pass

    async def test_draining_sends_clients_away_and_says_not_ready(self, config: Config) -> None:
        async with Server(config) as server:
            await server.ready()
            assert server.health().ok
            async with client(server) as one, client(server) as two, httpx.AsyncClient(base_url=server.url) as http:
                await frame(one, CONNECTED)
                await frame(two, CONNECTED)
                draining = asyncio.create_task(server.drain(0.2))
                for socket_ in (one, two):
                    assert (await frame(socket_, DISCONNECTED))["error"]["code"] == 80003
                await draining
                assert server.health() == Health(False, "the node is draining")
                with pytest.raises(httpx.ConnectError):
                    await http.get("/time")
            await server.publish("chat", "the program goes on")

    async def test_draining_twice_is_draining_once(self, config: Config) -> None:
        async with Server(config) as server, asyncio.timeout(5):
            await asyncio.gather(server.drain(0), server.drain(60))


def held() -> tuple[int, int]:
    """Descriptors and threads of this process, without the pool that the loop keeps for blocking calls."""
    gc.collect()
    pool = {thread.native_id for thread in threading.enumerate() if thread.name.startswith("asyncio_")}
    return len(os.listdir("/proc/self/fd")), len({int(task) for task in os.listdir("/proc/self/task")} - pool)


class TestProbes:
    async def test_health_ready_and_metrics_answer_without_a_key(self, config: Config) -> None:
        async with Server(config) as server, httpx.AsyncClient(base_url=server.url) as http:
            await server.ready()
            assert (await http.get("/health")).json() == {"status": "ok"}
            assert (await http.get("/ready")).json() == {"ready": True}
            await server.publish("chat", "x")
            text = (await http.get("/metrics")).text
            assert metric(text, "fanout_ready") == 1
            assert metric(text, "fanout_publish_seconds_count") == 1

    async def test_every_counter_of_the_engine_is_in_the_metrics(self, tmp_path: Path) -> None:
        from fanout.observe.metrics import COUNTERS, FAMILIES, GAUGES

        shown = {*COUNTERS, *GAUGES, *(member for family in FAMILIES for member in family.members.values())}
        async with Server(Config(port=0, data=tmp_path)) as server:
            assert set(server.stats()) - {"published", "repeated", "failed", "connections"} == shown

    async def test_ready_says_why_not_while_the_log_is_away(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO)
        config = Config(port=0, data=tmp_path, kafka="127.0.0.1:9")
        async with Server(config) as server, httpx.AsyncClient(base_url=server.url) as http:
            answer = await http.get("/ready")
            assert answer.status_code == 503
            assert answer.json()["reason"]
            assert (await http.get("/health")).status_code == 200

    @pytest.mark.parametrize(
        ("host", "url"),
        [("127.0.0.1", "http://127.0.0.1:"), ("0.0.0.0", "http://127.0.0.1:"), ("localhost", "http://localhost:")],
    )
    async def test_url_is_one_that_this_machine_can_open(self, tmp_path: Path, host: str, url: str) -> None:
        async with Server(Config(port=0, data=tmp_path, host=host)) as server, httpx.AsyncClient() as http:
            assert server.url == f"{url}{server.port}"
            assert (await http.get(f"{server.url}/health")).status_code == 200

    @pytest.mark.parametrize(("host", "given"), [("127.0.0.1", True), ("0.0.0.0", False)])
    async def test_demo_key_is_given_out_only_where_no_other_machine_can_ask(
        self, tmp_path: Path, host: str, given: bool
    ) -> None:
        async with Server(Config(port=0, data=tmp_path, host=host)) as server, httpx.AsyncClient() as http:
            shown = (await http.get(f"{server.url}/demo.json")).json()["key"]
            assert shown == (server.key if given else None)

    async def test_configured_key_is_never_given_out(self, tmp_path: Path) -> None:
        config = Config(port=0, data=tmp_path, key=('a.b:s={"*":["subscribe"]}',))
        async with Server(config) as server, httpx.AsyncClient(base_url=server.url) as http:
            assert server.key == "a.b:s"
            assert (await http.get("/demo.json")).json()["key"] is None
