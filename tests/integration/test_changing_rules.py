"""Rules that come, and topics that go, on a real Kafka: who comes back has what was meant for them, once."""

import asyncio
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient

from fanout import Config, Server
from fanout._core import message_serial
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.node import KEY, node_process
from tests.support.sources import eventually
from tests.support.wsclient import RESUMED, RawClient

pytestmark = pytest.mark.kafka

CHANNEL = "c:k"


async def produce(kafka: Kafka, topic: str, *texts: str) -> None:
    producer = Producer(kafka.client)
    for text in texts:
        producer.produce(topic, text, b"k")
    assert await asyncio.to_thread(producer.flush, 30) == 0


class Visitor:
    """A client that comes and goes, and keeps its place."""

    def __init__(self) -> None:
        self.serial: str | None = None
        self.seen: list[str] = []
        self.code: int | None = None
        self.is_resumed = False

    async def visit(self, port: int, last: str) -> None:
        """Stays until it has that message."""
        client = await RawClient(port, KEY).connect()
        options = {"channelSerial": self.serial} if self.serial else {}
        attached = await client.attach(CHANNEL, **options)
        self.code = (attached.get("error") or {}).get("code")
        self.is_resumed = bool(attached.get("flags", 0) & RESUMED)
        async with asyncio.timeout(30):
            while [message.text for message in client.received.get(CHANNEL, [])][-1:] != [last]:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        self.seen += [message.text for message in client.received[CHANNEL]]
        self.serial = client._channels[CHANNEL].serial
        await client.close()


async def test_who_comes_back_after_a_rule_came_is_not_given_what_its_topic_had_before(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    here, other = kafka_topic(), kafka_topic(2)
    await produce(kafka, other, *(f"old{number}" for number in range(20)))
    options = ("--kafka", kafka.bootstrap, "--history", "1s", "--secret", "s" * 32, "--route", f"{here}=c:#{{key}}")
    visitor = Visitor()
    async with node_process(tmp_path, *options) as node:
        await come_and_see(kafka, here, visitor, node.port, "a1")
    both = (*options, "--route", f"{other}=c:#{{key}}")
    async with node_process(tmp_path, *both):
        await produce(kafka, other, "b1")
    await produce(kafka, other, "b2")
    await asyncio.sleep(1.5)  # and the next node reads none of that into memory
    async with node_process(tmp_path, *both) as node:
        await visitor.visit(node.port, "b2")
        given = [text for text in visitor.seen if text != "a1"]
        assert (visitor.is_resumed, given) == (True, ["b1", "b2"])


async def come_and_see(kafka: Kafka, topic: str, visitor: Visitor, port: int, text: str) -> None:
    """The first visit: without a place, it has what comes while it is there."""
    visiting = asyncio.ensure_future(visitor.visit(port, text))
    while not visiting.done():
        await produce(kafka, topic, text)
        await asyncio.sleep(0.5)
    await visiting
    visitor.seen.clear()


async def test_a_topic_of_a_pattern_that_is_deleted_takes_nobody_s_place_in_the_others(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    kept = kafka_topic()
    gone = kafka_topic()
    options = ("--kafka", kafka.bootstrap, "--history", "1s", "--secret", "s" * 32)
    routes = ("--route", f"^({kept}|{gone})$=c:#{{key}}")
    visitor = Visitor()
    async with node_process(tmp_path, *options, *routes) as node:
        await come_and_see(kafka, kept, visitor, node.port, "one")
    await produce(kafka, kept, "two", "three")
    admin = AdminClient(kafka.client)
    await asyncio.to_thread(admin.delete_topics([gone])[gone].result, 15)
    await asyncio.sleep(1.5)
    async with node_process(tmp_path, *options, *routes) as node:
        await visitor.visit(node.port, "three")
    assert (visitor.code, visitor.is_resumed) == (90003, False)
    assert [text for text in visitor.seen if text != "one"] == ["two", "three"]


async def delete(kafka: Kafka, topic: str) -> None:
    admin = AdminClient(kafka.client)
    await asyncio.to_thread(admin.delete_topics([topic])[topic].result, 15)


@pytest.mark.timeout(180)
async def test_a_topic_that_is_deleted_under_a_node_keeps_nobody_waiting_for_what_it_had(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    kept, gone = kafka_topic(), kafka_topic()
    routes = tuple(f"{topic}=c:#{{key}}" for topic in (kept, gone))
    settings = {"kafka": kafka.bootstrap, "key": (KEY,), "route": routes, "publish_topic": kept, "history": "1s"}
    async with Server(Config(port=0, data=tmp_path, **settings)) as node:  # type: ignore[arg-type]
        await node.ready()
        visitor = Visitor()
        await come_and_see(kafka, gone, visitor, node.port, "one")
        before, read = visitor.serial, node.stats()["messages"]
        await produce(kafka, gone, "lost")
        await produce(kafka, kept, "two", "three")

        def is_forgotten() -> bool:
            stats = node.stats()
            return stats["messages"] == read + 3 == stats["messages_expired"]

        await eventually(is_forgotten, 30)  # the log alone can answer now
        await delete(kafka, gone)
        client = await RawClient(node.port, KEY).connect()
        answered = asyncio.ensure_future(returned(client, before))
        async with asyncio.timeout(60):
            assert await answered == 90003
            await client.until(lambda: len(client.received.get(CHANNEL, [])) >= 2)
        assert [message.text for message in client.received[CHANNEL]] == ["two", "three"]
        await client.close()
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{node.port}", auth=httpx.BasicAuth(*KEY.split(":"))
        ) as http:
            for path in ("", "/versions", "/annotations"):
                asked = await http.get(f"/channels/{CHANNEL}/messages/{message_serial(gone, 0, 0)}{path}")
                assert (asked.status_code, asked.json()["error"]["code"]) == (404, 40400)
        await delete(kafka, kept)
        await asyncio.sleep(1)
        client = await RawClient(node.port, KEY).connect()
        async with asyncio.timeout(60):
            assert await returned(client, before) == 90005
        await client.close()


async def returned(client: RawClient, serial: str | None) -> int | None:
    """The code with which who comes back is let in, however often it has to come again."""
    attaching = asyncio.ensure_future(client.attach(CHANNEL, channelSerial=serial))
    while not attaching.done() or attaching.exception() is not None:
        if attaching.done():
            attaching = asyncio.ensure_future(client.attach(CHANNEL, channelSerial=serial))
        await asyncio.sleep(0.1)
    return (attaching.result().get("error") or {}).get("code")
