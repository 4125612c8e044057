"""The `ably` package from npm, in Node, against a server of its own process."""

import asyncio

import pytest

from tests.support.agents import AgentHost
from tests.support.node import KEY, NodeProcess
from tests.support.proxy import Proxy
from tests.support.sdk_presence import PresencePromises
from tests.support.sdk_promises import SdkPromises

pytestmark = pytest.mark.node


@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestNodeSdk(PresencePromises, SdkPromises):
    kind = "node"

    async def test_history_reads_back_page_by_page(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        client = await host.connect(node.url, KEY, wire)
        await client.publish(room, *map(str, range(5)))
        assert await client.history(room, limit=2) == [["4", "3"], ["2", "1"], ["0"]]
        assert await client.history(room, limit=3, direction="forwards") == [["0", "1", "2"], ["3", "4"]]

    async def test_unacknowledged_publish_is_sent_again_and_stored_once(
        self, node: NodeProcess, proxy: Proxy, host: AgentHost, wire: str, room: str
    ) -> None:
        client = await host.connect(proxy.url, KEY, wire)
        await client.attach(room)
        publishing = asyncio.create_task(client.publish(room, *map(str, range(300)), pipelined=True))
        await client.await_count(room, 50)
        proxy.cut()
        serials = await publishing
        await client.await_count(room, 300)
        assert await client.texts(room) == [str(number) for number in range(300)]
        assert [message["serial"] for message in await client.received(room)] == serials
