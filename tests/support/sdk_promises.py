"""What every published SDK is promised, whatever its language and wire: one suite, run by a test file for each SDK.

A subclass names its `kind` and gives the fixture `wire`. Its tests share one server and one process of the SDK, and
have clients and a channel of their own each. Publishers speak to the server directly; subscribers whose connection is
to be cut speak through a proxy, because the Python SDK raises from a publish that meets a cut.
"""

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any, ClassVar, Literal
from urllib.parse import urlsplit

import httpx
import pytest
import pytest_asyncio

from tests.support.agents import Agent, AgentError, AgentHost, Kind, agents, digest
from tests.support.broker import Kafka
from tests.support.certificates import Certificates, make_certificates
from tests.support.credentials import made_jwt
from tests.support.node import KEY, NodeProcess, node_process
from tests.support.proxy import Proxy, proxy_to

__all__ = ["LIMITED_KEY", "SdkHosts", "SdkPromises"]

LIMITED_KEY = "app.limited:secret"
REVOCABLE_KEY = "app.revocable:secret"
LIMITED = {"open:*": ["subscribe", "publish"], "read:*": ["subscribe"]}


def jwt(key: str = KEY, *, lives_s: int = 3_600, ahead_s: int = 0, **claims: Any) -> str:
    """A JWT that says it was made `ahead_s` from now."""
    now_s = int(time.time())
    return made_jwt(key, iat=now_s + ahead_s, exp=now_s + lives_s + ahead_s, **claims)


async def disconnected(client: Agent, code: int) -> None:
    """Waits until the client was sent away for this reason; it may be back by then."""
    for _ in range(400):
        if code in [event["code"] for event in (await client.state())["events"]]:
            return
        await asyncio.sleep(0.05)
    raise TimeoutError(f"not sent away for {code}: {await client.state()}")


@pytest.mark.asyncio(loop_scope="class")
class SdkHosts:
    """One server and one process of an SDK for the tests of a class."""

    kind: ClassVar[Kind]
    log: ClassVar[Literal["embedded", "kafka"]] = "embedded"
    over_tls: ClassVar[bool] = False
    transports: ClassVar[Sequence[str]] = ()

    @pytest.fixture(scope="class")
    @classmethod
    def certificates(cls, tmp_path_factory: pytest.TempPathFactory) -> Certificates | None:
        return make_certificates(tmp_path_factory.mktemp("certificates")) if cls.over_tls else None

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def node(
        cls,
        request: pytest.FixtureRequest,
        tmp_path_factory: pytest.TempPathFactory,
        certificates: Certificates | None,
    ) -> AsyncIterator[NodeProcess]:
        limited = f"{LIMITED_KEY}={json.dumps(LIMITED)}"
        options = ["--sandbox", "--mutable", "mutable", "--revocable", REVOCABLE_KEY.partition(":")[0]]
        if cls.log == "kafka":
            kafka: Kafka = request.getfixturevalue("kafka")
            options += ["--kafka", kafka.bootstrap]
        directory = tmp_path_factory.mktemp("node")
        async with node_process(
            directory, *options, keys=(KEY, limited, REVOCABLE_KEY), certificates=certificates
        ) as node:
            yield node

    @pytest_asyncio.fixture(scope="class", loop_scope="class")
    @classmethod
    async def shared_host(cls, certificates: Certificates | None) -> AsyncIterator[AgentHost]:
        async with agents(cls.kind, certificates, cls.transports) as host:
            yield host

    @pytest_asyncio.fixture(loop_scope="class")
    async def host(self, shared_host: AgentHost) -> AsyncIterator[AgentHost]:
        yield shared_host
        await shared_host.close_all()

    @pytest_asyncio.fixture(loop_scope="class")
    async def proxy(self, node: NodeProcess) -> AsyncIterator[Proxy]:
        async with proxy_to(node.port, urlsplit(node.url).scheme) as proxy:
            yield proxy

    @pytest.fixture
    def room(self) -> str:
        """A channel that no other test uses."""
        return f"room-{uuid.uuid4().hex[:12]}"


