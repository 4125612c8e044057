"""The wrapped log: order, waiting lines, what fails, what is read back. The registry speaks HTTP, the log is a list."""

import asyncio
import json
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Self

import pytest

from fanout.decoding import sink as sink_module
from fanout.decoding.decoders import Decoders
from fanout.decoding.registry import Registry
from fanout.decoding.schemas import Schemas
from fanout.decoding.sink import Formats
from fanout.decoding.source import DecodedSource
from fanout.errors import SourceError, SourceTimeout
from fanout.rules.route import UNDECODABLE
from fanout.sources.base import Done, Health, NewRecord, Sink, Slice
from fanout.types import Record
from tests.support.schema_registry import SchemaRegistry, schema_registry
from tests.support.serialized import ORDER, Serializers
from tests.support.sources import RecordingSink, eventually

FORMATS = {"orders": Formats("avro", "avro"), "values": Formats(None, "avro")}


class ListedLog:
    """A log that a test delivers by hand, on a thread of its own as sources do."""

    def __init__(self) -> None:
        self.sink: Sink
        self.kept: list[Record] = []

    async def start(
        self,
        sink: Sink,
        topics: Sequence[str],
        history_ms: int,
        state_topics: Sequence[str] = (),
        on_demand: Sequence[str] = (),
    ) -> None:
        self.sink = sink

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        raise SourceError("this log is not written")

    def read_partition(self, topic: str, partition: int, *, whole: bool = False) -> None:
        self.sink.caught_up(topic, partition)

    def let_go(self, topic: str, partition: int) -> None:
        self.sink.let_go(topic, partition)

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        return Slice([r for r in self.kept if r.topic == topic and start <= r.offset < stop], stop)

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        return {0: (0, len(self.kept))}

    async def since(self, topic: str, timestamp: int, partitions: Collection[int] | None = None) -> dict[int, int]:
        return {0: 0}

    def health(self) -> Health:
        return Health(True, "")

    def lag(self) -> dict[tuple[str, int], int]:
        return {("orders", 0): 1}

    async def stop(self) -> None:
        pass


class Rig:
    """A decoded log over a registry, delivering to a sink that remembers."""

    def __init__(self, registry: SchemaRegistry, state_topics: Sequence[str] = ()) -> None:
        self._state_topics = state_topics
        self.log = ListedLog()
        self.sink = RecordingSink()
        self.schemas = Schemas(Decoders(Registry(registry.url, {})))
        self.source = DecodedSource(self.log, FORMATS.get, self.schemas)

    async def __aenter__(self) -> Self:
        await self.source.start(self.sink, tuple(FORMATS), 1000, self._state_topics)
        return self

    async def __aexit__(self, *_: object) -> None:
        await asyncio.wait_for(self.source.stop(), 20)

    async def deliver(self, *records: Record) -> None:
        await asyncio.wait_for(asyncio.to_thread(self.log.sink.records, list(records)), 20)

    def seen(self, topic: str, partition: int = 0) -> list[Any]:
        return [json.loads(value) for value in self.sink.values(topic, partition) if value is not None]


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with schema_registry() as running:
        yield running


def record(value: bytes | None, offset: int = 0, *, topic: str = "values", partition: int = 0, **more: Any) -> Record:
    fields = {"leader_epoch": 0, "timestamp": 1, "key": b"k", "headers": None, **more}
    return Record(topic=topic, partition=partition, offset=offset, value=value, **fields)


def reasons(sink: RecordingSink) -> list[str]:
    headers = [dict(r.headers or ()) for r in sink.delivered]
    return [(h[UNDECODABLE] or b"").decode() for h in headers if UNDECODABLE in h]


async def test_keys_and_values_become_json_and_all_else_stays(registry: SchemaRegistry) -> None:
    serializers = Serializers(registry)
    key, value = serializers.avro('"string"', "k1"), serializers.avro(ORDER, {"id": "a", "count": 1})
    given = record(value, 7, topic="orders", key=key, headers=[("h", b"x")])
    async with Rig(registry) as rig:
        await rig.deliver(given)
        await eventually(lambda: rig.sink.delivered)
    assert rig.sink.delivered == [given._replace(key=b'"k1"', value=b'{"id":"a","count":1,"note":null}')]


async def test_what_is_just_delivered_is_known_as_it_was_written(registry: SchemaRegistry) -> None:
    value = Serializers(registry).avro(ORDER, {"id": "a", "count": 1})
    given = [record(value, 0), record(b"no frame", 1), record(b"x", 2, topic="other")]
    written: list[Record] = []
    async with Rig(registry) as rig:
        take = rig.sink.records

        def records(batch: Sequence[Any]) -> None:
            written.extend(map(rig.source.as_written, batch))
            take(batch)

        rig.sink.records = records  # type: ignore[method-assign]
        await rig.deliver(*given)
        await eventually(lambda: len(written) == 3)
        await rig.deliver(*given)
        await eventually(lambda: len(written) == 6)
    assert sorted(written[:3]) == sorted(given)  # two of them waited for the schema
    assert written[3:] == given


