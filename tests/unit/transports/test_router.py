"""Paths and methods."""

import orjson
import pytest

from fanout.transports.http import Handler, Request, Response
from fanout.transports.router import Router


def answer(name: str) -> Handler:
    async def handler(request: Request) -> Response:
        return Response(200, f"{name} {dict(request.variables)}".encode())

    return handler


ROUTER = Router(
    [
        ("GET", "/", answer("page")),
        ("GET", "/time", answer("time")),
        ("GET", "/channels/{channel}", answer("status")),
        ("GET", "/channels/{channel}/messages", answer("history")),
        ("POST", "/keys/{key}/requestToken", answer("token")),
        ("POST", "/channels/{channel}/messages", answer("publish")),
    ]
)


async def ask(method: str, path: str, **headers: str) -> Response:
    return await ROUTER(Request(method, path, {}, headers))


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/", "page {}"),
        ("HEAD", "/time", "time {}"),
        ("GET", "/channels/a", "status {'channel': 'a'}"),
        ("GET", "/channels/a%2Fb%3Ac/messages", "history {'channel': 'a/b:c'}"),
        ("POST", "/channels/a:b/messages", "publish {'channel': 'a:b'}"),
        ("GET", "/channels/%C3%A4", "status {'channel': 'ä'}"),
        ("GET", "/channels/a+b", "status {'channel': 'a+b'}"),
    ],
)
async def test_the_handler_of_a_path(method: str, path: str, body: str) -> None:
    response = await ask(method, path)
    assert (response.status, response.body.decode()) == (200, body)


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, 40400),
        ("GET", "/channels/a/b/messages", 404, 40400),
        ("GET", "/time/", 404, 40400),
        ("GET", "/keys/a.b/requestToken", 404, 40400),
        ("HEAD", "/keys/a.b/requestToken", 404, 40400),
        ("PUT", "/keys/a.b/requestToken", 405, 40500),
        ("DELETE", "/time", 405, 40500),
        ("OPTIONS", "/time", 405, 40500),
        ("GET", "/channels/%FF", 400, 40000),
    ],
)
async def test_what_no_handler_answers(method: str, path: str, status: int, code: int) -> None:
    response = await ask(method, path)
    assert response.status == status
    assert orjson.loads(response.body)["error"]["code"] == code
    assert ("x-ably-errorcode", str(code)) in response.headers


async def test_a_wrong_method_is_told_the_right_ones() -> None:
    response = await ask("PUT", "/channels/a/messages")
    assert ("allow", "GET, POST") in response.headers


async def test_a_browser_may_read_that_there_is_nothing() -> None:
    assert (await ask("OPTIONS", "/nowhere", origin="https://a.example")).status == 204
    response = await ask("GET", "/nowhere", origin="https://a.example")
    assert ("access-control-allow-origin", "https://a.example") in response.headers


async def test_a_page_is_not_shown_to_other_origins() -> None:
    response = await ask("GET", "/", origin="https://a.example")
    assert not any(name.startswith("access-control") for name, _ in response.headers)
