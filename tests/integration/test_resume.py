"""Coming back after longer than memory reaches: from the log, exactly, on any node; or a gap that is told."""

import asyncio
import base64
import random
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from fanout import ContinuityLost, Server
from fanout.history.reading import has_read
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.kafka_log import delete_until
from tests.support.one_log import KEY, OneLog
from tests.support.sources import eventually
from tests.support.wsclient import RESUMED, RawClient


async def fill(node: Server, count: int, start: int = 0, channel: str = "c") -> list[str]:
    """Publishes so many, with others between."""
    numbers = range(start, start + count)
    for first in range(start, start + count, 50):
        batch = [number for number in numbers if first <= number < first + 50]
        await asyncio.gather(*(node.publish("other", "x") for _ in batch))
        await asyncio.gather(*(node.publish(channel, str(number)) for number in batch))  # in this order
    return [str(number) for number in numbers]


async def forgotten(node: Server) -> None:
    """Waits until memory holds nothing of what was published."""

    def is_forgotten() -> bool:
        stats, inside = node.stats(), node._node.messages
        if not has_read(inside.engine.places("c", None), inside.publisher.ends):
            return False
        return stats["messages"] + stats["presence_events"] == stats["messages_expired"]

    await eventually(is_forgotten)


async def came_back(node: Server, position: str, channel: str = "c", wire: str = "json") -> RawClient:
    """A client that continues behind a position."""
    client = await RawClient(node.port, KEY, wire).connect()
    await client.attach(channel, channelSerial=position)
    return client


def texts(client: RawClient, channel: str = "c") -> list[str]:
    return [message.text for message in client.received.get(channel, ())]


async def heard(client: RawClient, count: int) -> None:
    """Waits until the client was given so many messages of `c`."""
    await client.until(lambda: len(texts(client)) >= count)


def told(client: RawClient, channel: str = "c") -> tuple[bool, int | None]:
    """Whether the last ATTACHED said RESUMED, and its error."""
    frame = client.attached(channel)[-1]
    return bool(frame["flags"] & RESUMED), frame.get("error", {}).get("code")


async def test_who_was_away_longer_than_memory_reaches_misses_nothing(log: OneLog) -> None:
    node = await log.node()
    position = node.position("c")
    expected = await fill(node, 300)
    await forgotten(node)
    client = await came_back(node, position)
    assert told(client) == (True, None)
    expected += await fill(node, 20, 300)
    await heard(client, len(expected))
    expected += await fill(node, 5, 320)
    await heard(client, len(expected))
    assert texts(client) == expected
    await client.close()
    assert node.stats()["replays_handed_over"] == 1


async def test_on_a_node_that_never_saw_the_client(log: OneLog, request: pytest.FixtureRequest) -> None:
    first = await log.node(history="1h")
    clients = [await RawClient(first.port, KEY, wire).connect() for wire in ("json", "msgpack")]
    for client in clients:
        await client.attach("c")
    expected = await fill(first, 60)
    for client in clients:
        await heard(client, 60)
        client.cut()
        await client.close()
    expected += await fill(first, 200, 60)
    if "kafka" not in request.node.name:  # the embedded log belongs to one node at a time
        await first.__aexit__(None, None, None)
    second = await log.node()
    await forgotten(second)
    expected += await fill(second, 10, 260)
    for client in clients:
        client.move(second.port)
        await client.connect()
        await heard(client, len(expected))
        assert told(client) == (True, None)
        assert texts(client) == expected
        await client.close()
    assert second.stats()["resumed_from_log"] == 2