async def test_null_values_other_topics_and_what_fanout_wrote_stay_as_they_are(registry: SchemaRegistry) -> None:
    given = [
        record(None, 0),
        record(b"plain", 0, topic="other"),
        record(b"published", 1, headers=[("fanout.type", b"text")]),
    ]
    async with Rig(registry) as rig:
        await rig.deliver(*given)
        assert rig.sink.delivered == given
    assert registry.asked == []


@pytest.mark.parametrize("kind", [None, b"\xff"])
async def test_a_header_that_does_not_say_what_fanout_would_lets_nothing_pass(
    registry: SchemaRegistry, kind: bytes | None
) -> None:
    async with Rig(registry) as rig:
        await rig.deliver(record(b"plain", 1, headers=[("fanout.type", kind)]))
        await eventually(lambda: len(rig.sink.delivered) == 1)
        assert reasons(rig.sink) == ["the value cannot be decoded: it does not begin with the id of a schema"]


async def test_what_cannot_be_decoded_goes_on_marked_and_in_its_place(registry: SchemaRegistry) -> None:
    good = Serializers(registry).avro(ORDER, {"id": "a", "count": 1})
    bad = [b"plain text", good[:5] + b"\xff" * 20, b"\0\0\0\0\x63 of no schema"]
    async with Rig(registry) as rig:
        await rig.deliver(*(record(value, at) for at, value in enumerate([good, *bad, good])))
        await eventually(lambda: len(rig.sink.delivered) == 5)
    assert [r.offset for r in rig.sink.delivered] == [0, 1, 2, 3, 4]
    assert [r.value for r in rig.sink.delivered[1:4]] == bad
    assert [text.partition(": ")[0] for text in reasons(rig.sink)] == ["the value cannot be decoded"] * 3
    assert [
        word in text for word, text in zip(("begin", "is no avro", "schema 99"), reasons(rig.sink), strict=True)
    ] == [True] * 3


@pytest.mark.parametrize("state_topics", [(), ("values",)])
async def test_a_start_does_not_wait_for_a_registry_that_is_away_unless_for_a_topic_of_state(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch, state_topics: tuple[str, ...]
) -> None:
    monkeypatch.setattr(sink_module, "AWAY_S", 0.1)
    value = Serializers(registry).avro(ORDER, {"id": "a", "count": 1})
    registry.failing = 503
    async with Rig(registry, state_topics) as rig:
        await rig.deliver(record(value, 0), record(b"x", 0, topic="other"))
        await asyncio.to_thread(rig.log.sink.ready)
        await eventually(lambda: rig.sink.is_ready or len(registry.asked) > 4)
        assert rig.sink.is_ready == (not state_topics)
        assert (rig.sink.values("other"), rig.sink.values("values")) == ([b"x"], [])
        assert list(rig.source.health().held) == [("values", 0)]
        registry.failing = None
        await eventually(lambda: rig.sink.is_ready and rig.seen("values"))
        assert rig.sink.calls.count("ready") == 1


async def test_while_a_schema_is_asked_for_only_its_partition_waits(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "AWAY_S", 600)
    value = Serializers(registry).avro(ORDER, {"id": "a", "count": 1})
    registry.failing = 503
    async with Rig(registry) as rig:
        await asyncio.to_thread(rig.log.sink.partition, "values", bytes(16), 0, 0)
        await rig.deliver(record(value, 0), record(b"x", 0, topic="other"), record(None, 0, partition=1))
        await rig.deliver(record(None, 1), record(b"y", 1, topic="other"))
        for progress in (1, 2):
            await asyncio.to_thread(rig.log.sink.progress, "values", 0, progress)
        await asyncio.to_thread(rig.log.sink.progress, "values", 1, 1)
        await asyncio.to_thread(rig.log.sink.ready)
        await eventually(lambda: rig.source.health().held)
        assert rig.source.health().ok
        held = rig.source.health().held
        assert list(held) == [("values", 0)]
        assert "503" in held["values", 0].reason
        assert rig.sink.values("other") == [b"x", b"y"]
        assert (rig.sink.values("values"), rig.sink.values("values", 1)) == ([], [None])
        assert rig.sink.progressed == {("values", 1): 1}
        assert not rig.sink.is_ready
        registry.failing = None
        await eventually(lambda: rig.sink.is_ready)
        assert rig.source.health().held == {}
        assert rig.sink.progressed == {("values", 1): 1, ("values", 0): 2}
        assert rig.sink.before_ready == 5
        assert [r.offset for r in rig.sink.delivered if (r.topic, r.partition) == ("values", 0)] == [0, 1]


