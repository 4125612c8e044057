"""Kafka fails under a running node: what its clients and its operators see of it, and that no connection ends."""

import asyncio
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest
from confluent_kafka.admin import AdminClient

from fanout import Config, Server
from tests.support.broker import Kafka, running
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.kafka_log import delete_until, make_anew, transactional, write
from tests.support.node import KEY, node_process
from tests.support.sources import eventually
from tests.support.wsclient import RawClient, Refused

pytestmark = pytest.mark.kafka


async def ready(port: int) -> tuple[int, dict[str, Any]]:
    async with httpx.AsyncClient() as http:
        answer = await http.get(f"http://127.0.0.1:{port}/ready")
    return answer.status_code, answer.json()


async def metric(port: int, name: str) -> list[str]:
    """The lines of one metric."""
    async with httpx.AsyncClient() as http:
        page = (await http.get(f"http://127.0.0.1:{port}/metrics")).text
    return [line for line in page.splitlines() if line.startswith(name)]


def data(client: RawClient, channel: str) -> list[Any]:
    return [message.text for message in client.received.get(channel, [])]


def serving(kafka: Kafka, tmp_path: Path, *routes: str) -> Server:
    config = Config(port=0, data=tmp_path, kafka=kafka.bootstrap, key=(KEY,), route=routes, drain="0s")
    return Server(config)


async def test_a_broker_that_is_away_costs_clients_time_and_nothing_else(tmp_path: Path) -> None:
    with running() as cluster:
        async with serving(cluster, tmp_path) as server:
            async with asyncio.timeout(30):
                await server.ready()
            client = await RawClient(server.port, KEY).connect()
            await client.attach("room")
            await client.publish("room", {"data": "before"})
            await asyncio.to_thread(cluster.kill)
            with pytest.raises(Refused) as refused:
                await asyncio.wait_for(client.publish("room", {"data": "refused"}), 20)
            assert refused.value.code == 50003
            status, body = await ready(server.port)
            assert status == 503
            assert f"Kafka at {cluster.bootstrap} does not answer" in body["reason"]
            assert await metric(server.port, "fanout_ready ") == ["fanout_ready 0.0"]
            await asyncio.to_thread(cluster.restart)
            await eventually(lambda: server.health().ok)
            await asyncio.wait_for(client.publish("room", {"data": "after"}), 20)
            await client.until(lambda: data(client, "room")[-1:] == ["after"])
            # what was refused may be in the log all the same: that is why a client sends it again under its id
            assert [text for text in data(client, "room") if text != "refused"] == ["before", "after"]
            assert (client.connections, len(client.attached("room"))) == (1, 1)
            assert (await ready(server.port))[0] == 200
            await client.close()


async def test_a_node_that_begins_before_kafka_serves_as_soon_as_it_is_there(tmp_path: Path) -> None:
    with running() as cluster:
        await asyncio.to_thread(cluster.kill)
        async with serving(cluster, tmp_path) as server:
            await eventually(lambda: "refused" in server.health().reason)
            assert (await ready(server.port))[0] == 503
            await asyncio.to_thread(cluster.restart)
            await eventually(lambda: server.health().ok)
            client = await RawClient(server.port, KEY).connect()
            await client.attach("room")
            await client.publish("room", {"data": "x"})
            await client.until(lambda: data(client, "room") == ["x"])
            await client.close()


