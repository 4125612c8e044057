"""What every published SDK is promised of presence: mixed into `SdkPromises`, whose fixtures it takes."""

import asyncio

from tests.support.agents import Agent, AgentHost
from tests.support.node import KEY, NodeProcess
from tests.support.proxy import Proxy

__all__ = ["PresencePromises"]

MANY = 250


class PresencePromises:
    """Collected only as a base of a class that is a `SdkPromises` too."""

    async def test_who_enters_updates_and_leaves_is_seen_on_both_sides(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        watcher = await host.connect(node.url, KEY, wire)
        await watcher.watch_presence(room)
        alice = await host.connect(node.url, KEY, wire, clientId="alice")
        await alice.watch_presence(room)
        await alice.present(room, "enter", "hi")
        for agent in (watcher, alice):
            await agent.await_presence(room, 1)
            assert await agent.members(room) == [("alice", "hi")]
        await alice.present(room, "update", "busy")
        await alice.present(room, "leave")
        for agent in (watcher, alice):
            await agent.await_presence(room, 3)
            assert await agent.presence_events(room) == [
                ("enter", "alice", "hi"),
                ("update", "alice", "busy"),
                ("leave", "alice", "busy"),
            ]
            assert await agent.members(room) == []

    async def test_who_comes_later_is_given_everybody(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        # The Python SDK enters for others only where it was told that it may be anybody.
        crowd = await host.connect(node.url, KEY, wire, clientId="*" if host.kind == "python" else None)
        await crowd.watch_presence(room)
        names = [f"member {number:03}" for number in range(MANY)]
        await asyncio.gather(*(crowd.present(room, "enter", "here", who=name) for name in names))
        await crowd.await_presence(room, MANY)
        late = await host.connect(node.url, KEY, wire)
        assert await late.members(room) == [(name, "here") for name in names]

    async def test_who_detaches_or_closes_leaves_at_once(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        watcher = await host.connect(node.url, KEY, wire)
        await watcher.watch_presence(room)
        alice, bob = await self._entered(host, node, wire, room, "alice", "bob")
        await watcher.await_presence(room, 2)
        await alice.detach(room)
        await watcher.await_presence(room, 3)
        await bob.close()
        await watcher.await_presence(room, 4)
        assert (await watcher.presence_events(room))[2:] == [("leave", "alice", ""), ("leave", "bob", "")]
        assert await watcher.members(room) == []

    async def test_a_cut_socket_is_no_reason_to_leave(
        self, node: NodeProcess, proxy: Proxy, host: AgentHost, wire: str, room: str
    ) -> None:
        watcher = await (await host.connect(node.url, KEY, wire)).watch_presence(room)
        (alice,) = await self._entered(host, proxy, wire, room, "alice")
        await watcher.await_presence(room, 1)
        proxy.refuse()
        proxy.cut()
        await alice.await_state("disconnected")
        proxy.accept()
        await alice.await_state("connected")
        await alice.present(room, "update", "back")
        await watcher.await_presence(room, 2)
        assert await watcher.presence_events(room) == [("enter", "alice", ""), ("update", "alice", "back")]
        assert await watcher.members(room) == [("alice", "back")]

    async def test_a_killed_server_is_no_reason_to_leave(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        watcher = await (await host.connect(node.url, KEY, wire)).watch_presence(room)
        (alice,) = await self._entered(host, node, wire, room, "alice")
        await watcher.await_presence(room, 1)
        await node.kill()
        await alice.await_state("disconnected")
        await node.start()
        await alice.await_state("connected")
        await watcher.await_state("connected")
        await alice.present(room, "update", "back")
        await watcher.await_presence(room, 2)
        assert (await watcher.presence_events(room))[1:] == [("update", "alice", "back")]
        assert await watcher.members(room) == [("alice", "back")]

    async def _entered(
        self, host: AgentHost, server: NodeProcess | Proxy, wire: str, room: str, *names: str
    ) -> list[Agent]:
        """Clients of these names, present."""
        entered = []
        for name in names:
            agent = await host.connect(server.url, KEY, wire, clientId=name)
            await agent.present(room, "enter")
            entered.append(agent)
        return entered
