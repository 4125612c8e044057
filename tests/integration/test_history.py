"""Looking back over REST, beyond what memory holds: every message once and in order, from either log, by any node."""

import asyncio
import time
from typing import Any
from urllib.parse import parse_qsl

import httpx
import pytest

from fanout import Server
from tests.support.one_log import KEY, OneLog
from tests.support.sources import eventually

COUNT = 400


async def pages(nodes: list[Server], channel: str, **query: Any) -> list[list[dict[str, Any]]]:
    """Page after page by the links, each from the next node."""
    found: list[list[dict[str, Any]]] = []
    asked: dict[str, Any] = query
    while True:
        async with httpx.AsyncClient(base_url=nodes[len(found) % len(nodes)].url, timeout=60) as http:
            response = await http.get(f"/channels/{channel}/messages", params={"key": KEY, **asked})
        assert response.status_code == 200, response.text
        found.append(response.json())
        links = [link for link in response.headers.get_list("link", split_commas=True) if 'rel="next"' in link]
        if not links:
            return found
        asked = dict(parse_qsl(links[0].strip().removeprefix("<./messages?").partition(">")[0]))


def texts(found: list[list[dict[str, Any]]]) -> list[str]:
    return [message["data"] for page in found for message in page]


async def fill(node: Server, count: int, start: int = 0) -> list[str]:
    """Publishes so many to `c`, with others between."""
    numbers = range(start, start + count)
    for first in range(start, start + count, 50):
        batch = [number for number in numbers if first <= number < first + 50]
        await asyncio.gather(*(node.publish("other", "x") for _ in batch))
        await asyncio.gather(*(node.publish("c", str(number)) for number in batch))  # in this order
    return [str(number) for number in numbers]


async def forgotten(node: Server) -> None:
    """Waits until memory holds nothing of what was published."""
    await eventually(lambda: node.stats()["messages"] == node.stats()["messages_expired"])


async def test_everything_once_and_in_order_long_after_memory_forgot_it(log: OneLog) -> None:
    node = await log.node()
    expected = await fill(node, COUNT)
    await forgotten(node)
    expected += await fill(node, 20, COUNT)  # which memory still holds
    for direction, wanted in [("backwards", expected[::-1]), ("forwards", expected)]:
        found = await pages([node], "c", direction=direction, limit=37)
        assert texts(found) == wanted
        assert all(len(page) == 37 for page in found[:-1])


async def test_a_page_of_one_node_is_followed_by_that_of_another(log: OneLog, request: pytest.FixtureRequest) -> None:
    first = await log.node(history="1h")
    expected = await fill(first, 100)
    nodes = [first]
    if "kafka" in request.node.name:
        nodes.append(await log.node(history="1s"))
    else:  # whose log belongs to one node at a time
        await first.__aexit__(None, None, None)
        nodes = [await log.node(history="1s")]
    assert texts(await pages(nodes, "c", limit=7)) == expected[::-1]
    assert texts(await pages(nodes, "c", limit=7, direction="forwards")) == expected


async def test_messages_between_two_times_from_the_log(log: OneLog) -> None:
    node = await log.node()
    await fill(node, 10)
    await asyncio.sleep(0.05)
    start = time.time_ns() // 1_000_000
    expected = await fill(node, 30, 10)
    end = time.time_ns() // 1_000_000
    await asyncio.sleep(0.05)
    await fill(node, 10, 40)
    await forgotten(node)
    between = {"start": start, "end": end, "limit": 12}
    assert texts(await pages([node], "c", **between)) == expected[::-1]
    assert texts(await pages([node], "c", **between, direction="forwards")) == expected


async def test_until_attach_joins_what_was_before_with_what_comes(log: OneLog) -> None:
    node = await log.node()
    before = await fill(node, 60)
    await forgotten(node)
    before += await fill(node, 5, 60)
    assert texts(await pages([node], "c", limit=1000)) == before[::-1]  # which waits until it has been read back
    attached = node.position("c")
    await fill(node, 20, 65)
    assert texts(await pages([node], "c", from_serial=attached, limit=9)) == before[::-1]


async def test_a_message_changed_long_ago_is_shown_as_it_is_now(log: OneLog) -> None:
    node = await log.node()
    serials = [await node.publish("notes:a", text) for text in ("one", "two", "three")]
    async with httpx.AsyncClient(base_url=node.url, params={"key": KEY}) as http:
        for serial, action, data in ((serials[0], 1, "ONE"), (serials[1], 5, "+"), (serials[2], 2, None)):
            asked = {"action": action} if data is None else {"action": action, "data": data}
            (await http.patch(f"/channels/notes:a/messages/{serial}", json=asked)).raise_for_status()
    await forgotten(node)
    found = await pages([node], "notes:a", direction="forwards", limit=2)
    assert [(one["action"], one["data"]) for page in found for one in page] == [(1, "ONE"), (1, "two+"), (2, "three")]
