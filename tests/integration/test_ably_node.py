"""The `ably` package from npm, in Node, against a server of its own process."""

import asyncio
import base64

import pytest

from tests.support.agents import AgentError, AgentHost
from tests.support.node import KEY, NodeProcess
from tests.support.proxy import Proxy
from tests.support.sdk_changes import ChangePromises
from tests.support.sdk_presence import PresencePromises
from tests.support.sdk_promises import SdkPromises

pytestmark = pytest.mark.node

GOALS = base64.b64encode(b"name == 'goal'").decode()


@pytest.mark.parametrize("wire", ["json", "msgpack"])
class TestNodeSdk(ChangePromises, PresencePromises, SdkPromises):
    kind = "node"

    async def test_history_reads_back_page_by_page(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        client = await host.connect(node.url, KEY, wire)
        await client.publish(room, *map(str, range(5)))
        assert await client.history(room, limit=2) == [["4", "3"], ["2", "1"], ["0"]]
        assert await client.history(room, limit=3, direction="forwards") == [["0", "1", "2"], ["3", "4"]]

    async def test_signed_token_request_gives_a_token_that_can_be_changed_for_another(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        narrow = {"capability": {"elsewhere": ["*"]}, "clientId": "bob"}
        options = {"useTokenAuth": True, "defaultTokenParams": narrow}
        client = await host.connect(node.url, KEY, wire, options=options)
        with pytest.raises(AgentError) as refused:
            await client.attach(room)
        assert refused.value.code == 40160
        await client.ask("authorize", params={"capability": {f"{room}:*": ["*"]}, "clientId": "bob"})
        await client.attach(f"{room}:inner")
        await client.publish(f"{room}:inner", "hello")
        await client.await_count(f"{room}:inner", 1)
        assert [event["state"] for event in (await client.state())["events"]].count("connecting") <= 1

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

    async def test_payloads_that_differ_little_arrive_as_deltas(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        publisher = await host.connect(node.url, KEY, wire)
        client = await (await host.connect(node.url, KEY, wire)).attach(room, delta="vcdiff")
        document = "".join(f"line {number} of a document\n" for number in range(50))
        payloads = [document.replace("line 7 ", f"line {edit} ") for edit in range(100, 110)]
        await publisher.publish(room, *payloads)
        await client.await_count(room, len(payloads))
        assert await client.texts(room) == payloads
        formats = [message.get("extras", {}).get("delta", {}).get("format") for message in await client.received(room)]
        assert formats == [None] + ["vcdiff"] * (len(payloads) - 1)

    async def test_filtered_channel_has_the_messages_of_its_filter(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        publisher = await host.connect(node.url, KEY, wire)
        filtered = f"[filter={GOALS}]{room}"
        client = await (await host.connect(node.url, KEY, wire)).attach(filtered)
        for name in ("goal", "foul", "goal"):
            await publisher.publish(room, name, name=name)
        await client.await_count(filtered, 2)
        assert await client.texts(filtered) == ["goal", "goal"]
        with pytest.raises(AgentError) as refused:
            await client.publish(filtered, "x")
        assert refused.value.code == 40010
