"""The `ably` package from npm in headless Chromium: another origin than the server's, as on a website."""

import pytest

from tests.support.agents import AgentHost
from tests.support.node import KEY, NodeProcess
from tests.support.sdk_promises import SdkPromises

pytestmark = [pytest.mark.node, pytest.mark.browser]


@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestBrowserSdk(SdkPromises):
    kind = "browser"

    async def test_history_is_readable_from_another_origin(self, node: NodeProcess, host: AgentHost, wire: str) -> None:
        client = await host.connect(node.url, KEY, wire)
        await client.publish("room", *map(str, range(5)))
        assert await client.history("room", limit=2) == [["4", "3"], ["2", "1"], ["0"]]
