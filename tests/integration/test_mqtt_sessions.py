"""What outlives an MQTT client's connection, and the node that it was on."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest

from fanout import Config, Server
from fanout.presence.leases import LEASE_S, SPREAD_S
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.mqtt_client import (
    ACK,
    CONNACK,
    DISCONNECT,
    PINGRESP,
    PUBCOMP,
    PUBLISH,
    PUBREC,
    SUBACK,
    UNSUBACK,
    Raw,
    RawMqtt,
    connect_packet,
    mqtt_client,
    packet,
    subscribe_packet,
    text,
)  # fmt: skip
from tests.support.node import NodeProcess, free_port, node_process

KEY = "app.key:secret"
SECRET = "0123456789abcdef"
DUP, RETAIN = 8, 1
KEPT = b"\x11\0\0\x0e\x10"  # session expiry interval: an hour
GONE_S = LEASE_S + SPREAD_S + 30  # the lease, and a machine that is busy


def config(data: Path, **options: object) -> Config:
    return Config(port=0, mqtt_port=0, key=(KEY,), secret=SECRET, data=data, **options)  # type: ignore[arg-type]


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(config(tmp_path)) as server:
        await server.ready()
        yield server


@asynccontextmanager
async def connected(
    node: Server | int,
    name: str = "me",
    *,
    version: int = 5,
    present: bool = False,
    clean: bool = False,
    window: int | None = None,
) -> AsyncIterator[RawMqtt]:
    """A client with a session that is kept, which CONNACK says is `present` or not; it takes `window` messages."""
    port = node if isinstance(node, int) else node.mqtt_port
    assert port is not None
    async with mqtt_client(port, version) as client:
        said = KEPT if version == 5 else b""
        if window is not None:
            said += b"\x21" + window.to_bytes(2)
        greeting = await client.connect(name, key=KEY, clean=clean, said=said)
        assert greeting.body[:2] == bytes([present, 0])
        yield client


def acknowledge(client: RawMqtt, *given: Raw) -> None:
    for one in given:
        packet_id = one.publish(client.version)[2]
        assert packet_id
        client.send(packet(0x40, packet_id.to_bytes(2)))


async def given(client: RawMqtt, count: int) -> list[Raw]:
    return [await client.expect(PUBLISH) for _ in range(count)]


def payloads(client: RawMqtt, packets: list[Raw]) -> list[tuple[bytes, int]]:
    """What was given, and whether DUP is set."""
    return [(one.publish(client.version)[1], one.flags & DUP) for one in packets]


async def publish(node: Server, channel: str, *texts: str) -> None:
    for one in texts:
        await node.publish(channel, one)


async def retain(node: Server, *texts: bytes) -> None:
    """These are the retained messages of `r/0`, `r/1` and so on."""
    async with connected(node, "publisher", clean=True) as publisher:
        for number, one in enumerate(texts):
            await publisher.publish(f"r/{number}", one, qos=1, packet_id=1, retain=True)
            await publisher.expect(ACK)


async def forgets(node: Server) -> None:
    """Returns once the node's memory, which holds a second, does not have what was published before."""
    for _ in range(4):
        await asyncio.sleep(0.6)
        await publish(node, "other", "makes memory forget")


async def heard(client: RawMqtt) -> None:
    """Returns once the node has heard all that was said."""
    client.send(b"\xc0\x00")
    await client.expect(PINGRESP)


async def leave(client: RawMqtt) -> None:
    """The client says that it goes; returns once nothing more is sent to it."""
    client.send(b"\xe0\x00")
    assert await client.closed()


async def test_what_is_yet_to_be_read_from_the_log_under_wildcards_is_not_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Server(config(tmp_path, history="1s")) as node:
        await node.ready()
        assert node.mqtt_port is not None
        async with connected(node) as client:
            await client.subscribe(("w/#", 1))
            await leave(client)
        await publish(node, "w/new", "1", "2")
        await forgets(node)
        with monkeypatch.context() as busy:
            busy.setattr("fanout.replay.service.WAITING_MAX", 0)
            async with connected(node, present=True) as client:
                await heard(client)  # and it is given nothing yet
                await leave(client)
        async with connected(node, present=True) as client:
            assert payloads(client, await given(client, 2)) == [(b"1", 0), (b"2", 0)]


