"""Streams as programs of others read them: the browser's own EventSource, a client from PyPI; and over TLS."""

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from httpx_sse import EventSource, ServerSentEvent, aconnect_sse

from tests.support.agents import LineProcess
from tests.support.certificates import make_certificates
from tests.support.node import KEY, NodeProcess, node_process
from tests.support.proxy import proxy_to

pytestmark = pytest.mark.node

WAIT_MS = 20_000
QUERY = {"v": "3", "key": KEY}
OPEN = """
window.events = [];
const source = window.source = new EventSource(argument);
source.onmessage = ({ data, lastEventId }) => window.events.push([JSON.parse(data).channel, JSON.parse(data).data]);
source.onopen = () => (window.opened = (window.opened ?? 0) + 1);
return true;
"""


async def publish(node: NodeProcess, channel: str, *texts: str, **client: Any) -> None:
    async with httpx.AsyncClient(base_url=node.url, auth=httpx.BasicAuth(*KEY.split(":")), **client) as http:
        for text in texts:
            answer = await http.post(f"/channels/{channel}/messages", json={"data": text})
            assert answer.status_code == 201


@pytest.mark.browser
@pytest.mark.parametrize("channels", ["c", "c,d"])
async def test_event_source_goes_on_by_itself_where_it_was_cut(
    node: NodeProcess, browser: LineProcess, channels: str
) -> None:
    names = channels.split(",")
    async with proxy_to(node.port) as proxy:
        await browser.ask("goto", page="page", file="agent.html")  # of another origin
        url = str(httpx.URL(f"{proxy.url}/sse", params=QUERY | {"channels": channels}))
        await browser.ask("wait", page="page", script=OPEN, argument=url, timeout=WAIT_MS)
        for opened in (1, 2, 3):
            script = "return window.opened === argument"
            await browser.ask("wait", page="page", script=script, argument=opened, timeout=WAIT_MS)
            texts = [f"{opened}.{number}" for number in range(20)]
            for name in names:
                await publish(node, name, *texts[:10])
            script = "return window.events.length >= argument"
            seen = (opened - 1) * 20 * len(names) + 10 * len(names)
            await browser.ask("wait", page="page", script=script, argument=seen, timeout=WAIT_MS)
            proxy.cut()
            for name in names:
                await publish(node, name, *texts[10:])
        script = "return window.events.length >= argument"
        await browser.ask("wait", page="page", script=script, argument=60 * len(names), timeout=WAIT_MS)
    expected = [f"{opened}.{number}" for opened in (1, 2, 3) for number in range(20)]
    for name in names:
        script = (
            "return JSON.stringify(window.events.filter(([c]) => c === argument[0]).map(([, d]) => d)) === argument[1]"
        )
        argument = [name, json.dumps(expected, separators=(",", ":"))]
        await browser.ask("wait", page="page", script=script, argument=argument, timeout=WAIT_MS)


async def test_over_tls(tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    async with node_process(tmp_path, certificates=certificates) as node:
        context = certificates.client()
        large = "x" * 50_000
        texts = [f"{number} {large}" for number in range(40)]
        url, query = f"{node.url}/sse", QUERY | {"channels": "c", "enveloped": "false"}
        async with httpx.AsyncClient(verify=context) as http, http.stream("GET", url, params=query) as answer:
            assert answer.headers["content-type"] == "text/event-stream"
            lines = answer.aiter_lines()
            assert (await anext(lines)).startswith("id: ")
            await publish(node, "c", *texts, verify=context)
            got = []
            async with asyncio.timeout(20):
                async for line in lines:
                    if line.startswith("data: "):
                        got.append(line.removeprefix("data: "))
                    if len(got) == len(texts):
                        break
            assert got == texts


async def some(source: EventSource, count: int) -> list[ServerSentEvent]:
    """The next events that have data: this client shows ids alone, too."""
    found = []
    async with asyncio.timeout(20):
        async for event in source.aiter_sse():
            if event.data:
                found.append(event)
            if len(found) == count:
                break
    return found


async def test_a_client_from_pypi(node: NodeProcess) -> None:
    query = QUERY | {"channels": "c,d"}
    async with httpx.AsyncClient(base_url=node.url) as http:
        async with aconnect_sse(http, "GET", "/sse", params=query) as source:
            await publish(node, "c", "line\none", "two")
            first, second = await some(source, 2)
            assert (first.event, first.json()["data"], second.json()["data"]) == ("message", "line\none", "two")
        await publish(node, "d", "three")
        async with aconnect_sse(http, "GET", "/sse", params=query, headers={"last-event-id": first.id}) as source:
            assert {event.json()["data"] for event in await some(source, 2)} == {"two", "three"}