async def test_an_open_transaction_is_seen_and_holds_up_its_channels_alone(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic(partitions=2)
    async with serving(kafka, tmp_path, f"{topic}=#{{key}}") as server:
        async with asyncio.timeout(30):
            await server.ready()
        client = await RawClient(server.port, KEY).connect()
        await client.attach("held")
        await client.attach("free")
        producer = transactional(kafka)
        producer.begin_transaction()
        producer.produce(topic, b"open", b"held", 0)
        producer.flush(10)
        write(kafka, topic, "behind", partition=0, key=b"held")
        await eventually(lambda: server.health().held)
        status, body = await ready(server.port)
        assert (status, body["ready"]) == (200, True)
        (held,) = body["held"]
        assert (held["topic"], held["partition"]) == (topic, 0)
        assert "transaction" in held["reason"]
        (line,) = await metric(server.port, "fanout_held_seconds{")
        assert f'topic="{topic}"' in line
        assert float(line.split()[-1]) > 1
        assert f'fanout_lag_records{{partition="0",topic="{topic}"}} 2.0' in await metric(server.port, "fanout_lag")
        write(kafka, topic, "x", partition=1, key=b"free")
        await client.until(lambda: data(client, "free") == ["x"])
        assert data(client, "held") == []
        producer.commit_transaction(15)
        await client.until(lambda: data(client, "held") == ["open", "behind"])
        await eventually(lambda: not server.health().held)
        assert await metric(server.port, "fanout_held_seconds{") == []
        assert len(client.attached("held")) == 1
        await client.close()


async def test_what_was_aborted_is_never_shown(kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path) -> None:
    topic = kafka_topic()
    async with serving(kafka, tmp_path, f"{topic}=room") as server:
        async with asyncio.timeout(30):
            await server.ready()
        client = await RawClient(server.port, KEY).connect()
        await client.attach("room")
        producer = transactional(kafka)
        for number in range(6):
            producer.begin_transaction()
            producer.produce(topic, b"%d" % number)
            producer.flush(10)
            if number % 2:
                producer.abort_transaction(15)
            else:
                producer.commit_transaction(15)
        await client.until(lambda: data(client, "room")[-1:] == ["4"])
        assert data(client, "room") == ["0", "2", "4"]
        async with httpx.AsyncClient(auth=tuple(KEY.split(":"))) as http:  # type: ignore[arg-type]
            page = (await http.get(f"{server.url}/channels/room/messages", params={"direction": "forwards"})).json()
        assert [message["data"] for message in page] == ["0", "2", "4"]
        await client.close()


async def test_a_topic_made_anew_is_told_to_who_is_there_and_to_who_comes_back(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic()
    async with serving(kafka, tmp_path, f"{topic}=room") as server:
        async with asyncio.timeout(30):
            await server.ready()
        client, away = [await RawClient(server.port, KEY).connect() for _ in range(2)]
        for each in (client, away):
            await each.attach("room")
        write(kafka, topic, *"012")
        await client.until(lambda: data(client, "room") == ["0", "1", "2"])
        await away.until(lambda: data(away, "room") == ["0", "1", "2"])
        serial = away._channels["room"].serial
        await away.close()
        await asyncio.to_thread(make_anew, kafka, topic, 1)
        await eventually(lambda: AdminClient(kafka.client).list_topics(topic, timeout=5).topics[topic].partitions)
        await client.until(lambda: len(client.attached("room")) == 2)
        write(kafka, topic, "a", "b")
        await client.until(lambda: data(client, "room")[-2:] == ["a", "b"])
        assert data(client, "room") == ["0", "1", "2", "a", "b"]
        assert [frame.get("error", {}).get("code") for frame in client.attached("room")] == [None, 80020]
        assert "a topic made anew" in client.attached("room")[1]["error"]["message"]
        back = await RawClient(server.port, KEY).connect()
        attached = await back.attach("room", channelSerial=serial)
        assert attached["error"]["code"] == 90003  # the position names another topic too, that of publishes
        await back.until(lambda: data(back, "room") == ["a", "b"])
        assert client.connections == 1
        for each in (client, back):
            await each.close()


async def test_retention_that_passes_a_paused_node_is_told(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic()
    options = ("--kafka", kafka.bootstrap, "--route", f"{topic}=room", "--kafka-setting", "queued.min.messages=1")
    async with node_process(tmp_path, *options) as node:
        client = await RawClient(node.port, KEY).connect()
        await client.attach("room")
        write(kafka, topic, "0")
        await client.until(lambda: data(client, "room") == ["0"])
        node.send_signal(signal.SIGSTOP)
        await asyncio.sleep(0.5)  # what it asked for last has been answered
        try:
            write(kafka, topic, *(str(number) for number in range(1, 20)))
            await asyncio.to_thread(delete_until, kafka, topic, 15)
        finally:
            node.send_signal(signal.SIGCONT)
        await client.until(lambda: len(client.attached("room")) == 2)
        write(kafka, topic, "20")
        await client.until(lambda: data(client, "room")[-1:] == ["20"])
        seen = data(client, "room")
        assert seen == ["0", *(str(number) for number in range(22 - len(seen), 21))]  # live, with what came since
        assert len(seen) <= 7  # retention had left 15
        assert [frame.get("error", {}).get("code") for frame in client.attached("room")] == [None, 80020]
        assert client.connections == 1
        await client.close()
