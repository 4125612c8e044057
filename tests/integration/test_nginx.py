"""Behind nginx: what a node writes is there at once, and who is cut by it comes back to what was missed."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from fanout import Config, Server
from fanout.audit.log import EmbeddedLog
from fanout.audit.run import Audit, Plan
from tests.support.nginx import Nginx, nginx_to
from tests.support.stream_client import StreamClient

KEY = "app.key:secret"
TOPIC = "fanout.messages"
PATIENCE_S = 40


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(Config(port=0, key=(KEY,), data=tmp_path / "data", history_mib=4)) as server:
        await server.ready()
        yield server


@pytest.fixture
async def nginx(node: Server, tmp_path: Path) -> AsyncIterator[Nginx]:
    async with nginx_to(tmp_path, [node.port]) as nginx:
        yield nginx


@pytest.mark.parametrize("path", ["/sse", "/event-stream"])
async def test_an_event_is_not_kept_until_there_are_more(node: Server, nginx: Nginx, path: str) -> None:
    async with StreamClient(nginx.port, path, {"channels": "c"}) as client:
        assert client.status == 200
        first = await client.event()
        assert first is not None
        assert first.data is None
        for number in range(3):  # each has come before the next is said
            await node.publish("c", str(number))
            assert [event.json["data"] for event in await client.messages(1)] == [str(number)]


async def test_it_does_not_take_everything_in_the_place_of_a_client_that_does_not_read(
    node: Server, nginx: Nginx, tmp_path: Path
) -> None:
    async with StreamClient(nginx.port, query={"channels": "c"}) as client:
        is_noted = False
        for number in range(2_400):  # more than all buffers on the way hold, and many times what memory does
            await node.publish("c", f"{number} ".ljust(10_000, "x"))
            if not is_noted and node.stats()["short_writes"]:
                is_noted = True
                await asyncio.sleep(1.2)  # until the node notes who takes nothing
        assert not any((tmp_path / "proxy").rglob("*"))
        given = [event.json["data"].split()[0] for event in await client.messages(2_400)]
        assert given == [str(number) for number in range(2_400)], "memory has passed it, and the log has not"
        assert node.stats()["continuity_lost"] == 1


async def test_who_is_cut_by_it_misses_nothing(nginx: Nginx, tmp_path: Path) -> None:
    plan = Plan(
        urls=(nginx.url,),
        key=KEY,
        channels=4,
        subscribers=12,
        attachments=2,
        publishers=2,
        rate=100,
        transports=("sse", "websocket"),
    )
    log = await asyncio.to_thread(EmbeddedLog, tmp_path / "data", TOPIC)
    async with Audit(plan, log, (TOPIC,)) as audit:
        stop = asyncio.Event()
        publishing = asyncio.create_task(audit.publish(stop))
        for _ in range(3):
            await asyncio.sleep(0.5)
            await nginx.stop()
            await nginx.start()
        await asyncio.sleep(0.5)
        stop.set()
        await publishing
        report = await audit.finish(PATIENCE_S)
    log.close()
    assert report.exact, str(report)
    assert (report.gaps, report.covered) == ({}, 0), str(report)
    assert report.clients.connections >= 4 * plan.subscribers
