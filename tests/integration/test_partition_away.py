"""The one broker of a partition dies while clients are away: what they come back to on other partitions goes on, their
connections stay, and when the broker is back so does the rest, exactly.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fanout import Config, Server
from tests.support.broker import Kafka, running
from tests.support.mqtt_client import RawMqtt, mqtt_client, packet
from tests.support.sources import eventually
from tests.support.stream_client import StreamClient
from tests.support.wsclient import ATTACH, RESUMED, RawClient

pytestmark = pytest.mark.kafka

KEY = "app.key:secret"
TOPIC = "rooms"
BROKERS = (2, 3)  # of the two partitions; the first one dies
KEPT = b"\x11\0\0\x0e\x10"  # session expiry interval: an hour
MISSED = [str(number) for number in range(5, 50)]


class Site:
    """A node over a topic of two partitions, each on one broker alone, and a producer that is not ours."""

    def __init__(self, cluster: Kafka, node: Server) -> None:
        self.cluster, self.node = cluster, node
        self._producer = Producer({**cluster.client, "partitioner": "murmur2"})
        partitions = node._node.messages.engine.partitions_of
        self.dead, self.live = (
            next(name for name in map("c{}".format, count()) if partitions(name) == [(TOPIC, number)])
            for number in range(2)
        )

    async def write(self, texts: Iterable[str], *channels: str) -> None:
        for text in texts:
            for channel in channels or (self.dead, self.live):
                self._producer.produce(TOPIC, text, channel)
        assert await asyncio.to_thread(self._producer.flush, 20) == 0

    async def miss(self) -> None:
        """Writes what is missed, waits until memory has forgotten it, and kills the broker."""
        written = self.node.stats()["messages"] + 2 * len(MISSED)
        await self.write(MISSED)

        def is_forgotten() -> bool:
            stats = self.node.stats()
            return bool(stats["messages"] >= written and stats["messages"] == stats["messages_expired"])

        await eventually(is_forgotten, 60)
        await asyncio.to_thread(self.cluster.kill, BROKERS[0])

    async def mend(self) -> None:
        await asyncio.to_thread(self.cluster.restart, BROKERS[0])


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    with running(3) as cluster:
        wanted: Any = NewTopic(
            TOPIC,
            len(BROKERS),
            replica_assignment=[[broker] for broker in BROKERS],
            config={"min.insync.replicas": "1"},
        )
        admin = AdminClient(cluster.client)
        admin.create_topics([wanted])[TOPIC].result(15)
        rules = tmp_path / "rules.toml"
        rules.write_text(f'[[route]]\ntopic = "{TOPIC}"\nchannel = "#{{key}}"\npartitioner = "murmur2"\n')
        config = Config(
            port=0,
            mqtt_port=0,
            key=(KEY,),
            history="1s",
            data=tmp_path,
            kafka=cluster.bootstrap,
            rules=rules,
            publish_topic=TOPIC,
            drain="0s",
        )
        async with Server(config) as node:
            async with asyncio.timeout(60):
                await node.ready()
            yield Site(cluster, node)


def texts(client: RawClient, channel: str) -> list[str]:
    return [message.text for message in client.received.get(channel, ())]


def has(client: RawClient, channel: str, wanted: Sequence[str]) -> bool:
    return texts(client, channel) == list(wanted)


@pytest.mark.timeout(240)
async def test_over_a_websocket_the_other_channel_goes_on_and_no_socket_closes(site: Site) -> None:
    first = [str(number) for number in range(5)]
    client = await RawClient(site.node.port, KEY).connect()
    for channel in (site.dead, site.live):
        await client.attach(channel)
    await site.write(first)
    for channel in (site.dead, site.live):
        await client.until(partial(has, client, channel, first))
    client.cut()
    await client.close()
    await site.miss()
    begun = time.monotonic()
    await client.connect()
    await client.until(partial(has, client, site.live, first + MISSED), 10)
    assert client.attached(site.live)[-1]["flags"] & RESUMED
    assert time.monotonic() - begun < 5
    await asyncio.sleep(8)  # it is asked for several times
    client.send({"action": ATTACH, "channel": site.dead})  # as by an SDK that has lost patience, and its serial
    await asyncio.wait_for(client.publish(site.live, {"data": "after"}), 10)
    await client.until(partial(has, client, site.live, [*first, *MISSED, "after"]))
    assert len(client.attached(site.dead)) == 1
    await site.mend()
    await client.until(partial(has, client, site.dead, first + MISSED), 60)
    await site.write(["after"], site.dead)
    await client.until(partial(has, client, site.dead, [*first, *MISSED, "after"]))
    attached = client.attached(site.dead)
    assert len(attached) == 2
    assert attached[-1]["flags"] & RESUMED
    assert client.connections == 2
    assert not [frame for frame in client.frames if "error" in frame]
    await client.close()


@pytest.mark.timeout(240)
async def test_a_stream_has_the_other_channel_and_the_place_of_the_one_that_waits(site: Site) -> None:
    await site.write(["0"])
    await eventually(lambda: site.node.stats()["messages"] >= 2)
    last = f"{site.node.position(site.dead)},{site.node.position(site.live)}"
    waits = last.split(",")[0]
    await site.miss()
    query = {"channels": f"{site.dead},{site.live}", "enveloped": "false", "lastEvent": last}
    async with StreamClient(site.node.port, query=query) as stream:
        assert stream.status == 200
        events = await stream.messages(10)
        assert stream.last_id.split(",")[0] == waits
        assert [event.data for event in events] == MISSED[:10]
    async with StreamClient(site.node.port, query=query | {"lastEvent": stream.last_id}) as stream:
        events = await stream.messages(len(MISSED) - 10)
        assert [event.data for event in events] == MISSED[10:]
        assert stream.last_id.split(",")[0] == waits
        await site.mend()
        async with asyncio.timeout(60):
            events = [event for _ in MISSED for event in await stream.messages(1)]
        assert [event.data for event in events] == MISSED
        assert stream.last_id.split(",")[0] != waits
        await site.write(["after"], site.dead)
        assert [event.data for event in await stream.messages(1)] == ["after"]


async def given(client: RawMqtt, number: int) -> list[tuple[str, str]]:
    """So many messages, which are acknowledged: topics and payloads."""
    found = []
    for _ in range(number):
        topic, payload, packet_id = await client.message()
        client.send(packet(0x40, packet_id.to_bytes(2)))
        found.append((topic, payload.decode()))
    return found


@pytest.mark.timeout(240)
async def test_an_mqtt_client_has_its_session_and_the_other_channel(site: Site) -> None:
    assert site.node.mqtt_port is not None
    async with mqtt_client(site.node.mqtt_port) as client:
        await client.connect("me", key=KEY, clean=False, said=KEPT)
        assert await client.subscribe((site.dead, 1), (site.live, 1)) == (1, 1)
        await site.write(["0"])
        assert sorted(await given(client, 2)) == sorted([(site.dead, "0"), (site.live, "0")])
        client.send(packet(0xE0))
        assert await client.closed()
    await site.miss()
    async with mqtt_client(site.node.mqtt_port) as client:
        greeting = await client.connect("me", key=KEY, clean=False, said=KEPT)
        assert greeting.body[:2] == b"\x01\0"
        assert await given(client, len(MISSED)) == [(site.live, text) for text in MISSED]
        await site.mend()
        assert await given(client, len(MISSED)) == [(site.dead, text) for text in MISSED]
        await site.write(["after"], site.dead)
        assert await given(client, 1) == [(site.dead, "after")]