async def test_what_may_have_been_given_is_marked_over_several_connections(node: Server) -> None:
    async with connected(node) as client:
        await client.subscribe(("a", 1))
        await publish(node, "a", "1", "2", "3")
        await given(client, 3)
        await leave(client)
    async with connected(node, present=True, window=1) as client:
        acknowledge(client, *(again := await given(client, 1)))
        assert payloads(client, again) == [(b"1", DUP)]
        await given(client, 1)
        await leave(client)  # it was given less than the first time
    async with connected(node, present=True) as client:
        await publish(node, "a", "4")
        assert payloads(client, await given(client, 3)) == [(b"2", DUP), (b"3", DUP), (b"4", 0)]


async def test_a_log_that_has_no_time_is_not_the_end_of_a_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Server(config(tmp_path)) as node:
        await node.ready()
        async with connected(node) as client:
            await client.subscribe(("a", 1))
            await leave(client)
        for number in range(3):
            await publish(node, "a", str(number))
    async with Server(config(tmp_path, history="1s")) as node:
        await node.ready()
        assert node.mqtt_port is not None
        await forgets(node)
        with monkeypatch.context() as busy:
            busy.setattr("fanout.replay.service.WAITING_MAX", 0)
            async with connected(node, present=True) as client:
                await heard(client)  # and it is given nothing yet
                await leave(client)
        async with connected(node, present=True) as client:
            assert payloads(client, await given(client, 3)) == [(b"0", 0), (b"1", 0), (b"2", 0)]


@pytest.mark.parametrize("version", [4, 5])
async def test_a_client_goes_on_behind_what_it_acknowledged(node: Server, version: int) -> None:
    async with connected(node, version=version) as client:
        assert await client.subscribe(("a", 1), ("b", 0)) == (1, 0)
        await publish(node, "a", "1", "2", "3")
        first = await given(client, 3)
        assert payloads(client, first) == [(b"1", 0), (b"2", 0), (b"3", 0)]
        acknowledge(client, first[0])
        await leave(client)
    await publish(node, "a", "4")
    await publish(node, "b", "x")
    async with connected(node, version=version, present=True) as client:
        again = {one.publish(version)[1]: one for one in await given(client, 4)}
        assert [one for one in again if one != b"x"] == [b"2", b"3", b"4"]
        assert [again[one].flags & DUP for one in (b"2", b"3", b"4", b"x")] == [DUP, DUP, 0, 0]
        acknowledge(client, again[b"2"], again[b"3"], again[b"4"])
        await publish(node, "a", "5")
        acknowledge(client, *(last := await given(client, 1)))
        assert payloads(client, last) == [(b"5", 0)]
        await heard(client)
    async with connected(node, version=version, present=True) as client:
        await publish(node, "a", "6")
        assert payloads(client, await given(client, 1)) == [(b"6", 0)]


async def test_a_session_and_a_retained_message_outlive_the_node(tmp_path: Path) -> None:
    async with Server(config(tmp_path)) as node:
        await node.ready()
        async with connected(node) as client:
            await client.subscribe(("a", 1), ("w/+", 1))
            await client.publish("kept", b"retained", qos=1, packet_id=1, retain=True)
            await client.expect(ACK)
    async with Server(config(tmp_path)) as node:
        await node.ready()
        await publish(node, "a", "while away")
        await publish(node, "w/new", "born while away")
        async with connected(node, present=True) as client:
            packets = [one.publish(5)[:2] for one in await given(client, 2)]
            assert sorted(packets) == [("a", b"while away"), ("w/new", b"born while away")]
            await client.subscribe(("kept", 0))
            (kept,) = await given(client, 1)
            assert (kept.publish(5)[1], kept.flags & RETAIN) == (b"retained", RETAIN)


