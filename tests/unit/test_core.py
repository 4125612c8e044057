"""The bridge to the engine: what goes in by batches comes out as messages, and what cannot is refused with words."""

import contextlib
import re
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from confluent_kafka import Message as KafkaMessage
from msgspec.structs import force_setattr

from fanout import _core
from fanout.rules.route import Rule
from fanout.sources.base import Record
from tests.support import memory

SECRET = b"0123456789abcdef"
LAST_DATE_MS = 8_640_000_000_000_000


@pytest.fixture
def engine() -> Iterator[_core.Engine]:
    engine = _core.Engine(io_threads=0, secret=SECRET)
    engine.rules([Rule("t", "#{key}")])
    engine.partition("t", bytes(16), 0, 0)
    yield engine
    engine.close()


def record(offset: int, key: bytes | None = b"c", value: bytes | None = b"v", headers: Any = None) -> Record:
    return Record("t", 0, offset, -1, 1000 + offset, key, value, headers)


def held(engine: _core.Engine, channel: str = "c") -> list[Any]:
    return memory.held(engine, channel)


def test_a_timestamp_that_is_no_date_counts_as_the_nearest(engine: _core.Engine) -> None:
    said = [-(2**63), -1, 0, LAST_DATE_MS, LAST_DATE_MS + 1, 2**53 + 1, 2**63 - 1]
    engine.rules([Rule("t", "#{topic}", name="#{timestamp}")])
    engine.records([Record("t", 0, offset, -1, time_ms, b"k", b"v", None) for offset, time_ms in enumerate(said)])
    told = [0, 0, 0, LAST_DATE_MS, LAST_DATE_MS, LAST_DATE_MS, LAST_DATE_MS]
    assert [(m.timestamp, m.name) for m in held(engine, "t")] == [(time_ms, str(time_ms)) for time_ms in told]


def test_so_does_the_time_that_a_change_says_of_its_message(engine: _core.Engine) -> None:
    names = ("action", "serial", "type", "timestamp")
    texts = ("update", "0000000000000000-0-t", "text", str(2**62))
    headers = [(f"fanout.{name}", text.encode()) for name, text in zip(names, texts, strict=True)]
    engine.records([record(5, headers=headers)])
    message = engine.message("c", "0000000000000000-0-t")[1]
    assert message is not None
    assert message.timestamp == LAST_DATE_MS


class TestFacts:
    def test_records_of_their_topic_go_to_who_takes_them_and_no_further(self, engine: _core.Engine) -> None:
        taken: list[Any] = []
        engine.facts("told", taken.append)
        before = engine.position("c")
        engine.partition("told", bytes(16), 0, 0)
        engine.records(
            [
                record(0),
                Record("told", 0, 7, -1, 1, b"node:a", b"{}", None),
                record(1),
                Record("told", 0, 8, -1, 1, b"b", None, []),
            ]
        )
        engine.progress("told", 0, 9)
        assert taken == [[(b"node:a", b"{}"), (b"b", None)]]
        assert [message.timestamp for message in held(engine)] == [1000, 1001]
        assert len(engine.position("c")) == len(before), "no partition of theirs is part of a position"

    def test_each_topic_goes_to_who_takes_its_own(self, engine: _core.Engine) -> None:
        taken: list[Any] = []
        others: list[Any] = []
        engine.facts("told", taken.append)
        engine.facts("said", others.append)
        engine.records(
            [
                Record("told", 0, 0, -1, 1, b"a", b"1", None),
                Record("said", 0, 0, -1, 1, b"b", b"2", None),
                record(0),
                Record("told", 0, 1, -1, 1, b"c", b"3", None),
            ]
        )
        assert taken == [[(b"a", b"1"), (b"c", b"3")]]
        assert others == [[(b"b", b"2")]]
        assert len(held(engine)) == 1

    def test_what_kafka_delivers_is_told_alike(self, engine: _core.Engine) -> None:
        taken: list[Any] = []
        engine.facts("told", taken.append)
        engine.router(lambda record: (record.topic(),))
        engine.records([KafkaMessage(topic="told", partition=0, offset=0, key=b"a", value=b"{}", timestamp=(1, 1))])
        assert taken == [[(b"a", b"{}")]]


