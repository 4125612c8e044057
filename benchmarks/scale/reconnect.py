"""Clients of a node that is killed come back to another one: how long, at what cost, and is anything lost?"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from benchmarks.scale.cluster import KEY, Node, Writer
from tests.support.wsclient import RESUMED, RawClient

__all__ = ["Returned", "follow_and_return"]

BACK_S = 90.0
OPENED_AT_ONCE = 64


class Returned(NamedTuple):
    """How the clients of the killed node fared."""

    back_s: list[float]  # each client, from the kill until it is attached again
    cpu_s: float  # of the node that took them, meanwhile
    clients_cpu_s: float  # of this process, likewise
    resumed: int  # clients told that nothing was lost
    complete: int  # clients who were sent every message once and in order


class Follower:
    """A client of one channel that counts what it is sent."""

    def __init__(self, port: int, channel: str) -> None:
        self.client = RawClient(port, KEY, on_message=self._take)
        self.channel = channel
        self.next = 0
        self.wrong = 0

    def _take(self, _: str, message: dict[str, Any]) -> None:
        self.wrong += int(message["data"].split(" ", 1)[0]) != self.next
        self.next += 1

    async def returned(self, killed_s: float) -> float:
        """When it was attached for the second time, in s after the kill."""
        await self.client.until(lambda: len(self.client.attached(self.channel)) > 1, BACK_S)
        return time.perf_counter() - killed_s

    async def has(self, count: int) -> bool:
        """Whether it was sent exactly the first `count` messages, in order."""
        await self.client.until(lambda: self.next >= count, BACK_S)
        return self.next == count and self.wrong == 0


async def follow_and_return(
    doomed: Node, other: Node, writer: Writer, *, channels: int, clients: int, missed: int
) -> Returned:
    """Attaches clients to `doomed`, kills it while records are written, and waits until `other` has served them all.

    `writer` writes to channels `load-N` and has written nothing yet. Every client receives messages before the kill and
    misses `missed` records, of all channels together, between the kill and its return.
    """
    followers = [Follower(doomed.port, f"load-{number % channels}") for number in range(clients)]
    gate = asyncio.Semaphore(OPENED_AT_ONCE)

    async def attach(follower: Follower) -> None:
        async with gate:
            await follower.client.connect()
            await follower.client.attach(follower.channel)

    try:
        await asyncio.gather(*map(attach, followers))
        await asyncio.to_thread(writer.write, missed)
        await _have_all(followers, writer.written // channels)

        for follower in followers:
            follower.client.move(other.port)
        before, own_before = other.cost(), time.process_time()
        killed_s = time.perf_counter()
        doomed.kill()
        writing = asyncio.create_task(asyncio.to_thread(writer.write, missed))
        back_s = await asyncio.gather(*(follower.returned(killed_s) for follower in followers))
        cpu_s, own_cpu_s = (other.cost() - before).cpu_s, time.process_time() - own_before
        await writing
        complete = await _have_all(followers, writer.written // channels)
    finally:
        await asyncio.gather(*(follower.client.close() for follower in followers))
    flags = (follower.client.attached(follower.channel)[-1].get("flags", 0) for follower in followers)
    return Returned(back_s, cpu_s, own_cpu_s, sum(bool(flag & RESUMED) for flag in flags), complete)


async def _have_all(followers: Sequence[Follower], count: int) -> int:
    return sum(await asyncio.gather(*(follower.has(count) for follower in followers)))
