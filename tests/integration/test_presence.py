"""Presence over real sockets and logs: on one node and on two, through deaths and restarts."""

import asyncio
import signal
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fanout import Config, Server
from fanout.presence.leases import LEASE_S, SPREAD_S
from tests.support.broker import Kafka
from tests.support.node import KEY, NodeProcess, node_process
from tests.support.presence_client import ENTER, LEAVE, PRESENT, UPDATE, PresenceClient
from tests.support.wsclient import Refused

AUTH = httpx.BasicAuth(*KEY.split(":"))
SECRET = "one secret for all nodes"
GONE_S = LEASE_S + SPREAD_S + 20  # the lease, and a machine that is busy


async def connected(node: NodeProcess | Server, wire: str = "json", **query: str) -> PresenceClient:
    client = PresenceClient(node.port, KEY, wire, query=query)
    await client.connect()
    return client


async def watching(node: NodeProcess | Server, room: str) -> PresenceClient:
    client = await connected(node)
    await client.attach(room)
    return client


async def listed(node: NodeProcess | Server, room: str, **params: Any) -> list[str]:
    """Who is present, by REST."""
    async with httpx.AsyncClient(auth=AUTH) as http:
        response = await http.get(f"http://127.0.0.1:{node.port}/channels/{room}/presence", params=params)
    return [member["clientId"] for member in response.json()]


@pytest.fixture
def room() -> str:
    return f"room-{uuid.uuid4().hex[:12]}"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(Config(port=0, data=tmp_path, key=(KEY,), presence_members=600)) as server:
        await server.ready()
        yield server


class TestOneNode:
    @pytest.mark.parametrize("wire", ["json", "msgpack"])
    async def test_tells_everybody_and_the_member_itself(self, server: Server, room: str, wire: str) -> None:
        watcher = await watching(server, room)
        member = await connected(server, wire)
        await member.attach(room, flags=1 << 16)
        await member.enter(room, "bob", data="hi")
        await member.say(room, {"action": UPDATE, "clientId": "bob"}, {"action": LEAVE, "clientId": "bob"})
        for client in (watcher, member):
            await client.told(3)
            assert client.events == [(ENTER, "bob"), (UPDATE, "bob"), (LEAVE, "bob")]
        await member.enter(room, "eve")
        await watcher.until(lambda: watcher.names() == ["eve"])
        (eve,) = watcher.members.values()
        assert eve["id"] == f"{member.connection_id}:2:0"
        await watcher.close()
        await member.close()

    async def test_gives_who_comes_later_the_whole_set(self, server: Server, room: str) -> None:
        crowd = await connected(server)
        await crowd.attach(room)
        names = [f"{number:03}" for number in range(600)]
        await crowd.enter(room, *names)
        await crowd.told(600)
        watcher = await watching(server, room)
        await watcher.until(lambda: watcher.synced)
        assert watcher.names() == names
        assert {member["action"] for member in watcher.members.values()} == {PRESENT}
        assert watcher.events == []
        with pytest.raises(Refused) as refused:
            await crowd.enter(room, "one too many")
        assert refused.value.code == 91003
        watcher.synced = False
        watcher.send({"action": 16, "channel": room})
        await watcher.until(lambda: watcher.synced)
        assert [member.client_id async for member in server.presence(room)] == names
        assert await listed(server, room, limit=1_000) == names
        await watcher.close()
        await crowd.close()

    async def test_re_entry_under_the_same_id_is_nobodys_news(self, server: Server, room: str) -> None:
        watcher = await watching(server, room)
        member = await connected(server)
        await member.enter(room, "bob")
        await watcher.told(1)
        before = member.connections
        member.cut()
        await member.until(lambda: member.connections > before and member.is_connected)
        await member.say(room, {"action": ENTER, "clientId": "bob", "id": f"{member.connection_id}:0:0"})
        await member.say(room, {"action": UPDATE, "clientId": "bob"})
        await watcher.told(2)
        assert watcher.events == [(ENTER, "bob"), (UPDATE, "bob")]
        await watcher.close()
        await member.close()

    async def test_lets_go_of_who_does_not_come_back(self, server: Server, room: str) -> None:
        watcher = await watching(server, room)
        lost, closed, detached = [await connected(server, remainPresentFor="500") for _ in range(3)]
        for name, client in (("lost", lost), ("closed", closed), ("detached", detached)):
            await client.enter(room, name, data=name)
        closed.send({"action": 7})
        await watcher.until(lambda: (LEAVE, "closed") in watcher.events)
        detached.send({"action": 12, "channel": room})
        await watcher.until(lambda: (LEAVE, "detached") in watcher.events)
        assert "lost" in watcher.names()
        await lost.close()
        await watcher.until(lambda: (LEAVE, "lost") in watcher.events)
        assert watcher.names() == []
        for client in (watcher, closed, detached):
            await client.close()


async def test_who_does_not_come_back_after_a_restart_leaves_and_who_does_stays(tmp_path: Path, room: str) -> None:
    async with asyncio.TaskGroup() as both:  # at once, since most of it is the wait for a lease to end
        for end in ("kill", "stop"):
            (tmp_path / end).mkdir()
            both.create_task(restarted(tmp_path / end, room, end), name=end)


