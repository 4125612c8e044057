"""Tokens on running nodes: made over REST, shown on sockets, taken back on every node, signed by providers."""

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm
from websockets.asyncio.client import ClientConnection, connect

from fanout import Config, Server
from tests.support.broker import Kafka
from tests.support.credentials import made_jwt, signed_jwt

KEY = "app.one:secret"
OTHER = "app.two:secret"
NODE_SECRET = "a secret of all nodes"
PROVIDERS_KEY = ec.generate_private_key(ec.SECP256R1())


def config(directory: Path, **options: Any) -> Config:
    return Config(
        port=0, data=directory, key=(KEY, OTHER), revocable=("app.one",), secret=NODE_SECRET, drain="0s", **options
    )


@asynccontextmanager
async def socket(server: Server, **query: str) -> AsyncIterator[ClientConnection]:
    text = "&".join(f"{name}={value}" for name, value in {"v": "5", **query}.items())
    async with connect(f"ws://127.0.0.1:{server.port}/?{text}") as made:
        yield made


async def frame(client: ClientConnection, action: int) -> Any:
    """The next frame with this action."""
    async with asyncio.timeout(20):
        while True:
            said = json.loads(await client.recv())
            if said["action"] == action:
                return said


async def ask(server: Server, path: str, body: Any, key: str | None = KEY, **headers: str) -> httpx.Response:
    auth = httpx.BasicAuth(*key.split(":")) if key else None
    async with httpx.AsyncClient(auth=auth, headers=headers) as http:
        return await http.post(f"{server.url}{path}", json=body)


def bearer(token: str) -> dict[str, str]:
    return {"authorization": "Bearer " + base64.b64encode(token.encode()).decode()}


def jwt(key: str = KEY, **claims: Any) -> str:
    now_s = int(time.time())
    return made_jwt(key, **({"iat": now_s - 1, "exp": now_s + 600} | claims))


class TestATokenRequest:
    async def test_of_the_keys_owner_gives_a_token_for_rest_and_sockets(self, tmp_path: Path) -> None:
        async with Server(config(tmp_path)) as server:
            wanted = {"keyName": "app.one", "clientId": "bob", "capability": '{"news":["*"]}'}
            answer = await ask(server, "/keys/app.one/requestToken", wanted)
            assert answer.status_code == 201
            details = answer.json()
            assert (details["clientId"], details["capability"]) == ("bob", '{"news":["*"]}')
            token = details["token"]
            said = await ask(server, "/channels/news/messages", {"data": "x"}, None, **bearer(token))
            assert said.status_code == 201
            refused = await ask(server, "/channels/other/messages", {"data": "x"}, None, **bearer(token))
            assert (refused.status_code, refused.json()["error"]["code"]) == (401, 40160)
            for name in ("access_token", "accessToken"):
                async with socket(server, **{name: token}) as client:
                    assert (await frame(client, 4))["connectionDetails"]["clientId"] == "bob"

    async def test_needs_a_signature_or_the_key_itself(self, tmp_path: Path) -> None:
        async with Server(config(tmp_path)) as server:
            wanted = {"keyName": "app.one"}
            token = (await ask(server, "/keys/app.one/requestToken", wanted)).json()["token"]
            path = "/keys/app.one/requestToken"
            answers = [
                await ask(server, path, wanted, None),
                await ask(server, path, wanted, "app.one:wrong"),
                await ask(server, path, wanted, OTHER),
                await ask(server, path, wanted, None, **bearer(token)),
                await ask(server, path, {"keyName": "app.two"}),
                await ask(server, path, wanted | {"mac": "x", "timestamp": 1, "nonce": "x"}),
                await ask(server, "/keys/app.none/requestToken", wanted),
                await ask(server, path, []),
            ]
            assert [answer.json()["error"]["code"] for answer in answers] == [
                *(40101, 40101, 40102, 40162),
                *(40102, 40101, 40400, 40001),
            ]


class TestARenewal:
    async def test_on_the_connection_changes_what_is_delivered_without_another_attach(self, tmp_path: Path) -> None:
        async with Server(config(tmp_path)) as server:
            deaf = jwt(OTHER, x_ably_capability='{"news":["publish"],"lost":["subscribe"]}')
            async with socket(server, access_token=deaf) as client:
                await frame(client, 4)
                for channel in ("news", "lost"):
                    await client.send(json.dumps({"action": 10, "channel": channel}))
                    await frame(client, 11)
                read_back = server.subscribe("news")
                await server.publish("news", "not for him")
                await anext(aiter(read_back))  # what comes later is for him
                hearing = jwt(OTHER, x_ably_capability='{"news":["subscribe"]}')
                await client.send(json.dumps({"action": 17, "auth": {"accessToken": hearing}}))
                await frame(client, 4)
                failed = await frame(client, 9)
                assert (failed["channel"], failed["error"]["code"]) == ("lost", 40160)
                await server.publish("news", "for him")
                assert [message["data"] for message in (await frame(client, 15))["messages"]] == ["for him"]

    async def test_is_asked_for_in_time_and_who_does_not_answer_is_sent_away(self, tmp_path: Path) -> None:
        async with Server(config(tmp_path)) as server:
            now_s = time.time()
            async with socket(server, access_token=jwt(OTHER, iat=now_s, exp=now_s + 31.5)) as client:
                await frame(client, 4)
                await frame(client, 17)
            async with socket(server, access_token=jwt(OTHER, iat=now_s, exp=time.time() + 1)) as client:
                assert (await frame(client, 6))["error"]["code"] == 40142