class TestBatches:
    def test_a_record_becomes_a_message_with_all_that_its_publisher_said(self, engine: _core.Engine) -> None:
        headers = [
            ("fanout.id", b"x:0:0"),
            ("fanout.type", b"text"),
            ("fanout.name", b"n"),
            ("fanout.encoding", b"json"),
            ("fanout.clientId", b"bob"),
            ("fanout.connectionId", b"x"),
            ("fanout.extras", b'{"headers":{"a":1}}'),
        ]
        engine.records([record(0, value=b"[1]", headers=headers)])
        (message,) = held(engine)
        assert (message.id, message.name, message.data, message.encoding) == ("x:0:0", "n", "[1]", "json")
        assert (message.client_id, message.connection_id, message.timestamp) == ("bob", "x", 1000)
        assert message.extras == {"headers": {"a": 1}}
        assert message.serial == _core.message_serial("t", 0, 0)

    @pytest.mark.parametrize(
        ("value", "data", "encoding"),
        [
            (b"text", "text", None),
            (b'{"a":1}', '{"a":1}', "json"),
            (b"\xff", b"\xff", None),
            (None, None, None),
            (b"", "", None),
        ],
    )
    def test_a_plain_record_is_what_it_is(
        self, engine: _core.Engine, value: bytes | None, data: str | bytes | None, encoding: str | None
    ) -> None:
        engine.records([record(0, value=value)])
        (message,) = held(engine)
        assert (message.data, message.encoding, message.id) == (data, encoding, "t:0:0")

    def test_confluent_kafkas_messages_are_read_as_they_are(self, engine: _core.Engine) -> None:
        message = KafkaMessage(
            topic="t",
            partition=0,
            offset=4,
            key=b"c",
            value=b"v",
            headers=[("h", b"1"), ("none", None)],
            timestamp=(1, 77),
        )
        engine.records([message])
        assert [(m.data, m.timestamp, m.id) for m in held(engine)] == [("v", 77, "t:0:4")]

    def test_headers_that_cannot_be_read_cost_a_record_its_headers_alone(self, engine: _core.Engine) -> None:
        class Unreadable:
            def __init__(self, message: Any) -> None:
                self._message = message

            def __getattr__(self, name: str) -> Any:
                return getattr(self._message, name)

            def headers(self) -> Any:
                raise SystemError("a name that is not UTF-8")

        bad = Unreadable(KafkaMessage(topic="t", partition=0, offset=0, key=b"c", value=b"bad", timestamp=(1, 7)))
        good = KafkaMessage(topic="t", partition=0, offset=1, key=b"c", value=b"good", timestamp=(1, 7))
        engine.records([bad, good])
        assert [m.data for m in held(engine)] == ["bad", "good"]
        assert engine.stats()["headers_unreadable"] == 1

    def test_many_headers_and_records_keep_apart(self, engine: _core.Engine) -> None:
        engine.rules([Rule("t", "#{header.h}")])
        headers = [("noise", b"x")] * 10
        engine.records([record(n, headers=[*headers, ("h", b"%d" % (n % 7))]) for n in range(700)])
        assert [int(m.id.split(":")[2]) for m in held(engine, "3")] == list(range(3, 700, 7))

    def test_records_of_unannounced_partitions_are_a_bug_that_is_told(self, engine: _core.Engine) -> None:
        with pytest.raises(RuntimeError, match="never announced"):
            engine.records([Record("t", 9, 0, -1, 0, b"c", b"v", None)])