async def test_many_who_come_at_once_share_one_reading(log: OneLog, monkeypatch: pytest.MonkeyPatch) -> None:
    node = await log.node()
    position = node.position("c")
    expected = await fill(node, 1_500)
    await forgotten(node)
    reads = 0
    read = node._node.messages.source.read

    async def counted(*asked: Any) -> Any:
        nonlocal reads
        reads += 1
        return await read(*asked)

    monkeypatch.setattr(node._node.messages.source, "read", counted)
    clients = await asyncio.gather(*(came_back(node, position, wire=("json", "msgpack")[n % 2]) for n in range(200)))
    for client in clients:
        await heard(client, len(expected))
        assert texts(client) == expected
        assert told(client) == (True, None)
    assert reads <= 10, "three or four thousand records, by the thousand, and what was before them"
    await asyncio.gather(*(client.close() for client in clients))


async def test_deltas_filters_echo_and_other_spellings_are_those_of_live(log: OneLog) -> None:
    node = await log.node()
    position = node.position("c")
    for number in range(40):
        await node.publish("c", f"{number:050}", name="even" if number % 2 == 0 else "odd")
    await forgotten(node)
    filtered = "[filter=" + base64.b64encode(b"name == 'odd'").decode() + "]c"
    client = await RawClient(node.port, KEY).connect()
    frames: dict[str, list[dict[str, Any]]] = {"c": [], filtered: [], "[?delta=vcdiff]c": []}
    client._on_message = lambda channel, message: frames[channel].append(message)
    for channel in frames:
        await client.attach(channel, channelSerial=position)
    for number in range(40, 50):
        await node.publish("c", f"{number:050}", name="even" if number % 2 == 0 else "odd")
    await client.until(lambda: [len(seen) for seen in frames.values()] == [50, 25, 50])
    numbers = [f"{number:050}" for number in range(50)]
    assert [message["data"] for message in frames["c"]] == numbers
    assert [message["data"] for message in frames[filtered]] == numbers[1::2]
    deltas = [message.get("encoding") for message in frames["[?delta=vcdiff]c"]]
    assert deltas[0] is None
    assert deltas.count("utf-8/vcdiff/base64") >= 45, "one is whole where each of the two rings begins"
    await client.close()


async def test_changes_and_summaries_come_as_to_those_who_were_there(log: OneLog) -> None:
    node = await log.node()
    there: list[dict[str, Any]] = []
    present = await RawClient(node.port, KEY, on_message=lambda _, message: there.append(message)).connect()
    await present.attach("notes:a")
    position = node.position("notes:a")
    serial = await node.publish("notes:a", "one")
    async with httpx.AsyncClient(base_url=node.url, params={"key": KEY}) as http:
        for action, data in ((1, "ONE"), (5, "+"), (2, None)):
            asked = {"action": action} | ({"data": data} if data else {})
            (await http.patch(f"/channels/notes:a/messages/{serial}", json=asked)).raise_for_status()
    await node.publish("notes:a", "last")
    await present.until(lambda: len(there) == 5)
    await forgotten(node)
    back: list[dict[str, Any]] = []
    client = await RawClient(node.port, KEY, on_message=lambda _, message: back.append(message)).connect()
    await client.attach("notes:a", channelSerial=position)
    await client.until(lambda: len(back) == 5)
    assert back == there
    await client.close()
    await present.close()


async def test_who_is_present_is_given_once_live(log: OneLog) -> None:
    node = await log.node()
    member = await RawClient(node.port, KEY, query={"clientId": "ann"}).connect()
    await member.attach("c")
    member.send({"action": 14, "channel": "c", "msgSerial": 0, "presence": [{"action": 2, "data": "here"}]})
    position = node.position("c")
    expected = await fill(node, 100)
    await forgotten(node)
    client = await came_back(node, position)
    assert client.attached("c")[-1]["flags"] & 1, "HAS_PRESENCE"
    await heard(client, len(expected))
    await client.until(lambda: any(frame["action"] == 16 for frame in client.frames))
    (sync,) = [frame for frame in client.frames if frame["action"] == 16]
    assert [one["clientId"] for one in sync["presence"]] == ["ann"]
    assert sync["channelSerial"].endswith(":")
    await client.close()
    await member.close()


