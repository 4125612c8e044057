"""The routes of the page, without a server."""

import orjson
import pytest

from fanout.transports.http import Request, Response
from fanout.transports.pages import pages


async def get(path: str, demo_key: str | None = None, host: str = "127.0.0.1:8080") -> Response:
    handlers = {(method, at): handler for method, at, handler in pages(demo_key)}
    return await handlers["GET", path](Request("GET", path, {}, {"host": host}))


@pytest.mark.parametrize(
    ("path", "media_type", "beginning"),
    [
        ("/", "text/html; charset=utf-8", b"<!doctype html>"),
        ("/style.css", "text/css; charset=utf-8", b":root {"),
        ("/chat.js", "text/javascript; charset=utf-8", b"/**"),
        ("/client.js", "text/javascript; charset=utf-8", b"/**"),
        ("/icon.svg", "image/svg+xml", b"<svg "),
    ],
)
async def test_page_serves_its_files(path: str, media_type: str, beginning: bytes) -> None:
    response = await get(path)
    assert response.status == 200
    assert response.content_type == media_type
    assert response.body.startswith(beginning)


async def test_page_may_load_and_run_only_what_this_server_serves() -> None:
    headers = dict((await get("/")).headers)
    policy = headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"


async def test_page_has_nothing_inline_and_nothing_from_outside() -> None:
    html = (await get("/")).body.decode()
    assert "://" not in html
    assert "style=" not in html
    assert '<script type="module" src="chat.js"></script>' in html


@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "[::1]:8080", "LOCALHOST:1"])
async def test_demo_key_is_given_to_who_reached_us_by_a_loopback_name(host: str) -> None:
    response = await get("/demo.json", "app.demo:secret", host)
    assert orjson.loads(response.body) == {"key": "app.demo:secret"}
    assert ("cache-control", "no-store") in response.headers


@pytest.mark.parametrize(
    "host", ["", "rebound.example", "rebound.example:8080", "127.0.0.1.example", "[::1", "10.0.0.7:8080"]
)
async def test_demo_key_is_kept_from_every_other_name(host: str) -> None:
    response = await get("/demo.json", "app.demo:secret", host)
    assert orjson.loads(response.body) == {"key": None}


async def test_without_a_demo_key_nobody_is_given_one() -> None:
    response = await get("/demo.json")
    assert orjson.loads(response.body) == {"key": None}