class TestRouter:
    def test_names_one_channel_several_or_none(self, engine: _core.Engine) -> None:
        answers: dict[int, tuple[str, ...]] = {0: ("a",), 1: ("a", "b"), 2: (), 3: ()}
        engine.router(lambda record: answers[record.offset])
        engine.records([record(n) for n in range(4)])
        assert [len(held(engine, name)) for name in "ab"] == [2, 1]
        assert engine.stats()["records_unrouted"] == 2

    def test_an_impossible_name_is_counted_and_skipped(self, engine: _core.Engine) -> None:
        answers = {0: ("a",), 1: ("",), 2: ("a", ":b")}
        engine.router(lambda record: answers[record.offset])
        engine.records([record(n) for n in range(3)])
        assert [m.id for m in held(engine, "a")] == ["t:0:0", "t:0:2"]
        assert engine.stats()["records_unroutable"] == 2


class TestConnections:
    def test_replies_and_messages_leave_in_order(self, engine: _core.Engine) -> None:
        server, client = socket.socketpair()
        server.setblocking(False)
        handle = engine.register(server.fileno(), _core.JSON, "conn", False)
        engine.send(handle, b"first")
        plan = engine.locate("c", None, 0, 0, 0)
        engine.attach(handle, 1, plan, "c", _core.KIND_MESSAGES, True, b"attached")
        engine.records([record(0)])
        engine.send(handle, b"pong", 10)
        engine.run_shards()
        text = client.recv(4096)
        assert text.startswith(b"\x81\x05first\x81\x08attached\x8a\x04pong")
        assert b'"data":"v"' in text
        engine.unregister(handle)
        server.close()
        client.close()

    def test_a_closed_socket_is_not_written_and_its_handle_means_nobody(self, engine: _core.Engine) -> None:
        server, client = socket.socketpair()
        server.setblocking(False)
        old = engine.register(server.fileno(), _core.JSON, "conn", False)
        engine.run_shards()
        engine.unregister(old)
        new = engine.register(server.fileno(), _core.MSGPACK, "conn", False)
        assert new != old
        engine.send(old, b"late")
        engine.finish(old)
        engine.send(new, b"x")
        engine.run_shards()
        assert client.recv(4096) == b"\x82\x01x"
        engine.unregister(new)
        server.close()
        client.close()

    def test_a_pipe_gives_the_loop_what_a_socket_would_be_written(self, engine: _core.Engine) -> None:
        handle = engine.register_pipe(_core.JSON, "conn", False)
        engine.send(handle, b"first")
        engine.attach(handle, 1, engine.locate("c", None, 0, 0, 0), "c", _core.KIND_MESSAGES, True, b"attached")
        engine.records([record(0)])
        engine.finish(handle, 1000)
        engine.run_shards()
        assert engine.events() == [("write", handle, 0)]
        assert engine.take(handle, 7) == b"\x81\x05first"
        text = engine.take(handle, 1 << 20)
        assert text is not None
        assert text.startswith(b"\x81\x08attached")
        assert b'"data":"v"' not in text  # CLOSE was asked for before the frame's turn came
        assert text.endswith(b"\x88\x02\x03\xe8")
        assert engine.take(handle, 1 << 20) is None
        engine.unregister(handle)
        assert engine.take(handle, 1) is None

    @pytest.mark.parametrize("io_threads", [0, 1])
    def test_a_pipe_that_nobody_takes_from_holds_little_and_loses_nothing(self, io_threads: int) -> None:
        engine = _core.Engine(io_threads=io_threads, secret=SECRET)
        engine.rules([Rule("t", "#{key}")])
        engine.partition("t", bytes(16), 0, 0)
        handle = engine.register_pipe(_core.JSON, "conn", False)
        engine.attach(handle, 1, engine.locate("c", None, 0, 0, 0), "c", _core.KIND_MESSAGES, True, b"attached")
        engine.records([record(offset, value=b"x" * 1000) for offset in range(1000)])
        taken = b""
        while b'"id":"t:0:999"' not in taken:
            if engine.shard_fd >= 0:
                engine.run_shards()
            more = engine.take(handle, 1 << 30)
            assert more is not None
            assert len(more) <= 64 << 10
            taken += more
        ids = re.findall(rb'"id":"t:0:(\d+)"', taken)
        assert ids == [b"%d" % offset for offset in range(1000)]
        engine.close()

    def test_a_plan_is_used_once(self, engine: _core.Engine) -> None:
        plan = engine.locate("c", None, 0, 0, 0)
        engine.attach(1, 1, plan, "c", _core.KIND_MESSAGES, True, b"")
        with pytest.raises(ValueError, match="kinds"):
            engine.attach(1, 1, plan, "c", 128, True, b"")
        with pytest.raises(ValueError, match="once"):
            engine.attach(1, 1, plan, "c", _core.KIND_MESSAGES, True, b"")