async def test_who_connects_again_takes_its_session_over(node: Server) -> None:
    async with connected(node) as old:
        await old.subscribe(("a", 1))
        await publish(node, "a", "1", "2")
        acknowledge(old, (await given(old, 2))[0])
        await heard(old)
        async with connected(node, present=True) as new:
            assert (await old.expect(DISCONNECT)).body[0] == 0x8E
            assert payloads(new, await given(new, 1)) == [(b"2", DUP)]


async def test_a_clean_start_and_an_unsubscribe_forget(node: Server) -> None:
    async with connected(node) as client:
        await client.subscribe(("a", 1), ("b", 1))
        client.send(packet(0xA2, b"\0\x05\0", text("a")))
        await client.expect(UNSUBACK)
        await leave(client)
    await publish(node, "a", "not wanted")
    await publish(node, "b", "wanted")
    async with connected(node, present=True) as client:
        assert payloads(client, await given(client, 1)) == [(b"wanted", 0)]
    async with connected(node, clean=True) as client:
        await heard(client)
    async with connected(node, present=True) as client:
        await publish(node, "b", "not wanted any more")
        await heard(client)


async def test_wildcards_are_given_every_channel_that_there_is_and_comes(node: Server) -> None:
    await publish(node, "w/old", "before")
    async with connected(node) as client:
        await client.subscribe(("w/#", 1), ("+", 0))
        await publish(node, "w/old", "1")
        await publish(node, "w/new/deep", "2")
        await publish(node, "flat", "3")
        await publish(node, "other/deep", "not wanted")
        await publish(node, "w/new/deep", "4")
        packets = {one.publish(5)[:2]: one for one in await given(client, 4)}
        assert set(packets) == {("w/old", b"1"), ("w/new/deep", b"2"), ("flat", b"3"), ("w/new/deep", b"4")}
        acknowledge(client, packets["w/old", b"1"], packets["w/new/deep", b"2"])
        await leave(client)
    await publish(node, "w/new/deep", "5")
    await publish(node, "w/while/away", "6")
    async with connected(node, present=True) as client:
        packets = {one.publish(5)[:2]: one for one in await given(client, 3)}
        assert {key: one.flags & DUP for key, one in packets.items()} == {
            ("w/new/deep", b"4"): DUP,
            ("w/new/deep", b"5"): 0,
            ("w/while/away", b"6"): 0,
        }


async def test_channels_that_began_before_memory_are_found_in_the_log(tmp_path: Path) -> None:
    async with Server(config(tmp_path)) as node:
        await node.ready()
        async with connected(node) as client:
            await client.subscribe(("w/+", 1))
            await leave(client)
        for number in range(20):
            await publish(node, f"w/{number:02}", "while away")
    async with Server(config(tmp_path, history="1s")) as node:
        await node.ready()
        await forgets(node)
        async with connected(node, present=True) as client:
            packets = await given(client, 20)
            assert sorted(one.publish(5)[0] for one in packets) == [f"w/{number:02}" for number in range(20)]


async def test_wildcards_stand_for_more_channels_than_can_be_named(node: Server) -> None:
    channels = [f"w/{number:03}" for number in range(300)]
    await asyncio.gather(*(node.publish(channel, "before") for channel in channels[:150]))
    async with connected(node) as client:
        await client.subscribe(("w/+", 0))
        await asyncio.gather(*(node.publish(channel, "x") for channel in channels))
        assert sorted(one.publish(5)[0] for one in await given(client, 300)) == channels


async def test_the_last_retained_message_is_given_to_who_subscribes(node: Server) -> None:
    async with connected(node) as client:
        await client.subscribe(("r/3", 0))
        for number, (topic, payload) in enumerate([("r/1", b"old"), ("r/1", b"new"), ("r/2", b"x"), ("r/2", b"")], 1):
            await client.publish(topic, payload, qos=1, packet_id=number, retain=True)
            await client.expect(ACK)
        await client.publish("r/3", b"not retained", qos=1, packet_id=9)
        # What the log has the node need not have read yet: that would be new to who subscribes.
        assert {one.kind for one in [await client.receive(), await client.receive()] if one} == {ACK, PUBLISH}
        await client.subscribe(("r/#", 1))
        (kept,) = await given(client, 1)
        assert (kept.publish(5)[:2], kept.flags & RETAIN) == (("r/1", b"new"), RETAIN)
        acknowledge(client, kept)
        await client.publish("r/1", b"live", qos=0, retain=True)
        (live,) = await given(client, 1)
        assert (live.publish(5)[1], live.flags & RETAIN) == (b"live", 0)


