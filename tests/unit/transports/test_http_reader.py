"""Bytes to requests: what comes out, however the bytes were cut."""

import pytest

from fanout.transports.http import Request
from fanout.transports.http_reader import LIMITS, Refusal, RequestReader, Upgrade
from tests.unit.transports.front_door import upgrade

GET = b"GET /a%2Fb?x=1%3A2&y HTTP/1.1\r\nHost: localhost:8080\r\nA: 1\r\na:  2 \r\n\r\n"
CHUNKED = (
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: t\r\n\r\n"
)
POST = b"POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello"


def read(data: bytes, step: int = 1 << 20) -> RequestReader:
    reader = RequestReader()
    for start in range(0, len(data), step):
        if not reader.stopped:
            reader.feed(data[start : start + step])
    return reader


def requests(reader: RequestReader) -> list[Request]:
    assert all(isinstance(item, Request) for item in reader.ready)
    return [item for item in reader.ready if isinstance(item, Request)]


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
def test_however_it_is_cut_the_requests_are_the_same(step: int) -> None:
    first, second, third = requests(read(GET + POST + CHUNKED, step))
    assert (first.method, first.path, dict(first.query)) == ("GET", "/a%2Fb", {"x": "1:2", "y": ""})
    assert first.header("a") == "1, 2"
    assert (second.path, second.body) == ("/p", b"hello")
    assert third.body == b"abcde"
    assert third.header("trailer") == ""


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
        (400, b"GET / HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nHost: a\r\nBad Name: b\r\n\r\n"),
        (400, b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n"),
        (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
        (400, b"POST / HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\na"),
        (400, b"GET /?" + b"a=1&" * 101 + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
        (413, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2097153\r\n\r\n"),
        (417, b"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\nContent-Length: 1\r\n\r\n"),
        (431, b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * 100 + b"\r\n"),
        (431, b"GET / HTTP/1.1\r\nHost: a\r\nA: " + b"b" * LIMITS.head_bytes + b"\r\n\r\n"),
        (431, b"GET /" + b"b" * LIMITS.head_bytes + b" HTTP/1.1\r\nHost: a\r\n\r\n"),
        (501, b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    ],
)
@pytest.mark.parametrize("step", [1, 1 << 20])
def test_what_is_refused(status: int, data: bytes, step: int) -> None:
    reader = read(data, step)
    (refusal,) = reader.ready
    assert isinstance(refusal, Refusal)
    assert refusal.response.status == status
    assert reader.stopped


def test_a_head_that_never_ends_is_refused_at_its_limit() -> None:
    reader = RequestReader()
    fed = 0
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nA: ")
    while not reader.stopped:
        reader.feed(b"b" * 1000)
        fed += 1000
    assert fed <= LIMITS.head_bytes + LIMITS.slice_bytes + 1000
    (refusal,) = reader.ready
    assert isinstance(refusal, Refusal)
    assert refusal.response.status == 431


def test_a_chunked_body_is_refused_at_its_limit() -> None:
    reader = RequestReader()
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
    for _ in range(LIMITS.body_bytes // 0x8000):
        reader.feed(chunk)
    assert not reader.ready
    reader.feed(chunk)
    (refusal,) = reader.ready
    assert isinstance(refusal, Refusal)
    assert refusal.response.status == 413


def test_pipelined_requests_wait_unparsed_past_the_bound() -> None:
    reader = read(GET * 2000)
    assert reader.full
    most = LIMITS.pipelined + LIMITS.slice_bytes // len(GET) + 1
    taken = 0
    while reader.ready:
        assert len(reader.ready) <= most
        taken += len(reader.ready)
        reader.ready.clear()
        reader.feed(b"")
    assert taken == 2000


def test_what_was_asked_before_garbage_still_comes_out() -> None:
    reader = read(GET + b"nonsense\r\n\r\n")
    assert isinstance(reader.ready[0], Request)
    assert isinstance(reader.ready[1], Refusal)


@pytest.mark.parametrize("connection", ["Upgrade", "upgrade", "keep-alive, Upgrade"])
def test_an_upgrade_and_what_follows_it(connection: str) -> None:
    reader = read(upgrade(connection=connection) + b"\x81\x80frames")
    (item,) = reader.ready
    assert isinstance(item, Upgrade)
    assert item.rest == b"\x81\x80frames"
    assert item.request.query["key"] == "app.key:secret"


def test_an_upgrade_to_something_else_is_an_ordinary_request() -> None:
    h2c = b"GET /x HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\n\r\n"
    assert [request.path for request in requests(read(h2c + GET))] == ["/x", "/a%2Fb"]


def test_an_upgrade_elsewhere_is_an_ordinary_request() -> None:
    (request,) = requests(read(upgrade().replace(b"GET /?", b"GET /chat?")))
    assert request.path == "/chat"


def test_targets_in_absolute_and_asterisk_form() -> None:
    absolute, asterisk = requests(
        read(b"GET http://a.b/c?d=e HTTP/1.1\r\nHost: a.b\r\n\r\nOPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
    )
    assert (absolute.path, dict(absolute.query)) == ("/c", {"d": "e"})
    assert asterisk.path == "*"
