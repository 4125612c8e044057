"""Presence: the complete set of a large channel for who comes new, a join that many see, and what a join costs.

Against a node as users run it, on the embedded log, in a process of its own: from the member's frame to the log, and
from there to the subscribers. Clients are Python and on the other core; with fewer cores they share the node's.
"""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import pytest

from benchmarks.conftest import FULL, Record
from benchmarks.harness import SERVER_CORE, Program, wait_until
from fanout.session.limits import Limits
from fanout.wire import Flag
from tests.support.node import KEY, free_port
from tests.support.presence_client import PresenceClient

MEMBERS = 20_000 if FULL else 300
SETS = (1_000, 5_000, 20_000) if FULL else (50, 100, 200)
SUBSCRIBERS = 1_000 if FULL else 20
JOINS = 1_000 if FULL else 20  # counted; one after another
SEEN = 30 if FULL else 3  # joins that all subscribers wait for, each in turn
NEWCOMERS = 5 if FULL else 2
AT_ONCE = 500  # members that enter in one frame
ROOM = "room"


@contextmanager
def server(directory: Path) -> Iterator[tuple[Program, int]]:
    """A node, and its port."""
    port = free_port()
    options = ("--port", str(port), "--key", KEY, "--data", str(directory), "--presence-members", "100000")
    with Program(sys.executable, "-m", "fanout", "serve", *options, core=SERVER_CORE) as program:
        wait_until(lambda: _is_ready(port), "the node")
        yield program, port


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
    except httpx.TransportError:
        return False


@asynccontextmanager
async def clients(port: int, count: int, flags: int) -> AsyncIterator[list[PresenceClient]]:
    """So many, attached with these modes."""
    made: list[PresenceClient] = []
    try:
        while len(made) < count:
            some = [PresenceClient(port, KEY) for _ in range(min(50, count - len(made)))]
            await asyncio.gather(*(client.connect() for client in some))
            await asyncio.gather(*(client.attach(ROOM, flags=flags) for client in some))
            made += some
        yield made
    finally:
        for client in made:
            await client.close()


async def fill(client: PresenceClient, first: int, count: int) -> None:
    """Lets members enter, many at a time; returns when the node has them in its set."""
    names = [f"member {number}" for number in range(first, first + count)]
    most = min(AT_ONCE, Limits().messages_per_frame)
    for begin in range(0, count, most):
        await client.enter(ROOM, *names[begin : begin + most], data="here")
    await client.told(count)  # the log has them a moment before the node has read them


def bench_presence__complete_set(benchmark: Any, record: Record, tmp_path: Path) -> None:
    """From ATTACH to the last of the members, for one subscriber after another."""

    async def measure(port: int) -> list[float]:
        async with clients(port, 1, Flag.PRESENCE) as (crowd,):
            await fill(crowd, 0, MEMBERS)
            seconds = []
            for _ in range(NEWCOMERS):
                newcomer = PresenceClient(port, KEY)
                await newcomer.connect()
                begun = time.perf_counter()
                await newcomer.attach(ROOM)
                await newcomer.in_sync()
                seconds.append(time.perf_counter() - begun)
                assert len(newcomer.members) == MEMBERS
                await newcomer.close()
            return seconds

    with server(tmp_path) as (_, port):
        seconds = benchmark.pedantic(lambda: asyncio.run(measure(port)), rounds=1)
    record(members=MEMBERS, seconds=median(seconds), slowest_seconds=max(seconds))


def bench_presence__join_reaches_all(benchmark: Any, record: Record, tmp_path: Path) -> None:
    """From a member's PRESENCE frame until every subscriber has it; each join waits for the one before."""

    async def measure(port: int, program: Program) -> tuple[list[float], float]:
        async with (
            clients(port, 1, Flag.PRESENCE) as (crowd,),
            clients(port, SUBSCRIBERS, Flag.PRESENCE_SUBSCRIBE) as watching,
        ):
            seconds, before = [], program.cost()
            for number in range(SEEN):
                begun = time.perf_counter()
                await crowd.enter(ROOM, f"member {number}", data="here")
                for client in watching:
                    await client.told(number + 1)
                seconds.append(time.perf_counter() - begun)
            return seconds, (program.cost() - before).cpu_s / SEEN

    with server(tmp_path) as (program, port):
        seconds, cpu_s = benchmark.pedantic(lambda: asyncio.run(measure(port, program)), rounds=1)
    record(
        subscribers=SUBSCRIBERS,
        joins=SEEN,
        p50_ms=median(seconds) * 1000,
        slowest_ms=max(seconds) * 1000,
        cpu_us_per_join=cpu_s * 1e6,
        cpu_us_per_subscriber=cpu_s / SUBSCRIBERS * 1e6,
    )


@pytest.mark.parametrize("size", SETS)
def bench_presence__cost_of_a_join(benchmark: Any, record: Record, tmp_path: Path, size: int) -> None:
    """CPU time of the node for one more member of a set of this size, which ten subscribers see."""

    async def measure(port: int, program: Program) -> float:
        async with clients(port, 1, Flag.PRESENCE) as (crowd,), clients(port, 10, Flag.PRESENCE_SUBSCRIBE) as watching:
            await fill(crowd, 0, size)
            for client in watching:
                await client.told(size)
            before = program.cost()
            for number in range(JOINS):
                await crowd.enter(ROOM, f"one more {number}", data="here")
            for client in watching:
                await client.told(size + JOINS)
            return (program.cost() - before).cpu_s / JOINS

    with server(tmp_path) as (program, port):
        cpu_s = benchmark.pedantic(lambda: asyncio.run(measure(port, program)), rounds=1)
    record(members=size, joins=JOINS, cpu_us_per_join=cpu_s * 1e6)