async def revoked_on(server: Server, other: Server) -> None:
    """A token of `app.one` is shown on both nodes and taken back on the first: both act on it."""
    token, stranger = jwt(x_ably_clientId="bob"), jwt(x_ably_clientId="eve")
    async with (
        socket(server, access_token=token) as here,
        socket(other, access_token=token) as there,
        socket(other, access_token=stranger) as bystander,
        socket(other, key=KEY, clientId="bob") as owner,
    ):
        for client in (here, there, bystander, owner):
            await frame(client, 4)
        answer = await ask(server, "/keys/app.one/revokeTokens", {"targets": ["clientId:bob", "what:bob"]})
        assert answer.status_code == 201
        body = answer.json()
        assert (body["successCount"], body["failureCount"]) == (1, 1)
        assert body["results"][0]["target"] == "clientId:bob"
        assert body["results"][1]["error"]["code"] == 40003
        for client in (here, there):
            assert (await frame(client, 6))["error"]["code"] == 40141
        for client in (bystander, owner):
            await client.send(json.dumps({"action": 0, "id": "alive"}))
            assert (await frame(client, 0))["id"] == "alive"
    for node in (server, other):
        refused = await ask(node, "/channels/news/messages", {"data": "x"}, None, **bearer(token))
        assert refused.json()["error"]["code"] == 40141


@asynccontextmanager
async def two_nodes(folder: Path, kafka: Kafka) -> AsyncIterator[tuple[Server, Server]]:
    one, two = (config(folder / name, kafka=kafka.bootstrap) for name in ("one", "two"))
    async with Server(one) as server, Server(two) as other:
        async with asyncio.timeout(60):
            await server.ready()
            await other.ready()
        yield server, other


class TestARevocation:
    async def test_reaches_the_node_and_outlives_it(self, tmp_path: Path) -> None:
        async with Server(config(tmp_path)) as server:
            await server.ready()
            await revoked_on(server, server)
        async with Server(config(tmp_path)) as server:
            await server.ready()
            token = jwt(x_ably_clientId="bob", iat=int(time.time()) - 600)
            refused = await ask(server, "/channels/news/messages", {"data": "x"}, None, **bearer(token))
            assert refused.json()["error"]["code"] == 40141

    @pytest.mark.kafka
    async def test_reaches_every_node_of_the_log(self, kafka: Kafka, tmp_path: Path) -> None:
        async with two_nodes(tmp_path, kafka) as (server, other):
            await revoked_on(server, other)

    @pytest.mark.kafka
    async def test_is_known_to_another_node_within_a_second(self, kafka: Kafka, tmp_path: Path) -> None:
        async with two_nodes(tmp_path, kafka) as (server, other):
            took = []
            for name in [f"client{number}" for number in range(11)]:
                token = jwt(x_ably_clientId=name)
                assert (await ask(other, "/channels/news/messages", {"data": "x"}, None, **bearer(token))).is_success
                assert (await ask(server, "/keys/app.one/revokeTokens", {"targets": [f"clientId:{name}"]})).is_success
                answered = time.monotonic()
                while (await ask(other, "/channels/news/messages", {"data": "x"}, None, **bearer(token))).is_success:
                    assert time.monotonic() < answered + 30
                took.append(time.monotonic() - answered)
            assert max(took[1:]) < 1  # 10 ms as a rule; a node's first may meet a client library that rests at first

    async def test_that_gives_time_asks_first(self, tmp_path: Path) -> None:
        async with Server(config(tmp_path)) as server:
            await server.ready()
            async with socket(server, access_token=jwt(x_ably_clientId="bob")) as client:
                await frame(client, 4)
                body = {"targets": ["clientId:bob"], "allowReauthMargin": True}
                (result,) = (await ask(server, "/keys/app.one/revokeTokens", body)).json()["results"]
                assert result["appliesAt"] - result["issuedBefore"] == 30_000
                await frame(client, 17)
                await client.send(json.dumps({"action": 17, "auth": {"accessToken": jwt(x_ably_clientId="bob")}}))
                await frame(client, 4)

    async def test_is_for_the_owner_of_a_key_whose_tokens_can_be_revoked(self, tmp_path: Path) -> None:
        async with Server(config(tmp_path)) as server:
            body = {"targets": ["clientId:bob"]}
            path = "/keys/app.one/revokeTokens"
            answers = [
                await ask(server, "/keys/app.two/revokeTokens", body, OTHER),
                await ask(server, path, body, OTHER),
                await ask(server, path, body, None, **bearer(jwt())),
                await ask(server, path, {"targets": []}),
                await ask(server, path, {"targets": ["clientId:x"] * 101}),
                await ask(server, path, body | {"issuedBefore": 2**52}),
                await ask(server, path, {"targets": "clientId:bob"}),
            ]
            codes = [answer.json()["error"]["code"] for answer in answers]
            assert codes == [40163, 40102, 40162, 40003, 40003, 40003, 40001]


