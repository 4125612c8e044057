"""Publishing to many channels in one request, without sockets."""

from typing import Any

import orjson
import pytest

from fanout.errors import error
from fanout.transports.rest.batch import CHANNELS_MAX, PUBLISHES_MAX, SPECIFICATIONS_MAX
from tests.unit.transports.front_door import KEY, PUBLISHER
from tests.unit.transports.test_rest import Api, api, code, field, json

__all__ = ["api"]


async def publish(api: Api, body: Any, version: str = "6", key: str = KEY) -> Any:
    return await api.ask("POST", "/messages", orjson.dumps(body), {"key": key, "v": version})


async def test_every_channel_gets_every_message(api: Api) -> None:
    response = await publish(api, {"channels": ["a", "b"], "messages": [{"data": "1"}, {"data": "2"}]})
    assert response.status == 201
    (result,) = json(response)
    assert (result["successCount"], result["failureCount"]) == (2, 0)
    assert [(one["channel"], len(one["serials"])) for one in result["results"]] == [("a", 2), ("b", 2)]
    assert [(channel, [m.data for m in messages]) for channel, messages in api.publisher.published] == [
        ("a", ["1", "2"]),
        ("b", ["1", "2"]),
    ]
    assert api.publisher.published[0][1][0].id == result["results"][0]["messageId"] + ":0"


async def test_one_channel_and_one_message_need_no_list(api: Api) -> None:
    first, second = json(
        await publish(api, [{"channels": "a", "messages": {"data": "1"}}, {"channels": "b", "messages": {"data": "2"}}])
    )
    assert (first["successCount"], second["successCount"]) == (1, 1)


async def test_a_channel_that_fails_is_told_beside_the_others(api: Api) -> None:
    body = {"channels": ["room", "elsewhere", "[bad"], "messages": {"data": "1"}}
    (result,) = json(await publish(api, body, key=PUBLISHER))
    assert (result["successCount"], result["failureCount"]) == (1, 2)
    assert [one.get("error", {}).get("code") for one in result["results"]] == [None, 40160, 40010]
    assert len(api.publisher.published) == 1


async def test_what_the_log_refuses_is_the_channels_error(api: Api) -> None:
    api.publisher.refusal = error(42910)
    (result,) = json(await publish(api, {"channels": "a", "messages": {"data": "1"}}))
    assert result["results"] == [{"channel": "a", "error": error(42910).to_wire()}]


async def test_version_2_has_one_flat_list(api: Api) -> None:
    body = [{"channels": ["room"], "messages": {"data": "1"}}, {"channels": "room", "messages": {"data": "2"}}]
    flat = json(await publish(api, body, "2"))
    assert [one["channel"] for one in flat] == ["room", "room"]


async def test_version_2_fails_when_a_channel_does(api: Api) -> None:
    response = await publish(api, {"channels": ["room", "elsewhere"], "messages": {"data": "1"}}, "2", PUBLISHER)
    assert response.status == 400
    answer = json(response)
    assert answer["error"]["code"] == 40020
    assert field(response, "x-ably-errorcode") == ["40020"]
    assert [("error" in one) for one in answer["batchResponse"]] == [False, True]


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ({"channels": [], "messages": {}}, 40003),
        ({"channels": ["a"] * (CHANNELS_MAX + 1), "messages": {}}, 40003),
        ([{"channels": "a", "messages": {}}] * (SPECIFICATIONS_MAX + 1), 40003),
        ([{"channels": ["a"] * 100, "messages": [{}] * 100}, {"channels": "a", "messages": {}}], 40034),
        ({"channels": "a", "messages": []}, 40000),
        ({"channels": "a", "messages": {"name": 1}}, 40016),
        ({"channels": "a", "messages": {"connectionKey": "k"}}, 40006),
        ({"channels": "a"}, 40001),
        ({"channels": [1], "messages": {}}, 40001),
        ("text", 40001),
    ],
)
async def test_what_is_wrong_with_a_specification_refuses_the_request(api: Api, body: Any, number: int) -> None:
    assert code(await publish(api, body)) == number
    assert not api.publisher.published


def test_the_largest_request_is_reached_above() -> None:
    assert PUBLISHES_MAX == 100 * 100


async def test_who_has_no_key_is_refused(api: Api) -> None:
    assert code(await publish(api, {"channels": "a", "messages": {}}, key="x.y:z")) == 40101
