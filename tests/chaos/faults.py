"""What goes wrong in a chaos run. Each fault is begun and mended by one function, so that none outlives its turn.

Faults of the site come one after another, those of clients all the time beside them.
"""

import asyncio
import random
import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from fanout.audit.run import Audit
from tests.chaos.members import Members
from tests.chaos.site import BROKERS, Site

__all__ = ["CLIENT_FAULTS", "SITE_FAULTS", "Scene", "brokers_down", "rolling_drain"]

TOPIC = "fanout.messages"
LEASE_S = 15.0
QUIET_S = 20.0  # until a lost member would have been said to leave


@dataclass
class Scene:
    """Who is there, and the dice."""

    site: Site
    audit: Audit
    members: Members
    dice: random.Random
    false_leaves: int = 0
    """Members that were said to leave on a clean drain."""

    def some(self, share: float) -> list[int]:
        """Numbers of some subscribers, at least one."""
        count = len(self.audit.subscribers)
        return self.dice.sample(range(count), max(1, round(share * count)))


Fault = Callable[[Scene], Awaitable[None]]


# -- of the site --


async def node_killed(scene: Scene) -> None:
    """SIGKILL of a fanout node, and its restart."""
    node = scene.dice.choice(scene.site.nodes)
    await node.kill()
    await asyncio.sleep(scene.dice.uniform(0, 2))
    await node.start()


async def node_paused(scene: Scene) -> None:
    """A fanout node is frozen for longer than its lease."""
    node = scene.dice.choice(scene.site.nodes)
    node.send_signal(signal.SIGSTOP)
    await asyncio.sleep(LEASE_S + 3)
    node.send_signal(signal.SIGCONT)


async def leader_killed(scene: Scene) -> None:
    """SIGKILL of the broker that leads a partition, and its restart."""
    broker = await scene.site.leader(TOPIC, scene.dice)
    await scene.site.brokers(scene.site.kafka.kill, broker)
    await asyncio.sleep(scene.dice.uniform(2, 5))
    await scene.site.restart_brokers(broker)


async def broker_paused(scene: Scene) -> None:
    """A broker is frozen: its connections stay open and silent."""
    broker = await scene.site.leader(TOPIC, scene.dice)
    await scene.site.brokers(scene.site.kafka.pause, broker)
    await asyncio.sleep(scene.dice.uniform(4, 8))
    await scene.site.brokers(scene.site.kafka.resume, broker)


SITE_FAULTS: tuple[Fault, ...] = (node_killed, leader_killed, broker_paused, node_paused)


async def rolling_drain(scene: Scene) -> None:
    """SIGTERM and restart of each fanout node in turn. Nobody may be said to leave, also not a lease later."""
    before = scene.members.leaves
    for node in scene.site.nodes:
        await node.stop()
        await node.start()
    await asyncio.sleep(QUIET_S)
    scene.false_leaves += scene.members.leaves - before


def brokers_down(seconds: float) -> Fault:
    """SIGKILL of all brokers, and their restart after so many seconds."""

    async def fault(scene: Scene) -> None:
        everyone = range(1, BROKERS + 1)
        await scene.site.brokers(scene.site.kafka.kill, *everyone)
        await asyncio.sleep(seconds)
        await scene.site.restart_brokers(*everyone)

    fault.__name__ = f"brokers_down_{seconds:.0f}s"
    return fault


# -- of clients --


async def sockets_cut(scene: Scene) -> None:
    """Some sockets are reset, publishers' among them."""
    for number in scene.some(0.05):
        scene.audit.subscribers[number].client.cut()
    scene.dice.choice(scene.audit.publishers).client.cut()


async def sockets_half_open(scene: Scene) -> None:
    """Some clients come back while their old sockets stay open and silent."""
    for number in scene.some(0.02):
        scene.audit.subscribers[number].client.abandon()
    scene.dice.choice(scene.audit.publishers).client.abandon()


async def readers_slow(scene: Scene) -> None:
    """Some clients stop reading for a while."""
    chosen = [scene.audit.subscribers[number].client for number in scene.some(0.02)]
    for client in chosen:
        client.pause()
    await asyncio.sleep(scene.dice.uniform(2, 8))
    for client in chosen:
        client.resume()


async def clients_away(scene: Scene) -> None:
    """Some clients are away for longer than the nodes remember."""
    chosen = [scene.audit.subscribers[number].client for number in scene.some(0.02)]
    for client in chosen:
        client.leave()
    await asyncio.sleep(scene.dice.uniform(10, 30))
    for client in chosen:
        client.come_back()


CLIENT_FAULTS: tuple[Fault, ...] = (sockets_cut, sockets_half_open, readers_slow, clients_away)