async def test_a_retained_message_is_kept_though_its_publisher_has_left(node: Server) -> None:
    for qos in (0, 1):
        async with connected(node, "publisher", clean=True) as client:
            await client.publish(f"r/{qos}", b"x", qos=qos, packet_id=1, retain=True)
            client.send(b"\xe0\x00")
            while await client.receive() is not None:  # perhaps PUBACK
                pass
    async with connected(node) as client:
        await publish(node, "r/1", "behind what is retained")
        await client.subscribe(("r/+", 0))
        assert sorted(one.publish(5)[0] for one in await given(client, 2)) == ["r/0", "r/1"]


async def test_retained_messages_wait_until_the_client_takes_more_and_what_is_published_behind_them(
    node: Server,
) -> None:
    texts = [b"%d" % number for number in range(5)]
    await retain(node, *texts)
    async with connected(node, window=2) as client:
        for _ in range(2):
            assert await client.subscribe(("r/+", 1), ("live", 1)) == (1, 1)
            await publish(node, "live", "later")
            got = []
            for _ in texts:
                one = await client.expect(PUBLISH)
                assert one.flags == RETAIN | 2
                got.append(one.publish(5)[1])
                acknowledge(client, one)
            assert sorted(got) == texts
            later = await client.expect(PUBLISH)
            assert later.publish(5)[1] == b"later"
            acknowledge(client, later)


async def test_a_retained_message_that_is_too_large_for_the_client_is_left_out(node: Server) -> None:
    await retain(node, b"x", b"x" * 100, b"y")
    assert node.mqtt_port is not None
    async with mqtt_client(node.mqtt_port, 5) as client:
        await client.connect("me", key=KEY, said=b"\x27\0\0\0\x40")
        await client.subscribe(("r/+", 1), ("live", 0))
        await publish(node, "live", "end")
        assert sorted([(await client.message())[1] for _ in range(2)]) == [b"x", b"y"]
        assert (await client.message())[1] == b"end"


async def test_what_is_retained_is_not_given_any_more_to_who_has_unsubscribed(node: Server) -> None:
    await retain(node, *[b"x"] * 3)
    async with connected(node, window=1) as client:
        await client.subscribe(("r/+", 1), ("live", 1))
        (first,) = await given(client, 1)
        client.send(packet(0xA2, b"\0\x05\0", text("r/+")))
        await client.expect(UNSUBACK)
        acknowledge(client, first)
        await publish(node, "live", "later")
        assert payloads(client, await given(client, 1)) == [(b"later", 0)]


async def test_a_filter_that_stands_twice_in_one_subscribe_is_subscribed_to_once(node: Server) -> None:
    async with connected(node) as client:
        assert await client.subscribe(("t", 1), ("t", 0), ("u", 0)) == (1, 0, 0)
        await publish(node, "t", "once")
        await publish(node, "u", "end")
        assert payloads(client, await given(client, 2)) == [(b"once", 0), (b"end", 0)]


async def test_retained_messages_that_are_too_many_use_no_identifiers(node: Server) -> None:
    await retain(node, *[b"x" * 60_000] * 10)
    async with connected(node) as client:
        for _ in range(8):  # each would use eight of the 64
            assert await client.subscribe(("r/#", 1)) == (0x97,)
        await client.subscribe(("a", 1))
        await publish(node, "a", "given")
        assert payloads(client, await given(client, 1)) == [(b"given", 0)]


