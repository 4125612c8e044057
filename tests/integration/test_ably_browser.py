"""The `ably` package from npm in headless Chromium: another origin than the server's, as on a website."""

import asyncio

import pytest

from tests.support.agents import AgentHost
from tests.support.node import KEY, NodeProcess
from tests.support.proxy import Proxy
from tests.support.sdk_changes import ChangePromises
from tests.support.sdk_presence import PresencePromises
from tests.support.sdk_promises import SdkPromises

pytestmark = [pytest.mark.node, pytest.mark.browser]


@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestBrowserSdk(ChangePromises, PresencePromises, SdkPromises):
    kind = "browser"

    async def test_history_is_readable_from_another_origin(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        client = await host.connect(node.url, KEY, wire)
        await client.publish(room, *map(str, range(5)))
        assert await client.history(room, limit=2) == [["4", "3"], ["2", "1"], ["0"]]

    async def test_client_whose_websockets_are_refused_for_a_while_comes_back(
        self, node: NodeProcess, proxy: Proxy, host: AgentHost, wire: str, room: str
    ) -> None:
        client = await (await host.connect(proxy.url, KEY, wire)).attach(room)
        proxy.refuse_upgrades()
        polls = proxy.connections
        proxy.cut()
        async with asyncio.timeout(20):
            while proxy.connections == polls:  # noqa: ASYNC110  the SDK tries HTTP polling when it sees fit
                await asyncio.sleep(0.05)
        proxy.accept()
        async with asyncio.timeout(20):
            while await client.continuity(room) != [False, True]:  # noqa: ASYNC110  attached again, and resumed
                await asyncio.sleep(0.05)
        await client.publish(room, "back")
        await client.await_count(room, 1)