class Provider:
    """An identity provider's document of keys, served on loopback: as slowly, or as badly, as a test wants."""

    def __init__(self) -> None:
        self.asked = 0
        self.gate = asyncio.Event()
        key = {**json.loads(ECAlgorithm.to_jwk(PROVIDERS_KEY.public_key())), "kid": "k1"}
        self.answer = b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps({"keys": [key]}).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked += 1
        await reader.readuntil(b"\r\n\r\n")
        await self.gate.wait()
        writer.write(self.answer)
        writer.close()


@asynccontextmanager
async def provided(tmp_path: Path) -> AsyncIterator[tuple[Provider, Server]]:
    provider = Provider()
    async with await asyncio.start_server(provider.serve, "127.0.0.1") as listening:
        port = listening.sockets[0].getsockname()[1]
        async with Server(config(tmp_path, jwks=(f"http://127.0.0.1:{port}/keys",))) as server:
            await server.ready()
            yield provider, server
            provider.gate.set()


def provided_jwt(kid: str = "k1") -> str:
    now_s = int(time.time())
    claims = {"iat": now_s, "exp": now_s + 60, "x-ably-capability": '{"news":["*"]}', "x-ably-clientId": "bob"}
    return signed_jwt(claims, PROVIDERS_KEY, "ES256", kid)


class TestAJwtOfAProvider:
    async def test_waits_for_its_key_while_others_are_served(self, tmp_path: Path) -> None:
        async with provided(tmp_path) as (provider, server):
            async with socket(server, access_token=provided_jwt()) as waiting:
                publishing = asyncio.create_task(
                    ask(server, "/channels/news/messages", {"data": "x"}, None, **bearer(provided_jwt()))
                )
                async with socket(server, key=KEY) as other:
                    await frame(other, 4)
                assert not publishing.done()
                provider.gate.set()
                assert (await frame(waiting, 4))["connectionDetails"]["clientId"] == "bob"
                assert (await publishing).status_code == 201
            assert provider.asked == 1

    async def test_can_be_shown_in_auth(self, tmp_path: Path) -> None:
        async with provided(tmp_path) as (provider, server):
            provider.gate.set()
            async with socket(server, access_token=provided_jwt()) as client:
                await frame(client, 4)
                await client.send(json.dumps({"action": 17, "auth": {"accessToken": provided_jwt()}}))
                await frame(client, 4)
                await client.send(json.dumps({"action": 17, "auth": {"accessToken": provided_jwt("made up")}}))
                assert (await frame(client, 9))["error"]["code"] == 40144

    async def test_that_leaves_while_it_waits_leaves_nothing_behind(self, tmp_path: Path) -> None:
        async with provided(tmp_path) as (provider, server):
            async with socket(server, access_token=provided_jwt()):
                await eventually(lambda: server.stats()["connections"] == 1)
            await eventually(lambda: server.stats()["connections"] == 0)
            provider.gate.set()

    @pytest.mark.parametrize(
        "answer",
        [
            b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n",
            b"HTTP/1.1 500 No\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 300_000,
            b"HTTP/1.1 200 OK\r\n\r\n<html>",
            b"nonsense\r\n\r\n",
            b"",
        ],
    )
    async def test_is_sent_away_to_come_back_when_there_are_no_keys(self, tmp_path: Path, answer: bytes) -> None:
        async with provided(tmp_path) as (provider, server):
            provider.answer = answer
            provider.gate.set()
            async with socket(server, access_token=provided_jwt()) as client:
                assert (await frame(client, 6))["error"]["code"] == 80003
            async with socket(server, key=KEY) as other:
                await frame(other, 4)
            assert provider.asked == 1


async def eventually(reached: Callable[[], bool]) -> None:
    for _ in range(400):
        if reached():
            return
        await asyncio.sleep(0.025)
    raise AssertionError("it was never so")
