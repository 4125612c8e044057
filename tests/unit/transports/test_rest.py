"""REST as the SDKs use it, without sockets."""

import asyncio
import base64
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

import msgspec
import orjson
import pytest

from fanout.auth.connection_key import ConnectionKeys
from fanout.auth.credentials import KeysAwaited, Presented
from fanout.auth.known import KnownCredentials
from fanout.errors import error
from fanout.session.behalf import Behalf
from fanout.session.limits import Limits
from fanout.session.resume import ConnectionTable
from fanout.stats import Stats
from fanout.transports.http import Request, Response
from fanout.transports.rest import WAITS_MAX, rest
from fanout.transports.router import Router
from fanout.types import Identity, Message
from tests.support.credentials import SECRET, accepting
from tests.support.rest import rest_api
from tests.unit.transports.front_door import KEY, PUBLISHER, READER, FakeEngine, FakePublisher

MSGPACK = "application/x-msgpack"


class Api:
    def __init__(self) -> None:
        self.engine = FakeEngine()
        self.publisher = FakePublisher()
        self.stats = Stats()
        limited = [READER + '={"room":["subscribe"]}', PUBLISHER + '={"room":["publish"]}']
        self.table = ConnectionTable(ttl_ms=120_000, now=lambda: 1_000)
        self.connection_keys = ConnectionKeys(SECRET)
        needs = rest_api(
            authenticator=accepting(KEY, *limited),
            engine=self.engine,
            publisher=self.publisher,
            behalf=Behalf(self.connection_keys, self.table),
            stats=self.stats,
        )
        self.router = Router(rest(needs))

    async def ask(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        query: Mapping[str, str] | None = None,
        **headers: str,
    ) -> Response:
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.router(Request(method, path, {"key": KEY} if query is None else query, fields, body))


@pytest.fixture
def api() -> Api:
    return Api()


def json(response: Response) -> Any:
    assert response.content_type == "application/json"
    return orjson.loads(response.body)


def code(response: Response) -> int:
    info = json(response)["error"]
    assert info["statusCode"] == response.status
    assert ("x-ably-errorcode", str(info["code"])) in response.headers
    assert ("x-ably-errormessage", info["message"]) in response.headers
    return int(info["code"])


def field(response: Response, name: str) -> list[str]:
    return [value for found, value in response.headers if found == name]


async def test_time_needs_no_key(api: Api) -> None:
    assert json(await api.ask("GET", "/time", query={})) == [1_000]


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Basic !"}, {"authorization": "Bearer x"}, {"authorization": "Basic YTpi"}]
)
async def test_who_has_no_key_is_refused(api: Api, headers: dict[str, str]) -> None:
    assert code(await api.ask("GET", "/channels/room/messages", b"", {}, **headers)) == 40101


async def test_a_key_in_the_header(api: Api) -> None:
    basic = "Basic " + base64.b64encode(KEY.encode()).decode()
    assert (await api.ask("GET", "/channels/room", query={}, authorization=basic)).status == 200


@pytest.mark.parametrize(("method", "path"), [("POST", "/messages"), ("GET", "/messages"), ("GET", "")])
async def test_a_key_may_do_what_its_capability_says(api: Api, method: str, path: str) -> None:
    assert code(await api.ask(method, f"/channels/room{path}", b"{}", query={"key": READER})) == 40160
    assert not api.publisher.published


@pytest.mark.parametrize("version", ["0", "x", "-1"])
async def test_a_version_that_is_none(api: Api, version: str) -> None:
    assert code(await api.ask("GET", "/channels/room", x_ably_version=version)) == 40017


# -- publish --


async def test_one_message(api: Api) -> None:
    body = orjson.dumps({"name": "n", "data": "d", "clientId": "me", "extras": {"headers": {"a": 1}}})
    response = await api.ask("POST", "/channels/a%2Fb/messages", body, content_type="application/json; charset=utf-8")
    assert response.status == 201
    answer = json(response)
    channel, (message,) = api.publisher.published[0]
    assert (answer["channel"], channel) == ("a/b", "a/b")
    assert answer["serials"] == ["s1-0"]
    assert message.id == answer["messageId"] + ":0"
    assert (message.name, message.data, message.client_id, message.extras) == ("n", "d", "me", {"headers": {"a": 1}})


async def test_several_messages_have_ids_of_one_base(api: Api) -> None:
    response = await api.ask("POST", "/channels/room/messages", b'[{"data":"a"},{"data":"Yg==","encoding":"base64"}]')
    answer = json(response)
    _, messages = api.publisher.published[0]
    assert [message.id for message in messages] == [f"{answer['messageId']}:{index}" for index in range(2)]
    assert [message.data for message in messages] == ["a", b"b"]
    assert len(answer["serials"]) == 2


