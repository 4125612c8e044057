"""Whoever asks for a stream as EventSource does comes back from what passes, and from nothing else."""

from pathlib import Path

import httpx
import pytest

from fanout import Config, Server
from fanout.errors import ClientError, error
from fanout.transports import streams
from tests.support.node import free_port

KEY = "app.key:secret"
EVENTS = "text/event-stream"


async def asked(server: Server, path: str, accept: str) -> httpx.Response:
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}") as client:
        query = {"channels": "c", "key": KEY}
        return await client.get(path, params=query, headers={"accept": accept, "origin": "http://page"})


async def test_event_source_comes_back_to_a_node_that_is_not_ready(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "_READY_SECONDS", 0.05)
    async with Server(Config(port=0, key=(KEY,), kafka=f"127.0.0.1:{free_port()}")) as server:
        told = await asked(server, "/sse", EVENTS)
        assert (told.status_code, told.headers["content-type"]) == (200, EVENTS)
        assert told.headers["access-control-allow-origin"] == "http://page"
        kind, data, end, rest = told.text.split("\n")
        assert (kind, data.startswith("data: "), '"code":80003' in data, end, rest) == (
            "event: error",
            True,
            True,
            "",
            "",
        )
        assert (await asked(server, "/sse", "*/*")).status_code == 400


@pytest.mark.parametrize("path", ["/sse", "/event-stream"])
@pytest.mark.parametrize(
    ("code", "status"),
    [(80003, 200), (50000, 200), (50003, 200), (42910, 200), (40101, 401), (40160, 401), (40010, 400)],
)
async def test_what_passes_is_told_by_an_event_and_what_does_not_by_an_http_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, code: int, status: int
) -> None:
    async def refuses(_: object) -> None:
        raise ClientError(error(code))

    monkeypatch.setattr(streams._Client, "prepare", refuses)
    async with Server(Config(port=0, key=(KEY,), data=tmp_path)) as server:
        await server.ready()
        told = await asked(server, path, f"{EVENTS}, */*;q=0.1")
        assert (told.status_code, str(code) in told.text) == (status, True)
        assert (told.headers["content-type"] == EVENTS) == (status == 200)
        others = await asked(server, path, "*/*")
        assert (others.status_code, others.json()["error"]["code"]) == (error(code).status, code)