async def test_a_subscription_inside_the_process_begins_wherever_the_log_does(log: OneLog) -> None:
    node = await log.node()
    since = node.position("c")
    expected = await fill(node, 300)
    await forgotten(node)
    async with node.subscribe("c", since=since) as subscription:
        seen = [str((await anext(subscription)).data) for _ in range(300)]
        expected += await fill(node, 20, 300)
        seen += [str((await anext(subscription)).data) for _ in range(20)]
        waiting = asyncio.ensure_future(anext(subscription))
        await eventually(lambda: node.stats()["replays_handed_over"] == 1)
        expected += await fill(node, 1, 320)
        seen.append(str((await waiting).data))
    assert seen == expected
    await eventually(lambda: node.stats()["replay_bytes"] == 0)


async def test_one_that_is_left_alone_for_longer_than_memory_reaches_misses_nothing(log: OneLog) -> None:
    node = await log.node()
    async with node.subscribe("c") as subscription:
        expected = await fill(node, 150)
        seen = [str((await anext(subscription)).data) for _ in range(10)]
        expected += await fill(node, 200, 150)
        await forgotten(node)
        seen += [str((await anext(subscription)).data) for _ in range(340)]
        expected += await fill(node, 5, 350)
        seen += [str((await anext(subscription)).data) for _ in range(5)]
    assert seen == expected
    assert node.stats()["resumed_from_log"] == 1


async def test_cut_again_and_again_under_load_everybody_sees_everything_once(log: OneLog) -> None:
    node = await log.node()
    channels = [f"load{number}" for number in range(4)]
    clients = [await RawClient(node.port, KEY, ("json", "msgpack")[number % 2]).connect() for number in range(24)]
    for client in clients:
        for channel in channels:
            await client.attach(channel)
    published = 0
    until = asyncio.get_running_loop().time() + 8

    async def publish() -> None:
        nonlocal published
        while asyncio.get_running_loop().time() < until:
            await asyncio.gather(*(node.publish(channel, f"{published}") for channel in channels))
            published += 1
            await asyncio.sleep(0.005)

    async def come_and_go(client: RawClient, number: int) -> None:
        chosen = random.Random(number)
        while asyncio.get_running_loop().time() < until:
            await asyncio.sleep(chosen.uniform(0.1, 1.5))
            client.cut()
            await client.close()
            await asyncio.sleep(chosen.choice((0, 0.1, 1.2, 2.5)))  # within memory, and beyond it
            await client.connect()

    await asyncio.gather(publish(), *(come_and_go(client, number) for number, client in enumerate(clients)))
    for client in clients:
        for channel in channels:
            await client.until(lambda seen=client, of=channel: len(texts(seen, of)) >= published)  # type: ignore[misc]
            assert texts(client, channel) == [str(number) for number in range(published)]
            assert all(frame["flags"] & RESUMED for frame in client.attached(channel)[1:])
        await client.close()
    assert node.stats()["resumed_from_log"] > 50
    assert node.stats()["replay_bytes"] < 8 << 20


@pytest.mark.kafka
async def test_what_kafka_has_no_more_is_told_and_the_rest_given(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic()
    async with AsyncExitStack() as stack:
        node = await OneLog({"data": tmp_path, "kafka": kafka.bootstrap, "publish_topic": topic}, stack).node()
        position = node.position("c")
        expected = await fill(node, 100)
        await forgotten(node)
        delete_until(kafka, topic, 120)
        client = await came_back(node, position)
        assert told(client) == (False, 90003)
        await client.until(lambda: texts(client)[-1:] == expected[-1:])
        seen = texts(client)
        assert 0 < len(seen) < len(expected)
        assert seen == expected[-len(seen) :]
        await client.close()
        assert node.stats()["resume_gaps"] == 1
        async with node.subscribe("c", since=position) as subscription:
            with pytest.raises(ContinuityLost, match="expired"):
                await anext(subscription)
            assert [str((await anext(subscription)).data) for _ in seen] == seen
