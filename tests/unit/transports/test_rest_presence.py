"""Presence over REST, on the native engine: who is there, who came and went, page by page."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qsl

import orjson
import pytest

from fanout._core import Engine
from fanout.presence.records import Key, event_record, leave_record
from fanout.routing import PRESENCE_TOPIC
from fanout.transports.http import Request, Response
from fanout.transports.replies import MEDIA_TYPES
from fanout.transports.rest import rest
from fanout.transports.rest.batch import CHANNELS_MAX, MEMBERS_MAX
from fanout.transports.router import Router
from fanout.types import PresenceEvent, Record
from fanout.wire import MSGPACK
from tests.support.credentials import accepting
from tests.support.rest import rest_api
from tests.unit.transports.front_door import KEY, PUBLISHER, READER, FakePublisher

HISTORIAN = "app.historian:secret"


class Bed:
    def __init__(self) -> None:
        self.engine = Engine(io_threads=0, secret=b"0123456789abcdef")
        self.engine.presence_topic(PRESENCE_TOPIC)
        self.engine.partition(PRESENCE_TOPIC, bytes(16), 0, 0)
        authenticator = accepting(
            KEY,
            READER + '={"room":["subscribe"]}',
            PUBLISHER + '={"room":["publish"]}',
            HISTORIAN + '={"room":["history"]}',
        )
        needs = rest_api(authenticator=authenticator, engine=self.engine, publisher=FakePublisher())
        self.router = Router(rest(needs))
        self.offset = 0

    def read(self, client: str, action: str = "enter", connection: str = "c", data: str | bytes | None = None) -> None:
        """The node reads what somebody does on the channel `room`."""
        key = Key("room", connection, client)
        event = PresenceEvent(action, f"{connection}:{self.offset}:0", client, data)
        written = leave_record(key, "n", 0) if action == "gone" else event_record(key, event, "n")
        record = Record(
            PRESENCE_TOPIC, 0, self.offset, -1, NOW_MS + self.offset, written.key, written.value, written.headers
        )
        self.engine.records([record])
        self.offset += 1

    async def ask(self, path: str, key: str = KEY, accept: str = "application/json", **query: str) -> Response:
        return await self.router(Request("GET", path, {"key": key, **query}, {"accept": accept}, b""))

    async def pages(self, path: str, **query: str) -> list[list[dict[str, Any]]]:
        """Every page, as its links lead."""
        found, following = [], dict(query)
        while True:
            response = await self.ask(path, **following)
            found.append(json(response))
            nexts = [text for name, text in response.headers if name == "link" and text.endswith('rel="next"')]
            if not nexts:
                return found
            target = nexts[0].partition(">")[0]
            assert target.startswith("<./" + path.rpartition("/")[2] + "?")
            following = dict(parse_qsl(target.partition("?")[2]))


@pytest.fixture
def bed() -> Iterator[Bed]:
    made = Bed()
    yield made
    made.engine.close()


NOW_MS = 1_800_000_000_000
MEMBERS = "/channels/room/presence"
HISTORY = "/channels/room/presence/history"


def json(response: Response) -> Any:
    assert response.status == 200, response.body
    return orjson.loads(response.body)


def code(response: Response) -> int:
    return int(orjson.loads(response.body)["error"]["code"])


async def test_members_come_with_what_they_said_last(bed: Bed) -> None:
    bed.read("bob", data="hi")
    bed.read("bob", "update", data="busy")
    assert json(await bed.ask(MEMBERS)) == [
        {
            "action": 1,
            "id": "c:1:0",
            "clientId": "bob",
            "connectionId": "c",
            "timestamp": NOW_MS + 1,
            "data": "busy",
        }
    ]


async def test_binary_data_is_base64_in_json(bed: Bed) -> None:
    bed.read("bob", data=b"\xff")
    (member,) = json(await bed.ask(MEMBERS))
    assert (member["data"], member["encoding"]) == ("/w==", "base64")
    response = await bed.ask(MEMBERS, accept="application/x-msgpack")
    assert MEDIA_TYPES[response.content_type] == MSGPACK
    assert b"\xff" in response.body


async def test_nobody_is_an_empty_list(bed: Bed) -> None:
    assert json(await bed.ask(MEMBERS)) == json(await bed.ask(HISTORY)) == []


async def test_members_can_be_those_of_a_client_or_connection(bed: Bed) -> None:
    for connection in ("one", "two"):
        for client in ("a", "b"):
            bed.read(client, connection=connection)
    assert [one["connectionId"] for one in json(await bed.ask(MEMBERS, clientId="a"))] == ["one", "two"]
    assert [one["clientId"] for one in json(await bed.ask(MEMBERS, connectionId="two"))] == ["a", "b"]
    (member,) = json(await bed.ask(MEMBERS, connectionId="two", clientId="b"))
    assert (member["connectionId"], member["clientId"]) == ("two", "b")


async def test_members_of_a_large_set_come_page_by_page(bed: Bed) -> None:
    for number in range(25):
        bed.read(f"{number:02}")
    pages = await bed.pages(MEMBERS, limit="10")
    assert [len(page) for page in pages] == [10, 10, 5]
    assert [member["clientId"] for page in pages for member in page] == [f"{number:02}" for number in range(25)]
    assert [len(page) for page in await bed.pages(MEMBERS, limit="10", clientId="24")][-1] == 1


async def test_one_of_very_many_is_found_though_a_page_looks_at_few(bed: Bed) -> None:
    for number in range(10_001):
        bed.read(f"{number:05}")
    assert [one["clientId"] for one in json(await bed.ask(MEMBERS, clientId="10000"))] == ["10000"]


async def test_history_tells_who_came_and_went_newest_first(bed: Bed) -> None:
    bed.read("bob", data="hi")
    bed.read("bob", "update", data="busy")
    bed.read("bob", "gone")
    events = json(await bed.ask(HISTORY))
    assert [(one["action"], one["data"]) for one in events] == [(3, "busy"), (4, "busy"), (2, "hi")]
    forwards = json(await bed.ask(HISTORY, direction="forwards", start=str(NOW_MS + 1)))
    assert [one["action"] for one in forwards] == [4, 3]
    pages = await bed.pages(HISTORY, limit="2")
    assert [[one["action"] for one in page] for page in pages] == [[3, 4], [2]]


@pytest.mark.parametrize(
    ("path", "query", "expected"),
    [
        (MEMBERS, {"limit": "1001"}, 40003),
        (MEMBERS, {"cursor": "!"}, 40011),
        (HISTORY, {"limit": "0"}, 40003),
        (HISTORY, {"direction": "up"}, 40003),
        (HISTORY, {"start": "2", "end": "1"}, 40003),
        (HISTORY, {"cursor": "!"}, 40011),
        (HISTORY, {"from_serial": "p"}, 40003),
        (HISTORY, {"fromSerial": "p"}, 40003),
        ("/channels/%3Aroom/presence", {}, 40010),
    ],
)
async def test_what_makes_no_sense_is_refused(bed: Bed, path: str, query: dict[str, str], expected: int) -> None:
    assert code(await bed.ask(path, **query)) == expected


@pytest.mark.parametrize(
    ("path", "key", "allowed"),
    [
        (MEMBERS, READER, True),
        (MEMBERS, PUBLISHER, False),
        (MEMBERS, HISTORIAN, False),
        (HISTORY, HISTORIAN, True),
        (HISTORY, READER, False),
    ],
)
async def test_the_capability_decides(bed: Bed, path: str, key: str, allowed: bool) -> None:
    response = await bed.ask(path, key)
    assert response.status == 200 if allowed else code(response) == 40160


# -- of many channels at once --


async def many(bed: Bed, channels: str, **query: str) -> Response:
    return await bed.router(Request("GET", "/presence", {"key": KEY, "channels": channels, **query}, {}, b""))


async def test_each_channel_has_its_members_or_why_not(bed: Bed) -> None:
    bed.read("a")
    bed.read("b")
    answer = orjson.loads((await many(bed, "room,empty,[bad", key=READER)).body)
    assert (answer["successCount"], answer["failureCount"]) == (1, 2)
    room, empty, bad = answer["results"]
    assert [member["clientId"] for member in room["presence"]] == ["a", "b"]
    assert (empty["error"]["code"], bad["error"]["code"]) == (40160, 40010)


async def test_another_separator(bed: Bed) -> None:
    answer = orjson.loads((await many(bed, "a,b|room", separator="|")).body)
    assert [result["channel"] for result in answer["results"]] == ["a,b", "room"]
    assert [result["presence"] for result in answer["results"]] == [[], []]


async def test_clients_of_version_2_get_one_list(bed: Bed) -> None:
    bed.read("a")
    (room,) = orjson.loads((await many(bed, "room", v="2")).body)
    assert room["channel"] == "room"
    refused = await many(bed, "room,other", v="2", key=READER)
    assert (refused.status, orjson.loads(refused.body)["error"]["code"]) == (400, 40020)


@pytest.mark.parametrize("channels", ["", ",", ",".join(map(str, range(CHANNELS_MAX + 1)))])
async def test_how_many_channels(bed: Bed, channels: str) -> None:
    assert orjson.loads((await many(bed, channels)).body)["error"]["code"] == 40003


async def test_a_channel_with_more_members_than_one_answer_has(bed: Bed) -> None:
    for number in range(MEMBERS_MAX):
        bed.read(f"client-{number}")
    (room,) = orjson.loads((await many(bed, "room")).body)["results"]
    assert len(room["presence"]) == MEMBERS_MAX
    both = orjson.loads((await many(bed, "room,room")).body)["results"]
    assert [result.get("error", {}).get("code") for result in both] == [None, 40009]


# -- in bytes --


@pytest.mark.parametrize("path", ["", "/history"])
async def test_pages_are_bounded_in_bytes(bed: Bed, path: str) -> None:
    for number in range(40):
        bed.read(f"client-{number}", data="x" * 60_000)
    found: list[str] = []
    query = {"limit": "1000", "key": KEY}
    while query:
        response = await bed.router(Request("GET", f"/channels/room/presence{path}", query, {}, b""))
        assert len(response.body) < 1_200_000
        found += [member["clientId"] for member in orjson.loads(response.body)]
        following = [link for name, link in response.headers if name == "link" and link.endswith('rel="next"')]
        query = dict(parse_qsl(following[0].partition("?")[2].partition(">")[0])) | {"key": KEY} if following else {}
    assert sorted(found) == sorted(f"client-{number}" for number in range(40))


async def test_many_channels_are_bounded_in_bytes(bed: Bed) -> None:
    for number in range(60):
        bed.read(f"client-{number}", data="x" * 60_000)
    first, second = orjson.loads((await many(bed, "room,room")).body)["results"]
    assert len(first["presence"]) == 60
    assert second["error"]["code"] == 40009
