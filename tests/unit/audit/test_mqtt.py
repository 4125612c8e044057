"""The audit's client of MQTT, packet by packet: what is doubled is found unless it says that it comes again."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout._core import mqtt_encode
from fanout.audit.mqtt import NO_SESSION, REMEMBERED, Mqtt, packets_of
from fanout.audit.returning import Refused
from fanout.audit.tcp_link import TcpLink
from fanout.packets import Connack, Disconnect, Properties, Publish, Suback


class FakeLink(TcpLink):
    """Keeps what is sent; the test is the server."""

    def __init__(self, client: Mqtt) -> None:
        super().__init__(client)
        self.sent: list[bytes] = []
        self.ended = False
        self._client = client

    def send(self, payload: bytes) -> None:
        self.sent.append(payload)

    def end(self, *, reset: bool = False) -> None:
        self.ended = True

    def say(self, packet: Connack | Suback | Publish | Disconnect) -> None:
        self._client.heard(self, mqtt_encode(packet, 5))

    def message(self, number: int, *, packet_id: int = 7, dup: bool = False) -> None:
        properties = Properties(utf8=True)
        first, *rest = mqtt_encode(Publish("x", b"%d" % number, 1, False, False, packet_id, 0, properties), 5)
        self._client.heard(self, bytes((first | 8 * dup, *rest)))


class Bed:
    """A client, and the links that it has had."""

    def __init__(self) -> None:
        self.given: list[str] = []
        self.gaps: list[tuple[str, int | None]] = []
        self.client = Mqtt(
            ["mqtt://a:1"],
            "app.key:secret",
            on_message=lambda channel, message: self.given.append(message["data"]),
            on_gap=lambda channel, code: self.gaps.append((channel, code)),
        )
        self.client._channels = ("x", "y")
        self.client._stays_away = True  # the test opens the links

    def open(self, **said: Any) -> FakeLink:
        link = FakeLink(self.client)
        self.client._connected = asyncio.get_running_loop().create_future()
        self.client.opened(link)
        link.say(Connack(**({"present": False, "reason": 0} | said)))
        return link

    def begin(self) -> FakeLink:
        link = self.open()
        link.say(Suback(1, (1, 1)))
        return link


@pytest.fixture
async def bed() -> Bed:
    return Bed()


async def test_subscribes_once_and_goes_on_by_its_session(bed: Bed) -> None:
    first = bed.open()
    assert [packet[0] >> 4 for packet in first.sent] == [1, 8]
    assert not bed.client.is_connected
    first.say(Suback(1, (1, 1)))
    assert bed.client.is_connected
    first.message(1, packet_id=0x102)
    assert first.sent[-1][:4] == b"\x40\x02\x01\x02"
    bed.client.lost(first)
    second = bed.open(present=True)
    assert [packet[0] >> 4 for packet in second.sent] == [1]
    assert second.sent[0] == first.sent[0]
    second.message(2)
    assert (bed.given, bed.gaps, bed.client.connections) == (["1", "2"], [], 2)


async def test_what_says_that_it_comes_again_is_dropped_if_it_was_there(bed: Bed) -> None:
    first = bed.begin()
    first.message(1)
    bed.client.lost(first)
    second = bed.open(present=True)
    second.message(1, dup=True)
    second.message(2, dup=True)
    second.message(2)
    assert (bed.given, bed.client.repeated) == (["1", "2", "2"], 1)
    assert [packet[0] >> 4 for packet in second.sent] == [1, 4, 4, 4], "each is acknowledged"


async def test_no_more_is_remembered_than_can_come_again(bed: Bed) -> None:
    link = bed.begin()
    for number in range(REMEMBERED + 1):
        link.message(number)
    link.message(0, dup=True)
    assert (len(bed.given), bed.client.repeated) == (REMEMBERED + 2, 0)


async def test_a_session_that_is_gone_is_a_gap_in_every_channel(bed: Bed) -> None:
    bed.client.lost(bed.begin())
    link = bed.open()
    assert bed.gaps == [("x", NO_SESSION), ("y", NO_SESSION)]
    assert [packet[0] >> 4 for packet in link.sent] == [1, 8]


async def test_what_happens_to_it_is_told(bed: Bed) -> None:
    first = bed.begin()
    first.message(1)
    first.say(Disconnect(0x8B))
    bed.client.lost(first)
    second = bed.open(reason=0x88)
    bed.client.lost(second)
    third = bed.open(present=True)
    third.message(1, dup=True)
    third.message(2)
    bed.client.lost(third)
    assert [line.partition("  ")[2] for line in str(bed.client.story).splitlines()] == [
        "let in by mqtt://a:1, without a session",
        "given '1' in x",
        "DISCONNECT, reason 0x8b",
        "the connection is over",
        "CONNACK, reason 0x88",
        "the connection is over",
        "let in by mqtt://a:1, with its session",
        "given '1' in x again",
        "1 messages had come again",
        "the connection is over",
    ]


@pytest.mark.parametrize(("reason", "for_good"), [(0x87, True), (0x86, True), (0x88, False), (0x97, False)])
async def test_a_refusal_is_for_good_unless_it_says_otherwise(bed: Bed, reason: int, for_good: bool) -> None:
    link = bed.open(reason=reason)
    assert link.ended
    bed.client.lost(link)
    assert bed.client._connected is not None
    problem = bed.client._connected.exception()
    assert isinstance(problem, Refused) == for_good
    assert bed.client.errors == ({} if for_good else {reason: 1})


async def test_a_channel_that_is_refused_is_the_callers_problem(bed: Bed) -> None:
    link = bed.open()
    link.say(Suback(1, (1, 0x87)))
    assert bed.client._connected is not None
    problem = bed.client._connected.exception()
    assert isinstance(problem, Refused)
    assert problem.code == 0x87


@given(sizes=st.lists(st.sampled_from([0, 1, 127, 128, 16_383, 16_384]), max_size=5), cut=st.integers(0, 40_000))
def test_packets_are_cut_where_they_end(sizes: list[int], cut: int) -> None:
    packets = [mqtt_encode(Publish("x", b"y" * size, 0, False, False, 0, 0, Properties()), 4) for size in sizes]
    data = b"".join(packets)
    *first, rest = packets_of(data[:cut])
    *second, end = packets_of(rest + data[cut:])
    assert [*first, *second, end] == [*packets, b""]