async def test_ids_of_the_clients_own_are_kept(api: Api) -> None:
    response = await api.ask("POST", "/channels/room/messages", b'{"id":"mine:0","data":"a"}')
    assert json(response)["messageId"] == "mine"
    assert api.publisher.published[0][1][0].id == "mine:0"


async def test_messagepack_both_ways(api: Api) -> None:
    body = msgspec.msgpack.encode({"data": b"\x00\xff"})
    response = await api.ask("POST", "/channels/room/messages", body, content_type=MSGPACK, accept=MSGPACK)
    assert response.content_type == MSGPACK
    assert msgspec.msgpack.decode(response.body)["serials"] == ["s1-0"]
    assert api.publisher.published[0][1][0].data == b"\x00\xff"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", 40001),
        (b"{", 40001),
        (b"[" * 100_000, 40001),
        (b'"text"', 40001),
        (b'{"data":"\xff"}', 40001),
        (b"[]", 40000),
        (b'{"data":7}', 40013),
        (b'{"name":7}', 40016),
        (b'{"clientId":"*"}', 40012),
        (b'{"extras":[]}', 40032),
        (b'[{"id":"a"},{"id":"b"}]', 40031),
        (b'{"data":"' + b"x" * 65_537 + b'"}', 40009),
        (b"[" + b"{}," * 1000 + b"{}]", 40034),
        (b'{"action":1,"serial":"s"}', 93002),
    ],
)
async def test_a_body_that_is_refused(api: Api, body: bytes, expected: int) -> None:
    assert code(await api.ask("POST", "/channels/room/messages", body)) == expected
    assert not api.publisher.published


async def test_another_content_type(api: Api) -> None:
    assert code(await api.ask("POST", "/channels/room/messages", b"a=b", content_type="text/plain")) == 40001


@pytest.mark.parametrize("channel", ["%3Aroom", "[meta]log", "a%0Ab", "x" * (Limits().channel_bytes + 1)])
async def test_a_channel_that_has_no_name(api: Api, channel: str) -> None:
    assert code(await api.ask("POST", f"/channels/{channel}/messages", b"{}")) == 40010


async def test_a_forced_refusal(api: Api) -> None:
    query = {"key": KEY, "_forceNack": "true"}
    assert code(await api.ask("POST", "/channels/room/messages", b"{}", query=query)) == 40099


async def test_a_log_that_does_not_confirm(api: Api) -> None:
    api.publisher.refusal = error(50003)
    response = await api.ask("POST", "/channels/room/messages", b"{}")
    assert (response.status, code(response)) == (500, 50003)


async def test_an_identity_in_the_header(api: Api) -> None:
    me = base64.b64encode(b"me").decode()
    await api.ask("POST", "/channels/room/messages", b"{}", x_ably_clientid=me)
    assert api.publisher.published[0][1][0].client_id == "me"
    assert code(await api.ask("POST", "/channels/room/messages", b'{"clientId":"you"}', x_ably_clientid=me)) == 40012
    assert code(await api.ask("POST", "/channels/room/messages", b"{}", x_ably_clientid="!")) == 40004


# -- history and status --


def held(count: int) -> list[Message]:
    return [Message("room", f"id{n}", f"s{n}", 100 + n, f"data{n}") for n in range(count)]


async def test_pages_follow_each_other_by_their_links(api: Api) -> None:
    api.engine.pages["room"] = held(5)
    query = {"key": KEY, "limit": "2", "start": "101"}
    seen = []
    while True:
        response = await api.ask("GET", "/channels/room/messages", query=query)
        seen += [message["data"] for message in json(response)]
        links = field(response, "link")
        assert [link.rpartition("rel=")[2] for link in links][:2] == ['"first"', '"current"']
        if len(links) == 2:
            break
        target, relation = links[2].split("; ")
        assert relation == 'rel="next"'
        assert target.startswith("<./messages?")
        assert "," not in target
        query = {"key": KEY} | dict(parse_qsl(target[len("<./messages?") : -1]))
    assert seen == ["data4", "data3", "data2", "data1"]


async def test_forwards(api: Api) -> None:
    api.engine.pages["room"] = held(3)
    response = await api.ask("GET", "/channels/room/messages", query={"key": KEY, "direction": "forwards"})
    assert [message["id"] for message in json(response)] == ["id0", "id1", "id2"]


