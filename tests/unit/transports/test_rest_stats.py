"""Statistics as SDKs ask for them, without sockets."""

from urllib.parse import parse_qsl

import pytest

from fanout.stats import bounds_of
from tests.unit.transports.front_door import KEY, READER
from tests.unit.transports.test_rest import Api, api, code, field, json

__all__ = ["api"]

HOUR = "2025-02-03:15"


@pytest.fixture
def three_minutes(api: Api) -> Api:
    for minute in (3, 4, 5):
        api.stats.give("app", bounds_of(f"{HOUR}:0{minute}")[0], {"n": minute})
    return api


async def asked(api: Api, **query: str) -> list[int]:
    response = await api.ask("GET", "/stats", query={"key": KEY, **query})
    return [interval["entries"]["n"] for interval in json(response)]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, [5, 4, 3]),
        ({"direction": "forwards"}, [3, 4, 5]),
        ({"start": f"{HOUR}:04", "direction": "forwards"}, [4, 5]),
        ({"end": f"{HOUR}:04"}, [4, 3]),
        ({"start": HOUR, "end": f"{HOUR}:04", "by": "hour"}, [12]),
        ({"unit": "month"}, [12]),
        ({"start": str(bounds_of(f"{HOUR}:05")[0])}, [5]),
        ({"limit": "1"}, [5]),
    ],
)
async def test_times_units_and_limits(three_minutes: Api, query: dict[str, str], found: list[int]) -> None:
    assert await asked(three_minutes, **query) == found


@pytest.mark.parametrize("direction", ["forwards", "backwards"])
async def test_links_lead_through_all_pages(three_minutes: Api, direction: str) -> None:
    found, query = [], {"limit": "1", "direction": direction}
    for _ in range(3):
        response = await three_minutes.ask("GET", "/stats", query={"key": KEY, **query})
        found += [interval["entries"]["n"] for interval in json(response)]
        following = [link for link in field(response, "link") if link.endswith('rel="next"')]
        query = dict(parse_qsl(following[0].partition("?")[2].partition(">")[0])) if following else {}
    assert found == ([3, 4, 5] if direction == "forwards" else [5, 4, 3])
    assert query == {}


@pytest.mark.parametrize(
    "query",
    [
        {"unit": "week"},
        {"direction": "up"},
        {"start": "x"},
        {"start": "9" * 17},
        {"limit": "0"},
        {"limit": "1001"},
        {"start": "2", "end": "1"},
        {"cursor": "x"},
    ],
)
async def test_what_cannot_be_asked(api: Api, query: dict[str, str]) -> None:
    assert code(await api.ask("GET", "/stats", query={"key": KEY, **query})) == 40003


async def test_it_takes_the_right_to_statistics_on_everything(api: Api) -> None:
    assert code(await api.ask("GET", "/stats", query={"key": READER})) == 40160
