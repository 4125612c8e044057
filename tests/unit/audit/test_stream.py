"""The audit's client of streams, event by event: it does what EventSource does, so that what that would lose is lost
here too."""

import asyncio
import json
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from fanout.audit.returning import GRACE_S, Refused
from fanout.audit.stream import IDLE_S, Stream
from fanout.audit.tcp_link import TcpLink

HEAD = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"


class FakeLink(TcpLink):
    """Keeps what is sent; the test is the server."""

    def __init__(self, client: Stream) -> None:
        super().__init__(client)
        self.sent = b""
        self.ended = False
        self._client = client

    def send(self, payload: bytes) -> None:
        self.sent += payload

    def end(self, *, reset: bool = False) -> None:
        self.ended = True

    @property
    def query(self) -> dict[str, list[str]]:
        return parse_qs(urlsplit(self.sent.split()[1].decode()).query)

    @property
    def last_event_id(self) -> str | None:
        _, found, rest = self.sent.decode().partition("last-event-id: ")
        return rest.partition("\r\n")[0] if found else None

    def say(self, **fields: Any) -> None:
        lines = (
            f"{name}: {value if isinstance(value, str) else json.dumps(value)}\n" for name, value in fields.items()
        )
        text = "".join(lines) + "\n"
        self._client.heard(self, f"{len(text):x}\r\n{text}\r\n".encode())

    def refuse(self, status: int, body: str) -> None:
        self._client.heard(self, f"HTTP/1.1 {status} X\r\ncontent-length: {len(body)}\r\n\r\n{body}".encode())


class Bed:
    """A client, and the links that it has had."""

    def __init__(self) -> None:
        self.given: list[tuple[str, str]] = []
        self.gaps: list[tuple[str, int | None]] = []
        self.client = Stream(
            ["http://a"],
            "k",
            on_message=lambda channel, message: self.given.append((channel, message["id"])),
            on_gap=lambda channel, code: self.gaps.append((channel, code)),
        )
        self.client._channels = ("x", "y")
        self.client._stays_away = True  # the test opens the links

    async def begin(self) -> FakeLink:
        link = FakeLink(self.client)

        async def opened(*_: object, **__: object) -> None:
            self.client.opened(link)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("fanout.audit.stream.open_tcp", opened)
            await self.client._open("http://a")
        self.client._connected = asyncio.get_running_loop().create_future()
        return link

    async def open(self) -> FakeLink:
        link = await self.begin()
        self.client.heard(link, HEAD)
        return link


@pytest.fixture
async def bed() -> Bed:
    return Bed()


async def test_asks_for_its_channels_and_comes_back_with_the_last_whole_event(bed: Bed) -> None:
    first = await bed.open()
    assert first.query == {"v": ["3"], "key": ["k"], "channels": ["x,y"]}
    assert first.last_event_id is None
    first.say(id="a,b")
    first.say(id="c,b", event="message", data={"channel": "x", "id": "m1"})
    bed.client.heard(first, b"8\r\nid: z,z\n\r\n")  # the rest of it never comes
    bed.client.lost(first)
    second = await bed.open()
    assert second.last_event_id == "c,b"
    second.say(id="c,d", event="message", data={"channel": "y", "id": "m2"})
    assert bed.given == [("x", "m1"), ("y", "m2")]
    assert (bed.gaps, bed.client.connections) == ([], 2)


async def test_an_error_that_names_a_channel_is_a_gap_and_other_events_are_nothing(bed: Bed) -> None:
    link = await bed.open()
    link.say(event="error", data={"channel": "y", "code": 90003})
    link.say(id="e,f", event="presence", data={"channel": "x", "action": 2})
    link.say(event="error", data={"code": 80003})
    assert (bed.given, bed.gaps, bed.client.last_id) == ([], [("y", 90003)], "e,f")


async def test_is_connected_once_the_head_says_so(bed: Bed) -> None:
    link = await bed.begin()
    bed.client.heard(link, HEAD[:10])
    assert not bed.client.is_connected
    bed.client.heard(link, HEAD[10:])
    assert bed.client.is_connected


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, '{"error":{"code":40101,"message":"credentials refused"}}', 40101),
        (404, "not found", 404),
        (400, "x" * (1 << 17), 400),
    ],
)
async def test_a_refusal_is_for_good(bed: Bed, status: int, body: str, code: int) -> None:
    link = await bed.begin()
    link.refuse(status, body)
    assert bed.client._connected is not None
    problem = bed.client._connected.exception()
    assert isinstance(problem, Refused)
    assert problem.code == code
    assert link.ended


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (503, "busy", 503),
        (429, '{"error":{"code":42910,"message":"m"}}', 42910),
        (500, '{"error":{"code":50003,"message":"m"}}', 50003),
        (400, '{"error":{"code":80003,"message":"m"}}', 80003),
    ],
)
async def test_unless_it_says_that_another_time_may_do(bed: Bed, status: int, body: str, code: int) -> None:
    link = await bed.begin()
    link.refuse(status, body)
    assert link.ended
    assert bed.client.errors == {code: 1}
    bed.client.lost(link)
    assert bed.client._connected is not None
    assert isinstance(bed.client._connected.exception(), OSError)


async def test_silence_beyond_what_was_promised_ends_a_link(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    link = await bed.open()
    now = time.monotonic()
    for ahead, ended in ((IDLE_S + GRACE_S - 1, False), (IDLE_S + GRACE_S + 1, True)):
        monkeypatch.setattr("fanout.audit.returning.time.monotonic", lambda ahead=ahead: now + ahead)
        bed.client.tend()
        assert link.ended == ended


async def test_what_is_no_http_ends_a_link(bed: Bed) -> None:
    link = await bed.begin()
    bed.client.heard(link, b"SSH-2.0\r\n")
    assert link.ended