class TestRefusals:
    @pytest.mark.parametrize(
        "options",
        [
            {"secret": b"short"},
            {"io_threads": -1},
            {"io_threads": 1000},
            {"history_ms": 0},
            {"max_idle_ms": 1},
            {"history_bytes": 1},
        ],
    )
    def test_options_out_of_range(self, options: dict[str, Any]) -> None:
        with pytest.raises(ValueError, match=r"must|needed"):
            _core.Engine(**{"secret": SECRET, **options})

    def test_a_bad_template_is_named(self, engine: _core.Engine) -> None:
        rule = Rule("t", "#{key}", key="json")
        force_setattr(rule, "channel", "#{key}#{key.a}")  # a rule refuses that itself
        with pytest.raises(ValueError, match="'key' cannot be both text and something else"):
            engine.rules([rule])

    @pytest.mark.parametrize("name", ["", "x" * 1025])
    def test_an_empty_or_endless_channel(self, engine: _core.Engine, name: str) -> None:
        with pytest.raises(ValueError, match="1 to 1024"):
            engine.locate(name, None, 0, 0, 0)

    def test_a_foreign_position_and_a_place_nowhere(self, engine: _core.Engine) -> None:
        with pytest.raises(ValueError, match="not of this channel"):
            engine.places("c", "nonsense")
        with pytest.raises(ValueError, match="not read"):
            engine.held("c", [("u", 0, 0)], 0, 1, True, (10, 1 << 20))
        with pytest.raises(ValueError, match="not read"):
            engine.position_at("c", [("t", 9, 0)])


class TestOnDemand:
    """Of six partitions a node reads those that it needs: a position says more than it reads."""

    ID = bytes(range(16))

    @pytest.fixture
    def node(self) -> Iterator[Callable[..., _core.Engine]]:
        """Makes a node that has heard of these numbers of partitions, and reads some up to offset 10."""
        with contextlib.ExitStack() as stack:

            def make(counts: Sequence[int], reads: Iterable[int], **rule: Any) -> _core.Engine:
                engine = _core.Engine(io_threads=0, secret=SECRET)
                stack.callback(engine.close)
                engine.rules([Rule("t", "k#{key}", **rule)])
                for count in counts:
                    engine.topic("t", self.ID, count)
                for number in reads:
                    engine.partition("t", self.ID, number, 0)
                    engine.progress("t", number, 10)
                return engine

            yield partial(make, partitioner="murmur2", read="needed")

    @pytest.mark.parametrize("count", [1, 2, 3, 6])
    def test_positions_from_before_go_on(self, node: Callable[..., _core.Engine], count: int) -> None:
        before = node((), range(count), partitioner=None, read="all")
        ((_, own),) = node((count,), ()).partitions_of("k0")
        after = node((count,), [own])
        for channel in ("k0", "another rule's"):
            assert after.locate(channel, before.position(channel), 0, 0, 0).outcome == _core.RESUMED
        assert after.places("k0", before.position("k0")) == [("t", own, 10)]

    def test_who_has_yet_to_hear_of_a_number_lets_positions_wait(self, node: Callable[..., _core.Engine]) -> None:
        grown = node((6, 8), ())
        lies = {name: {number for _, number in grown.partitions_of(name)} for name in map("k{}".format, range(100))}
        channel, both = next((name, both) for name, both in lies.items() if len(both) == 2 and max(both) < 6)
        position = node((6, 8), both).position(channel)
        late = node((6,), both)
        assert late.locate(channel, position, 0, 0, 0).outcome == _core.AHEAD
        late.topic("t", self.ID, 8)
        assert late.locate(channel, position, 0, 0, 0).outcome == _core.RESUMED


