"""What SDKs that can change and annotate messages are promised: mixed into `SdkPromises`, whose fixtures it takes."""

import asyncio
from typing import Any

from tests.support.agents import Agent, AgentHost
from tests.support.node import KEY, NodeProcess

__all__ = ["ChangePromises"]

LIKE = {"type": "reaction:distinct.v1", "name": "like"}


async def seen(agent: Agent, room: str, count: int) -> list[tuple[str, str]]:
    """Action and data of the first `count` messages that come, all about the same one."""
    await agent.await_count(room, count)
    messages = await agent.received(room)
    assert len({message["serial"] for message in messages}) == 1
    return [(message["action"], message["data"]) for message in messages]


async def told(agent: Agent, room: str, total: int) -> dict[str, Any]:
    """The summary of the newest message, once it counts so many."""
    await agent.await_count(room, 2)
    for _ in range(400):
        summary: dict[str, Any] = (await agent.received(room))[-1]["annotations"]["summary"]
        if sum(one["total"] for names in summary.values() for one in names.values()) == total:
            return summary
        await asyncio.sleep(0.01)
    raise TimeoutError(f"no summary counts {total}: {summary}")


class ChangePromises:
    """Collected only as a base of a class that is a `SdkPromises` too."""

    async def test_changes_reach_others_and_history_has_the_newest(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        room = f"mutable:{room}"
        alice = await host.connect(node.url, KEY, wire, clientId="alice")
        bob = await (await host.connect(node.url, KEY, wire)).attach(room)
        whole = await (await host.connect(node.url, KEY, wire)).attach(room, appendMode="full")
        (serial,) = await alice.publish(room, "one")
        versions = [serial]
        for how, data in (("update", "two"), ("append", "+a"), ("append", "+b")):
            versions.append(await alice.ask("change", channel=room, how=how, serial=serial, data=data))
        assert sorted(set(versions)) == versions
        begin = [("message.create", "one"), ("message.update", "two")]
        assert await seen(bob, room, 4) == [*begin, ("message.append", "+a"), ("message.append", "+b")]
        assert await seen(whole, room, 4) == [*begin, ("message.update", "two+a"), ("message.update", "two+a+b")]
        assert await bob.history(room) == [["two+a+b"]]
        late = await (await host.connect(node.url, KEY, wire)).attach(room, rewind=1)
        await alice.ask("change", channel=room, how="delete", serial=serial)
        assert await seen(late, room, 2) == [("message.update", "two+a+b"), ("message.delete", "two+a+b")]

    async def test_annotations_are_summed_up_for_everybody(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        room = f"mutable:{room}"
        watcher = await (await host.connect(node.url, KEY, wire)).attach(room)
        (serial,) = await watcher.publish(room, "one")
        alice, bob = [await host.connect(node.url, KEY, wire, clientId=name) for name in ("alice", "bob")]
        for client in (alice, bob):
            await client.ask("annotate", channel=room, how="publish", serial=serial, annotation=LIKE)
        both = {"total": 2, "clientIds": ["alice", "bob"], "clipped": False}
        assert await told(watcher, room, 2) == {LIKE["type"]: {"like": both}}
        await alice.ask("annotate", channel=room, how="delete", serial=serial, annotation=LIKE)
        assert await told(watcher, room, 1) == {LIKE["type"]: {"like": both | {"total": 1, "clientIds": ["bob"]}}}
        assert await watcher.ask("annotations", channel=room, serial=serial) == [
            ["annotation.create", LIKE["type"], "like", "alice"],
            ["annotation.create", LIKE["type"], "like", "bob"],
            ["annotation.delete", LIKE["type"], "like", "alice"],
        ]
