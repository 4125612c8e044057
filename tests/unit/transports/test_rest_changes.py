"""One message by its serial over REST, without sockets: changed, annotated, and read in all its versions."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from fanout import lookup
from fanout.transports.http import Request, Response
from fanout.transports.rest.changes import changes
from fanout.transports.router import Router
from tests.support.credentials import accepting
from tests.support.rest import rest_api
from tests.unit.changes.bed import CHANNEL, Bed, serial_at
from tests.unit.transports.front_door import KEY, FakePublisher

OWNER = "app.owner:secret"
HISTORIAN = "app.historian:secret"
SPEAKER = "app.speaker:secret"
LISTENER = "app.listener:secret"
LIMITED = (
    OWNER + '={"chat:*":["message-update-own","message-delete-own"]}',
    HISTORIAN + '={"chat:*":["history"]}',
    SPEAKER + '={"chat:*":["annotation-publish"]}',
    LISTENER + '={"chat:*":["annotation-subscribe"]}',
)
ROUTES = [("GET", ""), ("GET", "/versions"), ("GET", "/annotations"), ("GET", "/client-summary")]


class Door(Bed):
    """The bed, with REST before it."""

    def __init__(self) -> None:
        super().__init__()
        api = rest_api(authenticator=accepting(KEY, *LIMITED), engine=self.engine, publisher=FakePublisher())
        self.router = Router(changes(api, self.lookup, self.mutator))

    async def request(
        self, method: str, serial: str, path: str = "", body: Any = None, *, channel: str = CHANNEL, **query: str
    ) -> Response:
        target = f"/channels/{channel}/messages/{quote(serial)}{path}"
        return await self.router(
            Request(method, target, {"key": KEY, **query}, {}, b"" if body is None else orjson.dumps(body))
        )


@pytest.fixture
def door() -> Iterator[Door]:
    made = Door()
    yield made
    made.engine.close()


def json(response: Response, status: int = 200) -> Any:
    assert response.status == status, response.body
    return orjson.loads(response.body)


def code(response: Response) -> int:
    return int(orjson.loads(response.body)["error"]["code"])


async def test_a_message_is_changed_and_told_as_it_is(door: Door) -> None:
    serial = door.create("one", name="n")
    body = {"action": 1, "data": "two", "version": {"description": "typo"}}
    assert json(await door.request("PATCH", serial, body=body)) == {"versionSerial": serial_at(1)}
    message = json(await door.request("GET", serial))
    assert (message["serial"], message["action"], message["data"], message["name"]) == (serial, 1, "two", "n")
    assert message["version"]["serial"] == serial_at(1)
    assert message["version"]["description"] == "typo"


async def test_versions_come_page_by_page(door: Door) -> None:
    serial = door.create("0")
    for number in range(1, 4):
        await door.request("PATCH", serial, body={"action": 1, "data": str(number)})
    first = await door.request("GET", serial, "/versions", limit="3")
    assert [version["data"] for version in json(first)] == ["0", "1", "2"]
    (following,) = [text for name, text in first.headers if name == "link" and 'rel="next"' in text]
    assert "cursor=3" in following
    last = await door.request("GET", serial, "/versions", limit="3", cursor="3")
    assert [version["data"] for version in json(last)] == ["3"]
    assert not [text for name, text in last.headers if name == "link" and 'rel="next"' in text]


async def test_annotations_are_made_told_and_summed_up(door: Door) -> None:
    serial = door.create()
    said = [{"type": "seen:flag.v1", "clientId": name, "data": "x"} for name in ("ann", "bob")]
    answer = json(await door.request("POST", serial, "/annotations", said), 201)
    assert answer == {"channel": CHANNEL, "messageSerial": serial, "serials": [serial_at(1), serial_at(2)]}
    told = json(await door.request("GET", serial, "/annotations"))
    assert [(one["action"], one["clientId"], one["messageSerial"], one["data"]) for one in told] == [
        (0, "ann", serial, "x"),
        (0, "bob", serial, "x"),
    ]
    (alone,) = json(await door.request("GET", serial, "/annotations", limit="1", cursor="1"))
    assert alone["serial"] == serial_at(2)
    everybody = {"seen:flag.v1": {"total": 2, "clientIds": ["ann", "bob"], "clipped": False}}
    assert json(await door.request("GET", serial, "/client-summary")) == everybody
    bob = json(await door.request("GET", serial, "/client-summary", forClientId="bob"))
    assert bob["seen:flag.v1"]["clientIds"] == ["bob"]


async def test_an_annotation_is_taken_back(door: Door) -> None:
    serial = door.create()
    for action in (0, 1):
        said = {"type": "seen:flag.v1", "clientId": "ann", "action": action}
        json(await door.request("POST", serial, "/annotations", said), 201)
    assert json(await door.request("GET", serial, "/client-summary")) == {}


async def test_ones_own_messages_go_by_client_id(door: Door) -> None:
    anns, bobs = door.create(client_id="ann"), door.create(client_id="bob")
    for action in (1, 2):
        json(await door.request("PATCH", anns, body={"action": action}, key=OWNER, clientId="ann"))
        refused = await door.request("PATCH", bobs, body={"action": action}, key=OWNER, clientId="ann")
        assert (refused.status, code(refused)) == (401, 40160)
    assert code(await door.request("PATCH", anns, body={"action": 1}, key=OWNER)) == 40161
    json(await door.request("PATCH", bobs, body={"action": 1}))


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "", HISTORIAN),
        ("GET", "/versions", HISTORIAN),
        ("GET", "/client-summary", HISTORIAN),
        ("GET", "/annotations", LISTENER),
        ("POST", "/annotations", SPEAKER),
        ("PATCH", "", OWNER),
    ],
)
async def test_each_route_takes_its_right(door: Door, method: str, path: str, allowed: str) -> None:
    serial = door.create(client_id="ann")
    body = {"POST": {"type": "likes:total.v1"}, "PATCH": {"action": 1}}.get(method)
    for key in (OWNER, HISTORIAN, SPEAKER, LISTENER):
        response = await door.request(method, serial, path, body, key=key, clientId="ann")
        if key == allowed:
            json(response, 201 if method == "POST" else 200)
        else:
            assert (response.status, code(response)) == (401, 40160)


@pytest.mark.parametrize("serial", ["nonsense", serial_at(99), "0000000000000000-0-another topic"])
async def test_a_message_that_is_not_there(door: Door, serial: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "AHEAD_S", 0.0)
    answers = [await door.request(method, serial, path) for method, path in ROUTES]
    answers.append(await door.request("PATCH", serial, body={"action": 1}))
    answers.append(await door.request("POST", serial, "/annotations", {"type": "likes:total.v1"}))
    assert {(answer.status, code(answer)) for answer in answers} == {(404, 40400)}


async def test_messages_of_other_namespaces_stay_as_they_are(door: Door) -> None:
    serial = door.create(channel="news")
    answers = [
        await door.request("PATCH", serial, body={"action": 1}, channel="news"),
        await door.request("POST", serial, "/annotations", {"type": "likes:total.v1"}, channel="news"),
    ]
    assert {(answer.status, code(answer)) for answer in answers} == {(400, 93002)}
    assert json(await door.request("GET", serial, channel="news"))["data"] == "one"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"data": "x"}, 40000),
        ({"action": 0}, 40000),
        ({"action": 4}, 40000),
        ({"action": 5}, 40013),
        ({"action": 1, "data": 7}, 40013),
        ({"action": 1, "version": "x"}, 40003),
        ({"action": 1, "data": "x" * 70_000}, 40009),
        ([{"action": 1}], 40001),
        (7, 40001),
    ],
)
async def test_a_change_that_makes_no_sense(door: Door, body: Any, expected: int) -> None:
    assert code(await door.request("PATCH", door.create(), body=body)) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [([], 40000), ({}, 40000), ({"type": "seen:flag.v1"}, 40161), ({"type": "a", "count": -1}, 40000), (7, 40001)],
)
async def test_an_annotation_that_makes_no_sense(door: Door, body: Any, expected: int) -> None:
    assert code(await door.request("POST", door.create(), "/annotations", body)) == expected


async def test_a_serial_that_is_too_long(door: Door) -> None:
    assert code(await door.request("GET", "s" * 400)) == 40003
