"""HTTP over real sockets: order, keeping, limits of time, and the end."""

import asyncio
import logging

import pytest

from fanout.transports import front
from fanout.transports.http import Request, Response
from tests.unit.transports.front_door import FrontDoor, Wire, front_door, upgrade

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def test_a_connection_is_kept_and_answers_in_the_order_of_asking() -> None:
    async with front_door() as door:
        wire = await Wire.open(door)
        await wire.say(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + GET * 3)
        await asyncio.sleep(0.05)
        assert not door.handled
        door.release.set()
        assert (await wire.response())[2] == b"slow"
        for _ in range(3):
            assert (await wire.response())[2] == b"<p>page</p>"
        await wire.say(GET)
        assert (await wire.response())[0] == 200
        await wire.close()


async def test_head_has_the_length_and_no_body() -> None:
    async with front_door() as door:
        wire = await Wire.open(door)
        await wire.say(b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        assert b"content-length: 11\r\n" in await wire.head()
        assert (await wire.response())[2] == b"<p>page</p>"
        await wire.close()


@pytest.mark.parametrize(
    ("request_", "kept"),
    [
        (b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\n\r\n", False),
        (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", True),
    ],
)
async def test_whether_a_connection_is_kept(request_: bytes, kept: bool) -> None:
    async with front_door() as door:
        wire = await Wire.open(door)
        await wire.say(request_)
        _, fields, _ = await wire.response()
        assert fields["connection"] == ("keep-alive" if kept else "close")
        if kept:
            await wire.say(request_)
            await wire.response()
        else:
            assert await wire.end() == b""
        await wire.close()


async def test_expect_is_answered_before_the_body_is_sent() -> None:
    async with front_door() as door:
        wire = await Wire.open(door)
        await wire.say(b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        assert await wire.head() == b"HTTP/1.1 100 Continue\r\n\r\n"
        await wire.say(b"hello")
        assert (await wire.response())[2] == b"hello"
        await wire.say(b"POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n")
        assert (await wire.response())[0] == 413
        await wire.close()


async def test_a_body_of_the_largest_size_comes_back() -> None:
    async with front_door() as door:
        wire = await Wire.open(door)
        body = b"x" * (2 << 20)
        await wire.say(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert (await wire.response())[2] == body
        await wire.close()


async def test_the_next_request_waits_until_a_slow_reader_has_its_answer() -> None:
    async with front_door() as door:
        asked = []

        async def large(request: Request) -> Response:
            asked.append(request)
            return Response(200, bytes(64 << 20))

        door.front.handler = large
        wire = await Wire.open(door)
        await wire.say(GET * 2)
        await asyncio.sleep(0.2)
        assert len(asked) == 1
        for _ in range(2):
            assert len((await wire.response())[2]) == 64 << 20
        await wire.close()


async def test_a_client_that_shuts_its_side_gets_its_answers() -> None:
    async with front_door() as door:
        wire = await Wire.open(door)
        await wire.say(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + GET)
        wire.writer.write_eof()
        await asyncio.sleep(0.05)
        door.release.set()
        assert (await wire.response())[2] == b"slow"
        assert (await wire.response())[2] == b"<p>page</p>"
        assert await wire.end() == b""
        await wire.close()


async def test_who_asks_for_a_websocket_and_says_that_it_is_done_is_closed_and_counted_once() -> None:
    async with front_door() as door:
        staying, wire = await Wire.open(door), await Wire.open(door)
        await wire.say(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + upgrade())
        wire.writer.write_eof()
        await asyncio.sleep(0.05)
        door.release.set()
        await wire.end()
        await wire.close()
        await asyncio.sleep(0.05)
        assert door.front.open_connections == 1
        await staying.close()


async def test_a_failing_handler_is_a_constant_500_and_one_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with front_door() as door:

        async def fails(_request: Request) -> Response:
            raise RuntimeError("secret detail")

        door.front.handler = fails
        wire = await Wire.open(door)
        await wire.say(GET * 2)
        for _ in range(2):
            status, _, body = await wire.response()
            assert status == 500
            assert body == b'{"error":{"code":50000,"statusCode":500,"message":"internal error"}}'
        assert [record.levelno for record in caplog.records] == [logging.ERROR, logging.ERROR]
        await wire.close()


@pytest.mark.parametrize(
    ("limit", "said", "status"),
    [
        ("_HEAD_SECONDS", b"GET / HTTP/1.1\r\nHo", b"408"),
        ("_BODY_SECONDS", b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc", b"408"),
        ("_HEAD_SECONDS", b"", b""),
    ],
)
async def test_a_request_has_its_time(monkeypatch: pytest.MonkeyPatch, limit: str, said: bytes, status: bytes) -> None:
    monkeypatch.setattr(front, limit, 0.1)
    async with front_door() as door:
        wire = await Wire.open(door)
        await wire.say(said)
        answer = await wire.end()
        assert answer[9:12] == status
        await wire.close()


async def test_an_idle_connection_is_closed_without_a_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_IDLE_SECONDS", 0.1)
    async with front_door() as door:
        wire = await Wire.open(door)
        await wire.say(GET)
        await wire.response()
        assert await wire.end() == b""
        await wire.close()


async def test_a_response_that_is_not_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front, "_WRITE_SECONDS", 0.2)
    async with front_door() as door:

        async def large(_request: Request) -> Response:
            return Response(200, bytes(64 << 20))

        door.front.handler = large
        wire = await Wire.open(door)
        wire.reader._transport.pause_reading()  # type: ignore[attr-defined]
        await wire.say(GET)
        await door.gone()
        await wire.close()


async def test_draining_answers_what_was_asked_and_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    async with front_door() as door:
        idle, busy = await Wire.open(door), await Wire.open(door)
        await busy.say(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        draining = asyncio.create_task(door.front.drain(5))
        assert await idle.end() == b""
        door.release.set()
        status, fields, _ = await busy.response()
        assert (status, fields["connection"]) == (200, "close")
        await busy.end()
        await draining
        for wire in (idle, busy):
            await wire.close()


async def test_draining_cuts_what_takes_too_long() -> None:
    async with front_door() as door:
        wire = await Wire.open(door)
        await wire.say(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        await asyncio.sleep(0.05)
        await door.front.drain(0.05)
        assert await wire.end() == b""
        await wire.close()


async def test_an_upgrade_waits_for_the_answers_before_it() -> None:
    async with front_door() as door:
        wire = await Wire.open(door)
        await wire.say(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n" + upgrade())
        await asyncio.sleep(0.05)
        door.release.set()
        assert (await wire.response())[2] == b"slow"
        assert (await wire.head()).startswith(b"HTTP/1.1 101 ")
        assert (await wire.message())["action"] == 4
        await wire.close()


async def test_no_upgrade_while_draining() -> None:
    async with front_door() as door:
        wire = await Wire.open(door)
        door.front.draining = True
        await wire.say(upgrade())
        assert (await wire.response())[0] == 503
        await wire.close()


async def test_a_plain_get_on_the_protocols_path_is_the_page() -> None:
    async with front_door() as door:
        wire = await Wire.open(door)
        await wire.say(GET)
        assert (await wire.response())[1]["content-type"] == "text/html"
        await wire.close()


def count(door: FrontDoor) -> int:
    return door.front.open_connections


async def test_connections_are_counted_whatever_they_speak() -> None:
    async with front_door() as door:
        http, realtime = await Wire.open(door), await Wire.websocket(door)
        assert count(door) == 2
        await realtime.close()
        await http.close()
        await door.gone()
        assert count(door) == 0
