"""A broker that does not answer slows those who publish: nothing is refused, and nothing gathers."""

import asyncio
from pathlib import Path

import pytest

from fanout import Config, Server, backlog
from tests.support.broker import running
from tests.support.node import KEY
from tests.support.sources import eventually
from tests.support.wsclient import RawClient

CLIENTS, EACH, PAYLOAD = 20, 40, 60_000  # 48 MB, of which each client may have 1 MiB under way
HIGH = 8 << 20


@pytest.mark.kafka
async def test_publishers_wait_for_a_paused_broker_and_nobody_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backlog, "HIGH", (10_000, HIGH))
    monkeypatch.setattr(backlog, "LOW", (5_000, HIGH // 2))
    with running() as cluster:
        config = Config(port=0, data=tmp_path, kafka=cluster.bootstrap, key=(KEY,), history_mib=16)
        async with Server(config) as server:
            async with asyncio.timeout(30):
                await server.ready()
            clients = [await RawClient(server.port, KEY).connect() for _ in range(CLIENTS)]
            for number, client in enumerate(clients):
                await client.publish(f"room{number}", {"data": "first"})
            await asyncio.to_thread(cluster.pause)
            publishing = [
                asyncio.ensure_future(client.publish(f"room{number}", {"data": f"{index}:".ljust(PAYLOAD, "x")}))
                for index in range(EACH)
                for number, client in enumerate(clients)
            ]
            waiting = server._node.messages.backlog
            await eventually(lambda: waiting.is_full, 8)
            await asyncio.sleep(1)
            assert HIGH <= waiting.bytes < HIGH + 2 * PAYLOAD
            assert not any(answer.done() for answer in publishing)
            await asyncio.to_thread(cluster.resume)
            async with asyncio.timeout(60):
                serials = await asyncio.gather(*publishing)
            assert len({serial for (serial,) in serials}) == CLIENTS * EACH
            assert server.stats()["failed"] == 0
            for client in clients:
                await client.close()