async def test_nothing_is_given_up_however_long_the_registry_is_away(registry: SchemaRegistry) -> None:
    value = Serializers(registry).avro(ORDER, {"id": "a", "count": 1})
    registry.stop()
    async with Rig(registry) as rig:
        await rig.deliver(record(value, 0))
        await eventually(lambda: rig.source.health().held)
        rig.schemas._clock = lambda: time.monotonic() + 86_400
        await rig.deliver(record(value, 1))
        assert rig.sink.delivered == []
        registry.start()
        await eventually(lambda: len(rig.sink.delivered) == 2)
        assert reasons(rig.sink) == []


async def test_a_second_schema_is_waited_for_in_the_middle_of_a_line(registry: SchemaRegistry) -> None:
    serializers = Serializers(registry)
    values = [
        serializers.avro(f'{{"type":"record","name":"R{n}","fields":[{{"name":"n","type":"int"}}]}}', {"n": n})
        for n in range(5)
    ]
    async with Rig(registry) as rig:
        await rig.deliver(*(record(value, at) for at, value in enumerate(values * 2)))
        await eventually(lambda: len(rig.sink.delivered) == 10)
    assert rig.seen("values") == [{"n": n} for n in range(5)] * 2


async def test_lines_are_bounded_and_then_the_source_waits(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sink_module, "WAITING_RECORDS", 3)
    value = Serializers(registry).avro(ORDER, {"id": "a", "count": 1})
    registry.failing = 503
    async with Rig(registry) as rig:
        await rig.deliver(record(value, 0), record(value, 1))
        given = threading.Thread(target=rig.log.sink.records, args=([record(value, 2)],))
        given.start()
        await asyncio.to_thread(given.join, 0.2)
        assert given.is_alive()
        await eventually(lambda: not rig.source.health().ok)
        assert "503" in rig.source.health().reason
        registry.failing = None
        await asyncio.to_thread(given.join, 20)
        assert not given.is_alive()
        await eventually(lambda: len(rig.sink.delivered) == 3)


async def test_lines_are_bounded_in_bytes_and_a_stop_lets_the_source_go(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    value = Serializers(registry).avro(ORDER, {"id": "a", "count": 1})
    monkeypatch.setattr(sink_module, "WAITING_BYTES", 2 * len(value))
    registry.failing = 503
    rig = Rig(registry)
    async with rig:
        given = threading.Thread(target=rig.log.sink.records, args=([record(value, 0), record(value, 1)],))
        given.start()
        await asyncio.to_thread(given.join, 0.2)
        assert given.is_alive()
    await asyncio.to_thread(given.join, 20)
    assert not given.is_alive()
    assert rig.sink.delivered == []


async def test_what_is_read_back_is_decoded_alike(registry: SchemaRegistry) -> None:
    value = Serializers(registry).avro(ORDER, {"id": "a", "count": 1})
    async with Rig(registry) as rig:
        rig.log.kept = [record(value, 0), record(b"bad", 1), record(value, 2), record(b"x", 0, topic="other")]
        back = await rig.source.read("values", 0, 0, 3)
        await rig.deliver(*rig.log.kept[:3])
        assert list(back.records) == rig.sink.delivered
        assert back.next == 3
        assert (await rig.source.read("other", 0, 0, 3)).records == rig.log.kept[3:]
        assert await rig.source.bounds("values") == {0: (0, 4)}
        assert await rig.source.since("values", 5) == {0: 0}
        assert rig.source.lag() == {("orders", 0): 1}
        with pytest.raises(SourceError, match="not written"):
            rig.source.append([], lambda _: None)


async def test_nothing_is_made_up_about_the_past_while_the_registry_is_away(registry: SchemaRegistry) -> None:
    value = Serializers(registry).avro(ORDER, {"id": "a", "count": 1})
    registry.stop()
    async with Rig(registry) as rig:
        rig.log.kept = [record(value, 0)]
        for _ in range(2):
            with pytest.raises(SourceTimeout, match="a schema cannot be had"):
                await rig.source.read("values", 0, 0, 1)


async def test_a_sink_that_fails_is_told_and_not_left_waiting_for(registry: SchemaRegistry) -> None:
    value = Serializers(registry).avro(ORDER, {"id": "a", "count": 1})
    async with Rig(registry) as rig:
        rig.sink.gate = None  # type: ignore[assignment]
        await rig.deliver(record(value, 0))
        await eventually(lambda: not rig.source.health().ok)
        assert "decoding has stopped: AttributeError" in rig.source.health().reason