async def restarted(directory: Path, room: str, end: str) -> None:
    async with node_process(directory) as node:
        alice, bob = await connected(node), await connected(node)
        await alice.enter(room, "alice")
        await bob.enter(room, "bob")
        await (node.kill() if end == "kill" else node.stop())
        await bob.close()
        await node.start()
        await alice.until(lambda: alice.connections == 2 and alice.is_connected)
        watcher = await watching(node, room)
        await watcher.until(lambda: watcher.synced)
        assert watcher.names() == ["alice", "bob"], end
        await alice.say(room, {"action": ENTER, "clientId": "alice", "id": f"{alice.connection_id}:0:0"})
        await watcher.told(1, GONE_S)
        assert watcher.events == [(LEAVE, "bob")], end
        assert await listed(node, room) == ["alice"], end
        await watcher.close()
        await alice.close()


@pytest.mark.kafka
class TestTwoNodes:
    @pytest.fixture
    async def nodes(self, kafka: Kafka, tmp_path: Path) -> AsyncIterator[tuple[NodeProcess, NodeProcess]]:
        options = ("--kafka", kafka.bootstrap, "--secret", SECRET)
        async with node_process(tmp_path / "a", *options) as a, node_process(tmp_path / "b", *options) as b:
            yield a, b

    @pytest.fixture(autouse=True)
    def folders(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            (tmp_path / name).mkdir()

    async def test_tell_of_each_others_members_and_let_go_of_a_dead_ones(
        self, nodes: tuple[NodeProcess, NodeProcess], room: str
    ) -> None:
        a, b = nodes
        watchers = [await watching(node, room) for node in nodes]
        alice, bob = await connected(a), await connected(a)
        await alice.enter(room, "alice")
        for watcher in watchers:
            await watcher.told(1)  # the two members lie in partitions of their own: there is no order between them
        await bob.enter(room, "bob")
        for watcher in watchers:
            await watcher.told(2)
            assert watcher.events == [(ENTER, "alice"), (ENTER, "bob")]
        assert await listed(a, room) == await listed(b, room)

        alice.move(b.port)
        await watchers[0].close()
        await a.kill()
        await bob.close()
        await alice.until(lambda: alice.connections == 2 and alice.is_connected)
        await alice.say(room, {"action": ENTER, "clientId": "alice", "id": f"{alice.connection_id}:0:0"})
        watcher = watchers[1]
        await watcher.told(3, GONE_S)
        assert watcher.events[2:] == [(LEAVE, "bob")]

        await a.start()
        late = await watching(a, room)
        await late.until(lambda: late.synced)
        assert late.names() == await listed(b, room) == ["alice"]
        assert watcher.events[2:] == [(LEAVE, "bob")], "nothing is told twice"
        for client in (watcher, late, alice):
            await client.close()

    async def test_let_go_of_a_frozen_ones_and_are_not_misled_by_it_when_it_is_back(
        self, nodes: tuple[NodeProcess, NodeProcess], room: str
    ) -> None:
        a, b = nodes
        watcher = await watching(b, room)
        alice, eve = await connected(a, remainPresentFor="500"), await connected(a)
        await alice.enter(room, "alice")
        await watcher.told(1)
        await eve.enter(room, "eve")
        await watcher.told(2)
        a.send_signal(signal.SIGSTOP)
        alice.move(b.port)
        alice.cut()
        await alice.until(lambda: alice.connections == 2 and alice.is_connected)
        await alice.say(room, {"action": ENTER, "clientId": "alice", "id": f"{alice.connection_id}:0:0"})
        await watcher.told(3, GONE_S)
        a.send_signal(signal.SIGCONT)
        await watcher.told(4, GONE_S)
        await asyncio.sleep(3)  # in which the frozen node notices that alice's transport is gone, and her time is up
        assert watcher.events == [(ENTER, "alice"), (ENTER, "eve"), (LEAVE, "eve"), (ENTER, "eve")]
        assert await listed(a, room) == await listed(b, room)
        assert sorted(await listed(b, room)) == ["alice", "eve"]
        for client in (watcher, alice, eve):
            await client.close()

    async def test_hand_over_without_a_leave_when_one_is_stopped(
        self, nodes: tuple[NodeProcess, NodeProcess], room: str
    ) -> None:
        a, b = nodes
        watcher = await watching(b, room)
        alice = await connected(a)
        await alice.enter(room, "alice")
        await watcher.told(1)
        alice.move(b.port)
        assert await a.stop() == 0
        await alice.until(lambda: alice.connections == 2 and alice.is_connected)
        await alice.say(room, {"action": ENTER, "clientId": "alice", "id": f"{alice.connection_id}:0:0"})
        await alice.say(room, {"action": UPDATE, "clientId": "alice"})
        await watcher.told(2)
        assert watcher.events == [(ENTER, "alice"), (UPDATE, "alice")]
        await watcher.close()
        await alice.close()
