"""The list of channels as SDKs ask for it, without sockets."""

import asyncio
import threading
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.unit.transports.front_door import KEY, READER
from tests.unit.transports.test_rest import Api, api, code, field, json

__all__ = ["api"]


@pytest.fixture
def used(api: Api) -> Api:
    api.engine.pages = {name: [] for name in ("a", "b:1", "b:2", "b:3", "c,>")}
    return api


async def listed(api: Api, **query: str) -> Any:
    return json(await api.ask("GET", "/channels", query={"key": KEY, **query}))


async def test_names_in_order(used: Api) -> None:
    assert await listed(used) == ["a", "b:1", "b:2", "b:3", "c,>"]
    assert await listed(used, prefix="b:") == ["b:1", "b:2", "b:3"]
    assert await listed(used, v="2", by="id", limit="1") == ["a"]


@pytest.mark.parametrize("query", [{"by": "value"}, {"v": "2"}])
async def test_details(used: Api, query: dict[str, str]) -> None:
    details = await listed(used, prefix="b:1", **query)
    assert [one["channelId"] for one in details] == ["b:1"]
    assert details[0]["status"]["occupancy"]["metrics"]["subscribers"] >= 0


async def test_links_lead_through_all_pages(used: Api) -> None:
    found: list[str] = []
    query = {"limit": "2"}
    while query:
        response = await used.ask("GET", "/channels", query={"key": KEY, **query})
        found += json(response)
        following = [link for link in field(response, "link") if link.endswith('rel="next"')]
        assert all("," not in link and link.count(">") == 1 for link in following)
        query = dict(parse_qsl(following[0].partition("?")[2].partition(">")[0])) if following else {}
    assert found == ["a", "b:1", "b:2", "b:3", "c,>"]


async def test_one_list_at_a_time(used: Api) -> None:
    begun, go_on = threading.Event(), threading.Event()
    names = used.engine.names

    def slow(realm: str, prefix: str, after: str, limit: int) -> list[str]:
        begun.set()
        go_on.wait(10)
        return names(realm, prefix, after, limit)

    used.engine.names = slow  # type: ignore[method-assign]
    first = asyncio.create_task(listed(used))
    await asyncio.to_thread(begun.wait, 10)
    assert code(await used.ask("GET", "/channels")) == 42912
    go_on.set()
    assert len(await first) == 5
    assert len(await listed(used)) == 5


@pytest.mark.parametrize("query", [{"by": "name"}, {"limit": "1001"}, {"limit": "x"}])
async def test_what_cannot_be_asked(used: Api, query: dict[str, str]) -> None:
    assert code(await used.ask("GET", "/channels", query={"key": KEY, **query})) == 40003


async def test_it_takes_the_right_to_all_channels(used: Api) -> None:
    assert code(await used.ask("GET", "/channels", query={"key": READER})) == 40160