class SdkPromises(SdkHosts):
    """Collected only as the base of a class that is named `Test…`."""

    async def test_messages_arrive_in_order_with_what_was_published(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        alice = await host.connect(node.url, KEY, wire)
        bob = await (await host.connect(node.url, KEY, wire)).attach(room)
        await alice.publish(room, "text", {"an": "object"}, [1, 2], b"\x00\xff", name="greeting", clientId="alice")
        await bob.await_count(room, 4)
        messages = await bob.received(room)
        assert [message["data"] for message in messages] == ["text", '{"an":"object"}', "[1,2]", "00ff"]
        assert {(message["name"], message["clientId"]) for message in messages} == {("greeting", "alice")}
        alices_id = (await alice.state())["connectionId"]
        assert {message["connectionId"] for message in messages} == {alices_id}

    async def test_publisher_gets_the_serials_that_subscribers_see(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        client = await (await host.connect(node.url, KEY, wire)).attach(room)
        serials = await client.publish(room, *map(str, range(50)), pipelined=True)
        await client.await_count(room, 50)
        messages = await client.received(room)
        assert [message["data"] for message in messages] == [str(number) for number in range(50)]
        assert [message["serial"] for message in messages] == serials
        assert sorted(set(serials)) == serials

    async def test_channels_are_kept_apart(self, node: NodeProcess, host: AgentHost, wire: str) -> None:
        client = await host.connect(node.url, KEY, wire)
        await client.attach("one")
        await client.attach("two")
        await client.publish("one", "first")
        await client.publish("two", "second")
        await client.await_count("one", 1)
        await client.await_count("two", 1)
        assert await client.texts("one") == ["first"]
        assert await client.texts("two") == ["second"]

    async def test_detached_channel_receives_no_more(self, node: NodeProcess, host: AgentHost, wire: str) -> None:
        client = await host.connect(node.url, KEY, wire)
        await client.attach("left")
        await client.attach("kept")
        await client.detach("left")
        await client.publish("left", "unseen")
        await client.publish("kept", "seen")
        await client.await_count("kept", 1)
        assert await client.texts("left") == []

    async def test_rewind_begins_with_the_last_messages(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        publisher = await host.connect(node.url, KEY, wire)
        await publisher.publish(room, *map(str, range(10)))
        late = await (await host.connect(node.url, KEY, wire)).attach(room, rewind=3)
        await publisher.publish(room, "live")
        await late.await_count(room, 4)
        assert await late.texts(room) == ["7", "8", "9", "live"]

    async def test_key_may_do_only_what_its_capability_says(
        self, node: NodeProcess, host: AgentHost, wire: str
    ) -> None:
        client = await host.connect(node.url, LIMITED_KEY, wire)
        with pytest.raises(AgentError) as refused:
            await client.attach("closed:room")
        assert refused.value.code == 40160
        await client.attach("read:room")
        with pytest.raises(AgentError) as refused:
            await client.publish("read:room", "not allowed")
        assert refused.value.code == 40160
        await client.attach("open:room")
        await client.publish("open:room", "allowed")
        await client.await_count("open:room", 1)
        assert (await client.state())["state"] == "connected"

    async def test_wrong_secret_fails_the_connection_for_good(
        self, node: NodeProcess, host: AgentHost, wire: str
    ) -> None:
        client = await host.connect(node.url, "app.full:wrong", wire, wait=False)
        await client.await_state("failed")
        assert (await client.state())["code"] == 40101

    async def test_jwt_lets_a_client_in_as_who_it_says_and_for_what_it_says(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        rights = json.dumps({f"{room}:*": ["*"]})
        client = await host.connect(node.url, KEY, wire, tokens=[jwt(x_ably_clientId="bob", x_ably_capability=rights)])
        with pytest.raises(AgentError) as refused:
            await client.attach(room)
        assert refused.value.code == 40160
        await client.attach(f"{room}:inner")
        await client.publish(f"{room}:inner", "hello")
        await client.await_count(f"{room}:inner", 1)
        assert [message["clientId"] for message in await client.received(f"{room}:inner")] == ["bob"]

    async def test_token_that_ends_is_replaced_and_nothing_is_missed(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        publisher = await host.connect(node.url, KEY, wire)
        subscriber = await host.connect(node.url, KEY, wire, tokens=[jwt(lives_s=3), jwt()])
        await subscriber.attach(room)
        await publisher.publish(room, "before")
        await disconnected(subscriber, 40142)
        await publisher.publish(room, "meanwhile")
        await subscriber.await_state("connected")
        await publisher.publish(room, "after")
        await subscriber.await_count(room, 3)
        assert await subscriber.texts(room) == ["before", "meanwhile", "after"]

    async def test_revoked_token_is_replaced_too(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        name = REVOCABLE_KEY.partition(":")[0]
        first = jwt(REVOCABLE_KEY, x_ably_revocation_key=room, ahead_s=-10)
        second = jwt(REVOCABLE_KEY, x_ably_revocation_key=room, ahead_s=30)
        client = await (await host.connect(node.url, KEY, wire, tokens=[first, second])).attach(room)
        owner = httpx.BasicAuth(*REVOCABLE_KEY.split(":"))
        async with httpx.AsyncClient(auth=owner, verify=False) as http:  # TLS is others' matter here
            answer = await http.post(
                f"{node.url}/keys/{name}/revokeTokens", json={"targets": [f"revocationKey:{room}", "nobody"]}
            )
        assert answer.status_code == 201
        assert (answer.json()["successCount"], answer.json()["failureCount"]) == (1, 1)
        await disconnected(client, 40141)
        await client.await_state("connected")
        await client.publish(room, "again")
        await client.await_count(room, 1)

    async def test_token_that_is_none_fails_the_connection(self, node: NodeProcess, host: AgentHost, wire: str) -> None:
        client = await host.connect(node.url, KEY, wire, tokens=["app.nothing"], wait=False)
        await client.await_state("failed")
        assert (await client.state())["code"] == 40101

    async def test_cut_sockets_lose_and_double_nothing(
        self, node: NodeProcess, proxy: Proxy, host: AgentHost, wire: str, room: str
    ) -> None:
        publisher = await host.connect(node.url, KEY, wire)
        subscriber = await (await host.connect(proxy.url, KEY, wire)).attach(room)
        before = (await subscriber.state())["connectionId"]
        for cut in range(2):
            proxy.refuse()
            proxy.cut()
            await publisher.publish(room, *(f"{cut}:{number}" for number in range(100)), pipelined=True)
            proxy.accept()
            await subscriber.await_count(room, 100 * (cut + 1))
        await publisher.publish(room, "last")
        await subscriber.await_count(room, 201)
        expected = [f"{cut}:{number}" for cut in range(2) for number in range(100)]
        assert await subscriber.texts(room) == [*expected, "last"]
        assert await subscriber.continuity(room) == [False, True, True]
        assert (await subscriber.state())["connectionId"] == before

    async def test_killed_server_loses_and_doubles_nothing(
        self, node: NodeProcess, host: AgentHost, wire: str, room: str
    ) -> None:
        publisher = await host.connect(node.url, KEY, wire)
        subscriber = await (await host.connect(node.url, KEY, wire)).attach(room)
        await publisher.publish(room, *map(str, range(100)), pipelined=True)
        await subscriber.await_count(room, 50)
        await node.kill()
        await subscriber.await_state("disconnected")
        await node.start()
        await publisher.await_state("connected")
        await publisher.publish(room, *map(str, range(100, 200)), pipelined=True)
        await subscriber.await_count(room, 200)
        assert await subscriber.summary(room) == digest(map(str, range(200)))
        assert await subscriber.continuity(room) == [False, True]