async def test_what_was_subscribed_goes_on_if_a_newer_subscription_is_refused(node: Server) -> None:
    await retain(node, *[b"x" * 60_000] * 10)
    no_retained = 0x20
    async with connected(node) as client:
        assert await client.subscribe(("r/#", 1 | no_retained)) == (1,)
        assert await client.subscribe(("r/#", 0)) == (0x97,)
        await publish(node, "r/1", "still with QoS 1")
        (one,) = await given(client, 1)
        assert payloads(client, [one]) == [(b"still with QoS 1", 0)]
        acknowledge(client, one)
        client.send(b"\xe0\x00")
        assert await client.closed()
    await publish(node, "r/2", "meanwhile")
    async with connected(node, present=True) as client:
        assert payloads(client, await given(client, 1)) == [(b"meanwhile", 0)]


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize("qos", [0, 1])
async def test_what_is_subscribed_again_goes_on_as_if_it_were_not(node: Server, version: int, qos: int) -> None:
    async with connected(node, "publisher", clean=True) as publisher, connected(node, version=version) as client:
        await client.subscribe(("t", qos))
        got: list[bytes] = []
        for number in range(40):
            await publisher.publish("t", b"%d" % number, qos=1, packet_id=number + 1)
            client.send(subscribe_packet(version, 1, ("t", qos)))
        answers = 0
        while len(got) < 40 or answers < 40:
            one = await client.receive()
            assert one is not None
            if one.kind == SUBACK:
                answers += 1
                continue
            got.append(one.publish(version)[1])
            assert not one.flags & DUP
            if qos and len(got) % 3 == 0:  # some stay unacknowledged for a while: they are not given again either
                acknowledge(client, one)
        await heard(client)
        assert got == [b"%d" % number for number in range(40)]


async def test_a_subscription_that_changes_loses_nothing_and_marks_what_comes_again(node: Server) -> None:
    async with connected(node) as client:
        await client.subscribe(("t", 1))
        await publish(node, "t", "1", "2")
        first, second = await given(client, 2)
        acknowledge(client, first)
        await heard(client)
        client.send(subscribe_packet(5, 1, ("t", 1), said=b"\x0b\x07"))
        await client.expect(SUBACK)
        await publish(node, "t", "3")
        assert payloads(client, await given(client, 2)) == [(b"2", DUP), (b"3", 0)]
        acknowledge(client, second)


@pytest.mark.parametrize("version", [4, 5])
async def test_of_clients_that_come_at_once_with_one_name_one_is_let_in_and_all_are_told(
    node: Server, version: int
) -> None:
    said = connect_packet(version, "me", key=KEY, clean=False, said=KEPT if version == 5 else b"")
    for _ in range(5):
        async with AsyncExitStack() as stack:
            port = node.mqtt_port
            assert port is not None
            clients = [await stack.enter_async_context(mqtt_client(port, version)) for _ in range(4)]
            for client in clients:
                client.send(said)
            greetings = [await client.expect(CONNACK) for client in clients]
            for client in clients:
                client.send(b"\xc0\x00")
            ends = []
            for client, greeting in zip(clients, greetings, strict=True):
                told = greeting if greeting.body[1] == 0 else None
                while told is not None and told.kind != PINGRESP:
                    told = await client.receive()
                ends.append(told is not None)
                assert told is not None or await client.closed()
            assert sorted(ends) == [False, False, False, True]


async def test_qos_2_is_exactly_once_over_connections(node: Server) -> None:
    async with connected(node, "watcher") as watcher:
        await watcher.subscribe(("q", 0))
        async with connected(node) as client:
            await client.publish("q", b"1", qos=2, packet_id=5)
            await client.expect(PUBREC)
        async with connected(node, present=True) as client:
            await client.publish("q", b"1", qos=2, packet_id=5, dup=True)
            await client.expect(PUBREC)
            client.send(b"\x62\x02\0\x05")
            await client.expect(PUBCOMP)
            await client.publish("q", b"1", qos=2, packet_id=5)
            await client.expect(PUBREC)
        async with connected(node, present=True) as client:
            client.send(b"\x62\x02\0\x05")
            await client.expect(PUBCOMP)
            await client.publish("q", b"end")
        assert payloads(watcher, await given(watcher, 3)) == [(b"1", 0), (b"1", 0), (b"end", 0)]


