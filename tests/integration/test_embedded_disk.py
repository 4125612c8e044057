"""A node whose disk is full: it takes no publishes, says so, and goes on serving who is there."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import httpx
import pytest

from fanout import Config, Server
from fanout.sources.embedded_store import DATABASE
from tests.support.node import KEY
from tests.support.sources import eventually, full_disk
from tests.support.wsclient import RawClient, Refused

AUTH = httpx.BasicAuth(*KEY.split(":"))


def last_is(client: RawClient, text: str) -> bool:
    return [message.text for message in client.received.get("room", ())][-1:] == [text]


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


async def test_a_damaged_record_costs_who_comes_back_across_it_a_gap_and_nobody_else_anything(tmp_path: Path) -> None:
    config = Config(port=0, data=tmp_path, key=(KEY,), history="1s")
    async with Server(config) as server, httpx.AsyncClient(auth=AUTH) as http:
        await server.ready()
        position = server.position("room")
        for number in range(60):
            await server.publish("room", str(number))
        await eventually(lambda: server.stats()["messages_expired"] >= 60)
        with closing(sqlite3.connect(tmp_path / DATABASE, isolation_level=None)) as database:
            (number,) = database.execute("SELECT number FROM topic WHERE name = 'fanout.messages'").fetchone()
            database.execute(f"UPDATE record_{number} SET value = x'00' WHERE offset = 30")
        client = await RawClient(server.port, KEY).connect()
        await client.attach("room", channelSerial=position)
        await server.publish("room", "live")
        await client.until(partial(last_is, client, "live"))
        assert [message.text for message in client.received["room"]] == [
            *map(str, [*range(30), *range(31, 60)]),
            "live",
        ]
        assert client.attached("room")[-1]["error"]["code"] in (90003, 80020)
        late = await RawClient(server.port, KEY).connect()
        attached = await late.attach("room", channelSerial=position)
        assert attached["error"]["code"] == 90003
        await late.until(partial(last_is, late, "live"))
        ready = await http.get(f"{server.url}/ready")
        assert ready.status_code == 200
        assert "record 30 of topic 'fanout.messages' is damaged" in ready.json()["reason"]
        for one in (client, late):
            await one.close()