async def test_a_message_as_history_shows_it(api: Api) -> None:
    api.engine.pages["room"] = [
        Message("room", "id", "s", 7, b"\x01", encoding="utf-8", client_id="me", connection_id="c", extras={"a": 1})
    ]
    expected = {
        "id": "id",
        "data": "AQ==",
        "encoding": "utf-8/base64",
        "clientId": "me",
        "connectionId": "c",
        "timestamp": 7,
        "extras": {"a": 1},
        "action": 0,
        "serial": "s",
        "version": {"serial": "s", "timestamp": 7},
    }
    assert json(await api.ask("GET", "/channels/room/messages")) == [expected]
    packed = await api.ask("GET", "/channels/room/messages", accept=f"{MSGPACK},application/json")
    assert msgspec.msgpack.decode(packed.body) == [expected | {"data": b"\x01", "encoding": "utf-8"}]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"limit": "1001"}, 40003),
        ({"limit": "0"}, 40003),
        ({"limit": "-1"}, 40003),
        ({"limit": "1" * 5000}, 40003),
        ({"start": "2", "end": "1"}, 40003),
        ({"start": "soon"}, 40003),
        ({"direction": "sideways"}, 40003),
        ({"direction": "forwards", "from_serial": "p"}, 40003),
        ({"cursor": "foreign"}, 40011),
        ({"from_serial": "foreign"}, 90008),
        ({"fromSerial": "foreign"}, 90008),
    ],
)
async def test_history_that_is_asked_for_wrongly(api: Api, query: dict[str, str], expected: int) -> None:
    assert code(await api.ask("GET", "/channels/room/messages", query={"key": KEY} | query)) == expected


async def test_an_envelope_holds_status_headers_and_body(api: Api) -> None:
    api.engine.pages["room"] = held(2)
    query = {"key": KEY, "envelope": "json", "limit": "1"}
    response = await api.ask("GET", "/channels/room/messages", query=query, accept=MSGPACK)
    envelope = json(response)
    assert (response.status, envelope["statusCode"], len(envelope["response"])) == (200, 200, 1)
    assert envelope["headers"]["link"].count("rel=") == 3
    refused = json(await api.ask("GET", "/channels/room/messages", query={"envelope": "json"}))
    assert refused["statusCode"] == 401
    assert refused["response"]["error"]["code"] == 40101
    assert refused["headers"]["x-ably-errorcode"] == "40101"


async def test_status_of_a_channel(api: Api) -> None:
    status = json(await api.ask("GET", "/channels/room"))
    assert status["channelId"] == "room"
    assert status["status"]["isActive"] is True
    assert status["status"]["occupancy"]["metrics"]["subscribers"] == 1


async def test_a_channel_that_nobody_uses_is_there_for_whoever_asks(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.engine, "occupancy", lambda channel: {"subscribers": 0, "messages": 0})
    assert json(await api.ask("GET", "/channels/unused"))["status"]["isActive"] is True


# -- browsers --


async def test_a_browser_may_ask_and_read(api: Api) -> None:
    origin = "https://app.example"
    allowed = await api.ask("OPTIONS", "/channels/room/messages", query={}, origin=origin)
    assert allowed.status == 204
    assert "authorization" in field(allowed, "access-control-allow-headers")[0]
    assert "POST" in field(allowed, "access-control-allow-methods")[0]
    for response in (
        allowed,
        await api.ask("GET", "/time", origin=origin),
        await api.ask("GET", "/channels/room/messages", query={}, origin=origin),
    ):
        assert field(response, "access-control-allow-origin") == [origin]
        assert field(response, "access-control-allow-credentials") == ["true"]
        assert field(response, "vary") == ["origin"]


async def test_who_is_no_browser_is_not_told_about_origins(api: Api) -> None:
    assert not field(await api.ask("GET", "/time"), "access-control-allow-origin")


class TestAJwtWhoseKeysAreBeingFetched:
    @pytest.mark.parametrize(("waits", "status"), [(0, 200), (2, 200), (WAITS_MAX - 1, 200), (WAITS_MAX, 500)])
    async def test_is_waited_for_as_often_as_it_takes_and_no_more(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, waits: int, status: int
    ) -> None:
        """With several documents one may become due while another is fetched."""
        fetches: list[asyncio.Future[None]] = []
        identify = KnownCredentials.identify

        def awaiting(known: KnownCredentials, shown: Presented, now_ms: int) -> Identity:
            if len(fetches) < waits:
                fetches.append(asyncio.get_running_loop().create_future())
                asyncio.get_running_loop().call_soon(fetches[-1].set_result, None)
                raise KeysAwaited(fetches[-1])
            return identify(known, shown, now_ms)

        monkeypatch.setattr(KnownCredentials, "identify", awaiting)
        answer = await api.ask("GET", "/channels/room/messages")
        assert answer.status == status
        if status == 500:
            assert orjson.loads(answer.body)["error"]["code"] == 50000
