"""An embedded log that is put back to an older copy and written on: who had read what is gone is told of the gap."""

import shutil
from functools import partial
from pathlib import Path

import pytest

from fanout import Config, Server
from fanout.history.reading import has_read
from fanout.sources import embedded_file
from tests.support.one_log import KEY
from tests.support.sources import eventually
from tests.support.wsclient import RESUMED, RawClient


async def written(data: Path, prefix: str, count: int) -> str:
    """What a node of its own publishes; the channel's position then."""
    async with Server(Config(port=0, data=data, key=(KEY,))) as node:
        await node.ready()
        for number in range(count):
            await node.publish("c", f"{prefix}{number}")
        inside = node._node.messages
        await eventually(lambda: has_read(inside.engine.places("c", None), inside.publisher.ends))
        return node.position("c")


def has_heard(client: RawClient, count: int) -> bool:
    return len(client.received.get("c", ())) >= count


async def test_a_place_in_what_a_restored_directory_no_longer_has_is_a_gap(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, backup = tmp_path / "data", tmp_path / "backup"
    kept = await written(data, "a", 10)
    shutil.copytree(data, backup)
    lost = await written(data, "b", 10)
    shutil.rmtree(data)
    backup.rename(data)
    monkeypatch.setattr(embedded_file, "EPOCHS_BEGIN_S", embedded_file.EPOCHS_BEGIN_S - 60)  # a minute later
    async with Server(Config(port=0, data=data, key=(KEY,))) as node:
        await node.ready()
        expected = [f"n{number}" for number in range(30)]  # more than was cut off
        for text in expected:
            await node.publish("c", text)
        for position, resumed, code in ((kept, True, None), (lost, False, 90003)):
            client = await RawClient(node.port, KEY).connect()
            attached = await client.attach("c", channelSerial=position)
            assert (bool(attached["flags"] & RESUMED), attached.get("error", {}).get("code")) == (resumed, code)
            await client.until(partial(has_heard, client, len(expected)))
            assert [message.text for message in client.received["c"]] == expected
            await client.close()
