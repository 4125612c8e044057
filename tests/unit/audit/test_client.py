"""The audit's client, frame by frame: it does what SDKs do, so that what they would lose is lost here too."""

import asyncio
import time
from typing import Any

import orjson
import pytest

from fanout.audit.client import ATTACH_S, Client
from fanout.audit.link import Link
from fanout.audit.returning import DEAF_MAX, GRACE_S, Refused
from fanout.wire import Action, Flag


class FakeLink(Link):
    """Keeps what is sent; the test is the server."""

    def __init__(self, client: Client) -> None:
        super().__init__(client)
        self.sent: list[dict[str, Any]] = []
        self.ended = False
        self._client = client

    def send(self, payload: bytes, *, binary: bool) -> None:
        self.sent.append(orjson.loads(payload))

    def end(self, *, reset: bool = False) -> None:
        self.ended = True

    def say(self, action: Action, **fields: Any) -> None:
        self._client.heard(self, orjson.dumps({"action": action, **fields}))

    def attached(self, channel: str, serial: str, *, resumed: bool = False, code: int | None = None) -> None:
        fields: dict[str, Any] = {"error": {"code": code, "message": "m"}} if code else {}
        self.say(Action.ATTACHED, channel=channel, channelSerial=serial, flags=Flag.RESUMED if resumed else 0, **fields)

    def message(self, channel: str, serial: str, *ids: str) -> None:
        self.say(Action.MESSAGE, channel=channel, channelSerial=serial, messages=[{"id": one} for one in ids])


