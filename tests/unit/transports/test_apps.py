"""Making and deleting apps over REST, as the SDKs' test suites do."""

import base64
from typing import Any

import orjson
import pytest

from fanout.auth.keys import Key, Keys
from fanout.auth.known import KnownCredentials
from fanout.auth.revoked import Revoked
from fanout.auth.tokens import Tokens
from fanout.namespaces import Namespaces
from fanout.sandbox import Sandbox
from fanout.session.limits import Limits
from fanout.stats import Stats
from fanout.transports.http import Request, Response
from fanout.transports.rest import rest
from fanout.transports.rest.apps import INTERVALS_MAX, apps
from fanout.transports.router import Router
from tests.support.credentials import SECRET
from tests.support.rest import rest_api
from tests.unit.test_sandbox import FakePresence
from tests.unit.transports.front_door import KEY, FakeEngine, FakePublisher


class Node:
    def __init__(self) -> None:
        self.publisher = FakePublisher()
        keys = Keys([Key.parse(KEY)])
        self.stats = Stats()
        self.dismissed: list[str] = []
        api = rest_api(
            authenticator=KnownCredentials(keys, Tokens(SECRET), Revoked()),
            engine=FakeEngine(),
            publisher=self.publisher,
            stats=self.stats,
        )
        sandbox = Sandbox(keys, Namespaces(), FakePresence(), Limits())
        routes = apps(api, sandbox, "127.0.0.1", lambda: 4_711, tls=True, dismiss=self.dismissed.append)
        self.router = Router(rest(api, routes))

    async def ask(self, method: str, path: str, body: object = None, key: str | None = None) -> Response:
        headers = {"authorization": "Basic " + base64.b64encode(key.encode()).decode()} if key else {}
        return await self.router(Request(method, path, {}, headers, b"" if body is None else orjson.dumps(body)))

    async def make(self, *keys: dict[str, Any]) -> Any:
        response = await self.ask("POST", "/apps", {"keys": list(keys)})
        assert response.status == 201
        return orjson.loads(response.body)


@pytest.fixture
def node() -> Node:
    return Node()


def code(response: Response) -> int:
    return int(orjson.loads(response.body)["error"]["code"])


async def test_the_answer_says_where_clients_of_the_app_find_the_node(node: Node) -> None:
    app = await node.make({})
    assert (app["endpoint"], app["port"], app["tls"]) == ("127.0.0.1", 4_711, True)


async def test_apps_do_not_meet_in_a_channel_of_one_name(node: Node) -> None:
    one, other = await node.make({}), await node.make({})
    for app in (one, other):
        response = await node.ask("POST", "/channels/room/messages", {"data": "x"}, app["keys"][0]["keyStr"])
        assert orjson.loads(response.body)["channel"] == "room"
    await node.ask("POST", "/channels/room/messages", {"data": "x"}, KEY)
    channels = [channel for channel, _ in node.publisher.published]
    assert len(set(channels)) == 3
    assert channels[2] == "room"


async def test_an_app_is_deleted_by_its_own_keys_alone(node: Node) -> None:
    one, other = await node.make({}), await node.make({})
    path = f"/apps/{one['appId']}"
    assert code(await node.ask("DELETE", path)) == 40101
    assert code(await node.ask("DELETE", path, key=other["keys"][0]["keyStr"])) == 40160
    assert code(await node.ask("DELETE", "/apps/unknown", key=KEY)) == 40400
    assert node.dismissed == []
    assert (await node.ask("DELETE", path, key=one["keys"][0]["keyStr"])).status == 204
    assert node.dismissed == [one["appId"]], "its connections end with it"
    assert code(await node.ask("DELETE", path, key=one["keys"][0]["keyStr"])) == 40101


INTERVAL = {"intervalId": "2030-02-03:15:03", "inbound": {"realtime": {"messages": {"count": 50, "data": 5000}}}}


async def test_an_app_may_be_given_a_past_which_goes_with_it(node: Node) -> None:
    app, other = await node.make({}), await node.make({})
    key = app["keys"][0]["keyStr"]
    assert (await node.ask("POST", "/stats", [INTERVAL], key)).status == 201
    (interval,) = orjson.loads((await node.ask("GET", "/stats", key=key)).body)
    assert interval["intervalId"] == "2030-02-03:15:03"
    assert interval["entries"]["messages.inbound.realtime.messages.count"] == 50
    assert orjson.loads((await node.ask("GET", "/stats", key=other["keys"][0]["keyStr"])).body) == []
    await node.ask("DELETE", f"/apps/{app['appId']}", key=key)
    page = node.stats.page(app["appId"], start_ms=0, end_ms=1 << 52, unit="day", forwards=True, limit=9, now_ms=0)
    assert page.intervals == []


@pytest.mark.parametrize(
    ("body", "code_told"),
    [
        ({}, 40001),
        ([{"intervalId": "yesterday"}], 40003),
        ([{}], 40003),
        ([INTERVAL | {"inbound": "many"}], 40000),
        ([INTERVAL] * (INTERVALS_MAX + 1), 40003),
    ],
)
async def test_a_past_that_makes_no_sense_is_refused_as_a_whole(node: Node, body: object, code_told: int) -> None:
    app = await node.make({})
    assert code(await node.ask("POST", "/stats", body, app["keys"][0]["keyStr"])) == code_told


async def test_only_provisioned_apps_are_given_a_past(node: Node) -> None:
    assert code(await node.ask("POST", "/stats", [INTERVAL], KEY)) == 40160


@pytest.mark.parametrize("body", [[], "apps", {"keys": 1}])
async def test_what_is_no_app_is_refused(node: Node, body: object) -> None:
    assert code(await node.ask("POST", "/apps", body)) == 40001


async def test_a_browser_may_ask(node: Node) -> None:
    assert (await node.ask("OPTIONS", "/apps")).status == 204
