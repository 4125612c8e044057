"""The bridge to the engine as MQTT's driver uses it: what clients take, acknowledge, and come back for."""

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from fanout import _core
from fanout.rules.route import Rule
from fanout.sources.base import Record

SECRET = b"0123456789abcdef"
KINDS = _core.KIND_MESSAGES | _core.KIND_WHOLE_APPENDS


class Node:
    """An engine with one partition, and clients over socket pairs."""

    def __init__(self, io_threads: int) -> None:
        self.engine = _core.Engine(io_threads=io_threads, secret=SECRET)
        self.engine.rules([Rule("t", "#{key}")])
        self.engine.partition("t", bytes(16), 0, 0)
        self.next = 0

    def publish(self, channel: str, *values: bytes) -> None:
        records = [
            Record("t", 0, self.next + at, -1, 1, channel.encode(), value, None) for at, value in enumerate(values)
        ]
        self.next += len(records)
        self.engine.records(records)

    @contextmanager
    def client(self, wire: int = _core.MQTT) -> Iterator["Client"]:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        handle = self.engine.register(ours.fileno(), wire, "conn", False)
        with ours, theirs:
            yield Client(self, theirs, handle)
            self.engine.unregister(handle)


@dataclass
class Client:
    node: Node
    end: socket.socket
    handle: int
    rest: bytes = b""
    standing: dict[int, tuple[str, str | None]] = field(default_factory=dict)

    def attach(self, number: int, channel: str, mqtt: _core.Mqtt | None, since: str | None = None) -> None:
        engine = self.node.engine
        plan = engine.locate(channel, since, 0, 0, 0)
        engine.attach(self.handle, number, plan, channel, KINDS, True, b"\x90\x03\x00\x01\x01", mqtt=mqtt)

    def has_bytes(self, seconds: float) -> bool:
        """Whether something has come, or the end, within that time. Not by `select`, which knows few descriptors."""
        poll = select.poll()
        poll.register(self.end, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def packets(self) -> list[bytes]:
        """Those that have come, whole; short ones."""
        engine = self.node.engine
        if engine.shard_fd >= 0:
            engine.run_shards()
        while self.has_bytes(0):
            data = self.end.recv(65536)
            if not data:
                break
            self.rest += data
        found = []
        while len(self.rest) > 1 and len(self.rest) >= 2 + self.rest[1]:
            found.append(self.rest[: 2 + self.rest[1]])
            self.rest = self.rest[2 + self.rest[1] :]
        return found


@pytest.fixture
def node() -> Iterator[Node]:
    node = Node(0)
    yield node
    node.engine.close()


def identifier(packet: bytes) -> int:
    """Of a PUBLISH packet on a topic of one letter."""
    return int.from_bytes(packet[5:7], "big")


def offset(node: Node, position: str) -> int:
    ((_, _, next_offset),) = node.engine.places("c", position)
    return next_offset


class TestWindow:
    def test_a_reply_comes_first_then_what_the_client_takes(self, node: Node) -> None:
        with node.client() as client:
            node.engine.window(client.handle, 2, 0)
            client.attach(1, "c", _core.Mqtt(qos=1))
            node.publish("c", b"a", b"b", b"c")
            suback, *given = client.packets()
            assert suback == b"\x90\x03\x00\x01\x01"
            assert [(packet[:5], packet[7:]) for packet in given] == [
                (b"2\x06\x00\x01c", b"a"),
                (b"2\x06\x00\x01c", b"b"),
            ]
            first, second = (identifier(packet) for packet in given)
            assert first != second
            assert node.engine.packet_id(client.handle) == 0
            node.engine.acked(client.handle, 0)
            assert client.packets() == []
            node.engine.acked(client.handle, second)
            assert client.packets() == []  # before what the loop had no place for
            node.engine.window_free(client.handle)
            (third,) = client.packets()
            assert third[7:] == b"c"
            node.engine.acked(client.handle, first)
            assert node.engine.packet_id(client.handle) not in (0, identifier(third))
            assert node.engine.stats()["acknowledgements_unknown"] == 1

    def test_what_is_too_large_is_left_out(self, node: Node) -> None:
        with node.client() as client:
            node.engine.window(client.handle, 64, 8)
            client.attach(1, "c", None)
            node.publish("c", b"abc", b"abcd", b"")
            assert client.packets()[1:] == [b"0\x06\x00\x01cabc", b"0\x03\x00\x01c"]
            assert node.engine.stats()["packets_too_large"] == 1

    def test_a_thread_gives_while_another_acknowledges(self) -> None:
        node = Node(1)
        values = [b"%d" % number for number in range(3_000)]
        with node.client() as client:
            node.engine.window(client.handle, 5, 0)
            client.attach(1, "c", _core.Mqtt(qos=1))
            seen: list[bytes] = []
            sent = 0
            while len(seen) < len(values):
                if sent < len(values):
                    node.publish("c", *values[sent : sent + 7])
                    sent += 7
                else:
                    assert client.has_bytes(10), "the shard has heard of every room"
                for packet in client.packets():
                    if packet[0] == 0x32:
                        seen.append(packet[7:])
                        node.engine.acked(client.handle, identifier(packet))
            assert seen == values
            assert node.engine.standing(client.handle) == [(1, node.engine.position("c"), None)]
        node.engine.close()

    def test_nothing_is_told_of_who_is_gone_or_no_mqtt_client(self, node: Node) -> None:
        with node.client(_core.JSON) as other:
            node.engine.window(other.handle, 1, 1)
            node.engine.acked(other.handle, 1)
            assert (node.engine.packet_id(other.handle), node.engine.standing(other.handle)) == (0, [])
        with node.client() as client:
            client.attach(1, "c", _core.Mqtt(qos=1))
            client.packets()
            assert len(node.engine.standing(client.handle)) == 1
        node.engine.acked(client.handle, 1)
        assert node.engine.standing(client.handle) == []

    @pytest.mark.parametrize("options", [{"qos": 2}, {"subscription_id": 1 << 28}])
    def test_what_mqtt_has_no_number_for_is_refused(self, options: dict[str, int]) -> None:
        with pytest.raises(ValueError, match="qos is 0 or 1"):
            _core.Mqtt(**options)  # type: ignore[arg-type]


class TestStanding:
    def test_who_comes_back_is_given_again_what_it_did_not_acknowledge_and_that_is_marked(self, node: Node) -> None:
        with node.client() as client:
            client.attach(1, "c", _core.Mqtt(qos=1))
            node.publish("c", b"a", b"b", b"c")
            ids = [identifier(packet) for packet in client.packets()[1:]]
            node.engine.acked(client.handle, ids[0])
            node.engine.acked(client.handle, ids[2])
            ((number, acknowledged, given),) = node.engine.standing(client.handle)
            assert given is not None
            assert (number, offset(node, acknowledged), offset(node, given)) == (1, 1, 3)
        node.publish("c", b"d")
        with node.client() as client:
            client.attach(1, "c", _core.Mqtt(qos=1, dup_until=given), since=acknowledged)
            flags = [(packet[0], packet[7:]) for packet in client.packets()[1:]]
            assert flags == [(0x3A, b"b"), (0x3A, b"c"), (0x32, b"d")]

    def test_of_qos_0_it_is_told_where_that_is_asked_for(self, node: Node) -> None:
        with node.client() as client:
            client.attach(1, "c", _core.Mqtt(kept=True))
            client.attach(2, "c", _core.Mqtt())
            node.publish("c", b"a")
            client.packets()
            ((number, position, given),) = node.engine.standing(client.handle)
            assert (number, offset(node, position), given) == (1, 1, None)


class TestEnd:
    def test_bare_mqtt_ends_without_a_word_of_the_engines(self, node: Node) -> None:
        with node.client() as client:
            client.attach(1, "c", None)
            node.engine.send(client.handle, b"\xe0\x02\x8b\x00")
            node.engine.finish(client.handle)
            assert client.packets() == [b"\x90\x03\x00\x01\x01", b"\xe0\x02\x8b\x00"]
            assert client.end.recv(1) == b"", "the sending side is shut"
        with node.client() as client:
            node.engine.run_shards()
            node.engine.finish(client.handle)
            node.engine.run_shards()
            assert client.end.recv(1) == b""

    def test_over_websocket_packets_are_in_binary_frames_and_the_end_is_a_close(self, node: Node) -> None:
        with node.client(_core.MQTT | _core.MQTT_FRAMED) as client:
            client.attach(1, "c", _core.Mqtt(qos=1))
            node.publish("c", b"a", b"b")
            node.engine.finish(client.handle, 1001)
            node.engine.run_shards()
            assert client.end.recv(100) == b"\x82\x05\x90\x03\x00\x01\x01" + b"\x88\x02\x03\xe9"


class TestBirths:
    def test_channels_that_begin_are_told_and_lie_behind_the_places_before(self, node: Node) -> None:
        node.publish("before", b"x")
        node.engine.watch_births(True)
        node.engine.events()
        places = node.engine.places("", None)
        node.publish("c", b"a")
        node.publish("c", b"b")
        node.publish("before", b"x")
        assert node.engine.events() == [("births", 0, 0)]
        assert node.engine.events() == []
        assert node.engine.born() == ["c"]
        plan = node.engine.locate("c", node.engine.position_at("c", places), 0, 0, 0)
        assert (plan.outcome, plan.backlog) == (_core.RESUMED, 2)
        node.engine.watch_births(False)
        node.publish("d", b"a")
        assert (node.engine.events(), node.engine.born()) == ([], [])