class Bed:
    """A client, and the links that it has had."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.gaps: list[tuple[str, int | None]] = []
        self.client = Client(
            ["http://a", "http://b"],
            "k",
            on_message=lambda channel, message: self.given.append(message["id"]),
            on_gap=lambda channel, code: self.gaps.append((channel, code)),
        )
        self.client._stays_away = True  # the test opens the links

    def open(self, connection_id: str = "c1", idle_ms: int = 5_000) -> FakeLink:
        link = FakeLink(self.client)
        self.client.opened(link)
        details = {"connectionKey": "key", "maxIdleInterval": idle_ms}
        self.client._connected = asyncio.get_running_loop().create_future()
        link.say(Action.CONNECTED, connectionId=connection_id, connectionDetails=details)
        return link

    async def attach(self, link: FakeLink, channel: str = "x") -> None:
        attaching = asyncio.create_task(self.client.attach(channel))
        await asyncio.sleep(0)
        link.attached(channel, "s0")
        await attaching


@pytest.fixture
async def bed() -> Bed:
    return Bed()


class TestChannels:
    async def test_comes_back_with_the_last_serial(self, bed: Bed) -> None:
        first = bed.open()
        await bed.attach(first)
        first.message("x", "s1", "m1", "m2")
        bed.client.lost(first)
        second = bed.open()
        assert second.sent == [{"action": Action.ATTACH, "channel": "x", "channelSerial": "s1"}]
        second.attached("x", "s1", resumed=True)
        second.message("x", "s2", "m3")
        assert (bed.given, bed.gaps) == (["m1", "m2", "m3"], [])

    @pytest.mark.parametrize("code", [90003, None])
    async def test_an_attached_that_does_not_resume_is_a_gap(self, bed: Bed, code: int | None) -> None:
        first = bed.open()
        await bed.attach(first)
        assert bed.gaps == [], "the first time there is nothing to resume"
        bed.client.lost(first)
        bed.open().attached("x", "s9", code=code)
        assert bed.gaps == [("x", code)]

    async def test_continuity_that_ends_on_the_way_is_a_gap(self, bed: Bed) -> None:
        link = bed.open()
        await bed.attach(link)
        link.attached("x", "s9", code=80020)
        link.message("x", "s10", "m1")
        assert (bed.given, bed.gaps) == (["m1"], [("x", 80020)])

    async def test_what_comes_before_the_channel_is_attached_is_lost(self, bed: Bed) -> None:
        first = bed.open()
        await bed.attach(first)
        bed.client.lost(first)
        second = bed.open()
        second.message("x", "s1", "m1")
        second.message("unknown", "s1", "m2")
        bed.client.lost(second)
        assert bed.given == []
        assert bed.open().sent[0]["channelSerial"] == "s1"

    async def test_attaches_again_when_it_is_asked_to(self, bed: Bed) -> None:
        link = bed.open()
        await bed.attach(link)
        for _ in range(2):
            link.say(Action.DETACHED, channel="x", error={"code": 50000, "message": "m"})
        assert link.sent[1:] == [{"action": Action.ATTACH, "channel": "x", "channelSerial": "s0"}]
        assert not bed.client.is_settled

    async def test_a_channel_refused_later_is_counted_and_asked_for_again(
        self, bed: Bed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        link = bed.open(idle_ms=0)
        await bed.attach(link)
        link.say(Action.ERROR, channel="x", error={"code": 50003, "message": "m"})
        assert bed.client.errors == {50003: 1}
        bed.client.tend()
        assert len(link.sent) == 1
        later(monkeypatch, ATTACH_S + 1)
        bed.client.tend()
        assert link.sent[1:] == [{"action": Action.ATTACH, "channel": "x", "channelSerial": "s0"}]

    async def test_a_channel_refused_at_first_is_the_callers_problem(self, bed: Bed) -> None:
        link = bed.open()
        attaching = asyncio.create_task(bed.client.attach("x"))
        await asyncio.sleep(0)
        link.say(Action.ERROR, channel="x", error={"code": 40160, "message": "denied"})
        with pytest.raises(Refused, match=r"denied \(40160\)"):
            await attaching
        assert bed.client.errors == {}


class TestPublishes:
    async def published(self, bed: Bed, *texts: str) -> list["asyncio.Task[list[str]]"]:
        tasks = [asyncio.create_task(bed.client.publish("x", {"data": text})) for text in texts]
        await asyncio.sleep(0)
        return tasks

    def numbers(self, link: FakeLink) -> list[tuple[int, str]]:
        return [
            (frame["msgSerial"], frame["messages"][0]["data"])
            for frame in link.sent
            if frame["action"] == Action.MESSAGE
        ]

    async def test_what_has_no_answer_is_sent_again_under_its_number(self, bed: Bed) -> None:
        first = bed.open()
        a, b, c = await self.published(bed, "a", "b", "c")
        first.say(Action.ACK, msgSerial=0, count=1, res=[{"serials": ["s0"]}])
        assert await a == ["s0"]
        bed.client.lost(first)
        second = bed.open()
        assert self.numbers(second) == [(1, "b"), (2, "c")]
        second.say(Action.ACK, msgSerial=1, count=2, res=[{"serials": ["s1"]}, {"serials": ["s2"]}])
        assert [await b, await c] == [["s1"], ["s2"]]
        assert bed.client.is_settled

    async def test_a_connection_that_is_not_resumed_counts_anew(self, bed: Bed) -> None:
        first = bed.open()
        a, *_ = await self.published(bed, "a", "b")
        first.say(Action.ACK, msgSerial=0, count=1, res=[{"serials": ["s0"]}])
        await a
        bed.client.lost(first)
        second = bed.open("c2")
        await self.published(bed, "c")
        assert self.numbers(second) == [(0, "b"), (1, "c")]
        assert bed.client.refusals == 1

    async def test_what_is_published_while_it_is_away_goes_out_later(self, bed: Bed) -> None:
        (a,) = await self.published(bed, "a")
        link = bed.open()
        assert self.numbers(link) == [(0, "a")]
        link.say(Action.NACK, msgSerial=0, count=1, error={"code": 50003, "message": "m"})
        with pytest.raises(Refused) as refused:
            await a
        assert refused.value.code == 50003

    async def test_each_sending_is_told(self, bed: Bed) -> None:
        times: list[int] = []
        task = asyncio.create_task(bed.client.publish("x", {"data": "a"}, sent=lambda: times.append(1)))
        await asyncio.sleep(0)
        assert times == []
        bed.client.lost(bed.open())
        bed.open()
        assert times == [1, 1]
        task.cancel()


class TestLinks:
    async def test_silence_beyond_what_was_promised_ends_a_link(
        self, bed: Bed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        link = bed.open(idle_ms=5_000)
        later(monkeypatch, 5 + GRACE_S - 1)
        bed.client.tend()
        assert not link.ended
        link.say(Action.HEARTBEAT)
        later(monkeypatch, 5 + GRACE_S + 1)
        bed.client.tend()
        assert link.ended

    async def test_who_does_not_read_hears_no_silence(self, bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
        link = bed.open(idle_ms=5_000)
        bed.client.pause()
        later(monkeypatch, 60)
        bed.client.tend()
        bed.client.resume()
        bed.client.tend()
        assert not link.ended

    async def test_who_leaves_comes_back_when_it_is_told_to(self, bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
        connects: list[int] = []

        async def connect() -> Client:
            connects.append(1)
            bed.open()
            return bed.client

        monkeypatch.setattr(bed.client, "connect", connect)
        bed.client._stays_away = False
        link = bed.open()
        bed.client.leave()
        assert link.ended
        bed.client.lost(link)
        await asyncio.sleep(0)
        assert connects == []
        bed.client.come_back()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert connects == [1]
        assert bed.client.is_connected

    async def test_links_that_are_left_open_are_few(self, bed: Bed) -> None:
        links = []
        for _ in range(DEAF_MAX + 2):
            links.append(bed.open())
            bed.client.abandon()
        assert [link.ended for link in links] == [True, True, *[False] * DEAF_MAX]
        assert not bed.client.is_connected
        await bed.client.close()
        assert all(link.ended for link in links)


def later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """From now on the client's clock is that far ahead."""
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + seconds)