class TestCursor:
    def test_takes_what_comes_and_is_woken_for_it(self, engine: _core.Engine) -> None:
        cursor = engine.cursor("c", None, 5)
        assert cursor.take(10) == []
        engine.records([record(n) for n in range(3)])
        assert engine.events() == [("wake", 5, 0)]
        assert [m.id for m in cursor.take(2)] == ["t:0:0", "t:0:1"]
        assert [m.id for m in cursor.take(2)] == ["t:0:2"]
        assert cursor.take(2) == []
        cursor.close()
        engine.records([record(3)])
        assert engine.events() == []

    def test_each_messages_position_continues_behind_it(self, engine: _core.Engine) -> None:
        cursor = engine.cursor("c", None, 1)
        engine.records([record(n) for n in range(5)])
        for index, message in enumerate(cursor.take(10)):
            again = engine.cursor("c", message.position, 2)
            assert again.outcome == _core.RESUMED
            assert len(again.take(10)) == 4 - index

    def test_begins_with_the_newest_of_each_key_where_these_are_kept(self) -> None:
        engine = _core.Engine(io_threads=0, secret=SECRET, history_ms=1_000, history_bytes=1 << 20)
        engine.rules([Rule("t", "c", snapshot=True)])
        engine.partition("t", bytes(16), 0, 0)
        early = engine.cursor("c", None, 1)
        engine.records([record(n, key=b"%d" % (n % 3), value=b"x" * 10_000) for n in range(300)])
        cursor = engine.cursor("c", None, 2)
        assert [m.id for m in cursor.take(2)] == ["t:0:297", "t:0:298"]
        (last,) = cursor.take(2)
        assert last.id == "t:0:299"
        engine.records([record(300, key=b"1"), record(301, key=b"1")])
        assert [m.id for m in cursor.take(9)] == ["t:0:300", "t:0:301"]
        again = engine.cursor("c", last.position, 3)
        assert (again.outcome, [m.id for m in again.take(9)]) == (_core.RESUMED, ["t:0:300", "t:0:301"])
        with pytest.raises(LookupError, match="dropped"):
            early.take(10)
        engine.close()

    def test_a_position_that_memory_has_passed_goes_on_with_the_newest(self) -> None:
        engine = _core.Engine(io_threads=0, secret=SECRET, history_bytes=1 << 20)
        engine.rules([Rule("t", "c", snapshot=True)])
        engine.partition("t", bytes(16), 0, 0)
        engine.records([record(0, key=b"other")])
        (first,) = engine.cursor("c", None, 1).take(9)
        engine.records([record(n, key=b"%d" % (n % 3), value=b"x" * 10_000) for n in range(1, 300)])
        cursor = engine.cursor("c", first.position, 2)
        assert cursor.outcome == _core.CONFLATED
        assert [m.id for m in cursor.take(9)] == ["t:0:297", "t:0:298", "t:0:299"]
        engine.close()

    def test_dropped_messages_are_told_once(self) -> None:
        engine = _core.Engine(io_threads=0, secret=SECRET, history_bytes=1 << 20)
        engine.rules([Rule("t", "#{key}")])
        engine.partition("t", bytes(16), 0, 0)
        cursor = engine.cursor("c", None, 1)
        engine.records([record(n, value=b"x" * 10_000) for n in range(300)])
        with pytest.raises(LookupError, match="dropped"):
            cursor.take(10)
        assert cursor.take(1000)[-1].id == "t:0:299"
        engine.close()


def test_an_id_is_a_repeat_by_the_records_time_not_by_when_it_was_read(engine: _core.Engine) -> None:
    now = time.time_ns() // 1_000_000
    kind = ("fanout.type", b"text")
    for offset, (name, age) in enumerate([(b"old", _core.DEDUP_WINDOW_MS + 60_000), (b"new", 1_000)]):
        headers = [kind, ("fanout.id", name)]
        engine.records([Record("t", 0, offset, -1, now - age, b"c", b"v", headers)])
    assert engine.find("c", "old") is None
    assert engine.find("c", "new") == _core.message_serial("t", 0, 1)
