"""The `ably` package from npm without WebSockets: what it is promised holds over HTTP polling too."""

import pytest

from tests.support.agents import AgentHost
from tests.support.node import KEY, NodeProcess
from tests.support.proxy import Proxy
from tests.support.sdk_promises import SdkHosts, SdkPromises

pytestmark = pytest.mark.node


@pytest.mark.parametrize("wire", ["json"])
class TestNodeSdk(SdkPromises):
    kind = "node"
    transports = ("comet",)


@pytest.mark.browser
@pytest.mark.parametrize("wire", ["json"])
class TestBrowserSdk(SdkPromises):
    kind = "browser"
    transports = ("xhr_polling",)


@pytest.mark.browser
@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestBrowserBehindAProxy(SdkHosts):
    kind = "browser"

    async def test_client_whose_websockets_never_open_is_served_all_the_same(
        self, node: NodeProcess, proxy: Proxy, host: AgentHost, wire: str, room: str
    ) -> None:
        proxy.refuse_upgrades()
        client = await (await host.connect(proxy.url, KEY, wire)).attach(room)
        await client.publish(room, "text", {"an": "object"}, b"\x00\xff")
        await client.await_count(room, 3)
        assert await client.texts(room) == ["text", '{"an":"object"}', "00ff"]

    async def test_client_goes_on_by_polling_when_websockets_stop_coming_through(
        self, node: NodeProcess, proxy: Proxy, host: AgentHost, wire: str, room: str
    ) -> None:
        publisher = await host.connect(node.url, KEY, wire)
        client = await (await host.connect(proxy.url, KEY, wire)).attach(room)
        before = (await client.state())["connectionId"]
        proxy.refuse_upgrades()
        proxy.cut()
        await publisher.publish(room, *map(str, range(100)), pipelined=True)
        await client.await_count(room, 100)
        proxy.accept()
        proxy.cut()
        await publisher.publish(room, *map(str, range(100, 200)), pipelined=True)
        await client.await_count(room, 200)
        assert await client.texts(room) == [str(number) for number in range(200)]
        assert (await client.state())["connectionId"] == before
