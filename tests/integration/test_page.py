"""The page at `/` in headless Chromium, as a person uses it."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from fanout import Config, Server
from tests.support.agents import LineProcess
from tests.support.node import KEY, NodeProcess, node_process
from tests.support.proxy import proxy_to

pytestmark = [pytest.mark.node, pytest.mark.browser]

WAIT_MS = 20_000


class Page:
    """One tab of the browser."""

    def __init__(self, browser: LineProcess, name: str) -> None:
        self._browser = browser
        self._name = name

    async def ask(self, op: str, **arguments: Any) -> Any:
        return await self._browser.ask(op, page=self._name, **arguments)

    async def await_state(self, state: str) -> None:
        script = "return document.querySelector('#state').dataset.state === argument"
        await self.ask("wait", script=script, argument=state, timeout=WAIT_MS)

    async def await_messages(self, selector: str, count: int) -> list[str]:
        """The texts of the elements, once there are so many."""
        script = "return document.querySelectorAll(argument[0]).length === argument[1]"
        await self.ask("wait", script=script, argument=[selector, count], timeout=WAIT_MS)
        texts: list[str] = await self.ask("texts", selector=selector)
        return texts

    async def write(self, text: str, name: str = "Ada") -> None:
        await self.ask("fill", selector="#name", text=name)
        await self.ask("fill", selector="#text", text=text)
        await self.ask("press", selector="#text", key="Enter")


async def open_page(browser: LineProcess, url: str, name: str = "page") -> Page:
    page = Page(browser, name)
    await page.ask("goto", url=url)
    return page


async def test_two_people_talk(node: NodeProcess, browser: LineProcess) -> None:
    ada = await open_page(browser, f"{node.url}/#key={KEY}", "ada")
    grace = await open_page(browser, f"{node.url}/#key={KEY}", "grace")
    await ada.await_state("connected")
    await grace.await_state("connected")
    await ada.write("hello <b>there</b>", "Ada")
    assert await grace.await_messages("#log .other .text", 1) == ["hello <b>there</b>"]
    await grace.write("hi", "Grace")
    assert await ada.await_messages("#log .other .text", 1) == ["hi"]
    assert await ada.ask("texts", selector="#log strong") == ["Ada (me)", "Grace"]
    assert await grace.ask("texts", selector="#log strong") == ["Ada", "Grace (me)"]
    assert await ada.ask("texts", selector="#pending li") == []


async def test_page_loads_nothing_from_elsewhere_and_reports_no_problem(
    node: NodeProcess, browser: LineProcess
) -> None:
    page = await open_page(browser, f"{node.url}/#key={KEY}")
    await page.await_state("connected")
    requests = await page.ask("requests")
    assert {httpx.URL(url).host for url in requests} == {"127.0.0.1"}
    assert await page.ask("problems") == []


async def test_key_leaves_the_address(node: NodeProcess, browser: LineProcess) -> None:
    page = await open_page(browser, f"{node.url}/#key={KEY}")
    await page.await_state("connected")
    assert await page.ask("evaluate", script="return location.href") == f"{node.url}/"


async def test_new_reader_sees_what_was_written_before(node: NodeProcess, browser: LineProcess) -> None:
    async with httpx.AsyncClient(auth=httpx.BasicAuth(*KEY.split(":")), base_url=node.url) as client:
        for text in ("one", "two"):
            done = await client.post("/channels/news/messages", json={"name": "headline", "data": text})
            assert done.status_code == 201
    page = await open_page(browser, f"{node.url}/?channel=news#key={KEY}")
    assert await page.await_messages("#log .text", 2) == ["one", "two"]
    assert await page.ask("texts", selector="#log .name") == ["headline", "headline"]


async def test_page_asks_for_a_key_when_the_one_it_has_is_refused(node: NodeProcess, browser: LineProcess) -> None:
    page = await open_page(browser, f"{node.url}/#key=app.full:wrong")
    await page.await_state("waiting for a key")
    await page.ask("fill", selector="#key", text=KEY)
    await page.ask("press", selector="#key", key="Enter")
    await page.await_state("connected")
    await page.ask("reload")
    await page.await_state("connected")


async def test_page_survives_a_killed_server(node: NodeProcess, browser: LineProcess) -> None:
    ada = await open_page(browser, f"{node.url}/#key={KEY}", "ada")
    grace = await open_page(browser, f"{node.url}/#key={KEY}", "grace")
    await ada.await_state("connected")
    await grace.await_state("connected")
    await ada.write("before")
    await grace.await_messages("#log .text", 1)
    await node.kill()
    await ada.await_state("disconnected")
    await ada.write("during")
    assert await ada.await_messages("#pending .text", 1) == ["during"]
    await node.start()
    assert await grace.await_messages("#log .text", 2) == ["before", "during"]
    await ada.write("after")
    assert await grace.await_messages("#log .text", 3) == ["before", "during", "after"]
    assert await ada.await_messages("#log .me .text", 3) == ["before", "during", "after"]
    assert await ada.ask("texts", selector=".notice") == []


async def test_message_whose_answer_was_lost_is_shown_once(node: NodeProcess, browser: LineProcess) -> None:
    async with proxy_to(node.port) as proxy:
        page = await open_page(browser, f"{proxy.url}/#key={KEY}")
        await page.await_state("connected")
        for number in range(10):
            await page.write(str(number))
            proxy.cut()
        texts = await page.await_messages("#log .text", 10)
        await page.await_messages("#pending .text", 0)
    assert texts == [str(number) for number in range(10)]


async def test_refused_message_stays_and_can_be_sent_again(tmp_path: Path, browser: LineProcess) -> None:
    reader = 'app.reader:secret={"*":["subscribe"]}'
    async with node_process(tmp_path, keys=(reader,)) as node:
        page = await open_page(browser, f"{node.url}/#key=app.reader:secret")
        await page.await_state("connected")
        await page.write("may I?")
        (status,) = await page.await_messages(".failed .status", 1)
        assert "not sent: not permitted" in status
        await page.ask("click", selector=".again")
        await page.await_messages(".failed .status", 1)


async def test_page_keeps_the_newest_messages_only(node: NodeProcess, browser: LineProcess) -> None:
    page = await open_page(browser, f"{node.url}/?channel=busy#key={KEY}")
    await page.write("attached")
    await page.await_messages("#log .text", 1)
    async with httpx.AsyncClient(auth=httpx.BasicAuth(*KEY.split(":")), base_url=node.url) as client:
        await client.post("/channels/busy/messages", json=[{"data": str(number)} for number in range(510)])
    script = "return document.querySelector('#log li:last-child .text')?.textContent === '509'"
    await page.ask("wait", script=script, argument=None, timeout=WAIT_MS)
    assert await page.ask("texts", selector="#log .text") == [str(number) for number in range(10, 510)]


async def test_message_that_cannot_be_shown_does_not_cost_the_others(tmp_path: Path, browser: LineProcess) -> None:
    async with Server(Config(port=0, data=tmp_path, key=(KEY,))) as server:
        await server.publish("odd", "before")
        await server.publish("odd", "!!!", encoding="base64")
        await server.publish("odd", "after")
        page = await open_page(browser, f"{server.url}/?channel=odd#key={KEY}")
        assert await page.await_messages("#log .text", 3) == ["before", "(cannot be shown)", "after"]


async def test_page_refuses_to_write_when_too_much_waits(node: NodeProcess, browser: LineProcess) -> None:
    page = await open_page(browser, f"{node.url}/#key={KEY}")
    await page.write("attached")
    await page.await_messages("#log .text", 1)
    await node.kill()
    await page.await_state("disconnected")
    script = """
        for (let number = 1; number <= 201; number++) {
            document.querySelector("#text").value = String(number);
            document.querySelector("#compose").requestSubmit();
        }
    """
    await page.ask("evaluate", script=script)
    (status,) = await page.await_messages(".failed .status", 1)
    assert "too many messages are waiting" in status
    await node.start()
    stored = await page.await_messages("#log .text", 201)
    assert stored == ["attached", *(str(number) for number in range(1, 201))]