@asynccontextmanager
async def two_nodes(kafka: Kafka, topic: str, directory: Path) -> AsyncIterator[list[tuple[NodeProcess, int]]]:
    """Processes over one Kafka, and the ports where they speak MQTT."""
    async with AsyncExitStack() as stack:
        started = []
        for name in "ab":
            (directory / name).mkdir()
            port = free_port()
            options = (
                "--kafka",
                kafka.bootstrap,
                "--publish-topic",
                topic,
                "--secret",
                SECRET,
                "--mqtt-port",
                f"{port}",
            )
            process = await stack.enter_async_context(node_process(directory / name, *options, keys=(KEY,)))
            started.append((process, port))
        yield started


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_a_session_goes_on_when_its_node_is_killed(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    me, watcher, will = (f"{name}-{uuid.uuid4().hex}" for name in ("me", "watcher", "will"))
    async with (
        two_nodes(kafka, kafka_topic(3), tmp_path) as ((first, port), (_, other)),
        connected(other, watcher) as watching,
    ):
        await watching.subscribe((will, 1))
        async with connected(port, me) as client:
            await client.subscribe(("a", 1))
        async with mqtt_client(port) as lost, connected(port, me, present=True) as client:
            assert (await lost.connect(f"{me}-lost", key=KEY, will=(will, b"gone"))).body[1] == 0
            for number in range(4):
                await client.publish("a", b"%d" % number, qos=1, packet_id=number + 1)
            packets = [await client.receive() for _ in range(8)]
            ours = [one for one in packets if one is not None and one.kind == PUBLISH]
            assert [one.publish(5)[1] for one in ours] == [b"0", b"1", b"2", b"3"]
            acknowledge(client, *ours[:2])
            await asyncio.sleep(2.5)  # written about once a second
            acknowledge(client, ours[2])
            await heard(client)
            await first.kill()
        async with connected(other, me, present=True) as client:
            # What was acknowledged since the session was written may come again, and says so.
            again = await given(client, 1)
            if again[0].publish(5)[1] == b"2":
                again += await given(client, 1)
            assert payloads(client, again)[-2:] in ([(b"2", DUP), (b"3", DUP)], [(b"3", DUP)])
            await client.publish("a", b"4")
            (live,) = await given(client, 1)
            assert payloads(client, [live]) == [(b"4", 0)]
        told = None
        async with asyncio.timeout(GONE_S):
            while told is None:
                with contextlib.suppress(TimeoutError):  # a client waits for a while only
                    told = await watching.receive()
        assert told.publish(5)[:2] == (will, b"gone")


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_a_session_is_taken_over_by_another_node(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    me = f"me-{uuid.uuid4().hex}"
    async with two_nodes(kafka, kafka_topic(3), tmp_path) as ((_, port), (_, other)):
        ports, number = [port, other], 0
        async with connected(port, me) as client:
            await client.subscribe(("a", 1))
        for cut in range(10):
            async with connected(ports[cut % 2], me, present=True) as client:
                if number:
                    again = await given(client, 1)
                    assert payloads(client, again) == [(b"%d" % number, DUP)]
                    acknowledge(client, *again)
                for _ in range(3):
                    number += 1
                    await client.publish("a", b"%d" % number, qos=1, packet_id=number)
                    pair = [await client.receive(), await client.receive()]
                    (ours,) = [one for one in pair if one is not None and one.kind == PUBLISH]
                    assert ours.publish(5)[1] == b"%d" % number
                    if number % 3:  # the last one of each stay is not acknowledged
                        acknowledge(client, ours)
                await heard(client)
                if cut % 4 == 1:  # it comes to the other node before this one knows that it is gone
                    async with connected(ports[(cut + 1) % 2], me, present=True) as next_one:
                        assert (await client.expect(DISCONNECT)).body[0] == 0x8E
                        assert payloads(next_one, await given(next_one, 1)) == [(b"%d" % number, DUP)]
