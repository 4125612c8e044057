"""A node whose disk is full: it takes no publishes, says so, and goes on serving who is there."""

from functools import partial
from pathlib import Path

import httpx
import pytest

from fanout import Config, Server
from tests.support.node import KEY
from tests.support.sources import eventually, full_disk
from tests.support.wsclient import RawClient, Refused

AUTH = httpx.BasicAuth(*KEY.split(":"))


def last_is(client: RawClient, text: str) -> bool:
    return client.received["room"][-1].text == text


async def test_a_full_disk_refuses_publishes_by_a_code_and_everything_else_goes_on(tmp_path: Path) -> None:
    async with Server(Config(port=0, data=tmp_path, key=(KEY,))) as server, httpx.AsyncClient(auth=AUTH) as http:
        subscriber = await RawClient(server.port, KEY).connect()
        await subscriber.attach("room")
        for number in range(100):
            await server.publish("room", f"{number} ".rjust(1_000))
        with full_disk():
            with pytest.raises(Refused) as refused:
                await subscriber.publish("room", {"data": "x" * 60_000}, {"data": "y" * 4_000})
            assert refused.value.code == 50000
            assert (await http.get(f"{server.url}/ready")).status_code == 503
            history = await http.get(f"{server.url}/channels/room/messages", params={"limit": 1_000})
            assert len(history.json()) == 100
            late = await RawClient(server.port, KEY).connect()
            await late.attach("room", params={"rewind": "5"})
            await late.until(lambda: len(late.received.get("room", ())) == 5)
        await eventually(lambda: server.health().ok)
        await subscriber.publish("room", {"data": "after"})
        for client in (subscriber, late):
            await client.until(partial(last_is, client, "after"))
            assert client.connections == 1
            await client.close()
        assert len(subscriber.received["room"]) == 101
