"""What every source promises (`fanout.sources.base`), asked of each one in the same words."""

import asyncio
import threading
import time
import uuid
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fanout.decoding.decoders import Decoders
from fanout.decoding.registry import Registry
from fanout.decoding.schemas import Schemas
from fanout.decoding.sink import Formats
from fanout.decoding.source import DecodedSource
from fanout.errors import SourceBusy, SourceError
from fanout.sources.base import LIMITS, Health, NewRecord, Slice, Source
from fanout.sources.embedded import EmbeddedSource
from fanout.sources.kafka import KafkaSource
from fanout.types import Creation
from tests.support.sources import RecordingSink, append, begin_append, eventually, read_all, record

HOUR_MS = 3_600_000


class Log:
    """One log; every source from it reads and writes the same."""

    def __init__(
        self, make: Callable[[Sequence[str]], Source], create: Callable[[str], object], stack: AsyncExitStack
    ) -> None:
        """`create` makes a topic that is not read."""
        self.create = create
        self._make = make
        self._stack = stack

    def topic(self) -> str:
        return f"contract-{uuid.uuid4().hex[:12]}"

    def source(self, state_topics: Sequence[str] = ()) -> Source:
        source = self._make(state_topics)
        self._stack.push_async_callback(source.stop)
        return source

    async def reading(
        self,
        *topics: str,
        history_ms: int = HOUR_MS,
        state_topics: Sequence[str] = (),
        on_demand: Sequence[str] = (),
    ) -> tuple[Source, RecordingSink]:
        """A source that has caught up, and its sink."""
        source, sink = self.source(state_topics), RecordingSink()
        await source.start(sink, topics, history_ms, state_topics, on_demand)
        await eventually(lambda: sink.is_ready)
        return source, sink


@pytest.fixture(params=["embedded", "decoded", pytest.param("kafka", marks=pytest.mark.kafka)])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Log]:
    if request.param in ("embedded", "decoded"):

        def make(state_topics: Sequence[str]) -> Source:
            source = EmbeddedSource(tmp_path / "log")
            if request.param == "embedded":
                return source
            schemas = Schemas(Decoders(Registry("http://127.0.0.1:1", {})))  # nobody asks it for any
            return DecodedSource(source, lambda _: Formats(None, None), schemas)

        def create(topic: str) -> None:
            """Who appends to a topic makes it."""

    else:
        client = request.getfixturevalue("kafka").client

        def make(state_topics: Sequence[str]) -> Source:
            kept = dict.fromkeys(state_topics, Creation({"cleanup.policy": "compact"}, partitions=1))
            return KafkaSource(client, kept=kept, partitions=1)

        def create(topic: str) -> None:
            admin = AdminClient(client)  # kept: it fails what it is asked when it is collected
            admin.create_topics([NewTopic(topic, 1)])[topic].result(15)

    async with AsyncExitStack() as stack:
        yield Log(make, create, stack)


# -- order, start, ready --


async def test_what_is_appended_is_read_back_in_order_each_once(log: Log) -> None:
    topic = log.topic()
    source, sink = await log.reading(topic)
    values = [b"%d" % i for i in range(500)]
    places = await asyncio.gather(*(append(source, record(topic, value)) for value in values))
    await eventually(lambda: len(sink.delivered) >= 500)
    assert sink.values(topic) == values
    assert [r.offset for r in sink.delivered] == [place[0].offset for place in places]
    assert [r.timestamp for r in sink.delivered] == [place[0].timestamp for place in places]


async def test_a_record_comes_back_as_it_was_written(log: Log) -> None:
    topic = log.topic()
    source, sink = await log.reading(topic)
    headers = [("fanout.id", b"x:0"), ("fanout.id", b"\x00\xff"), ("e\u0301", b""), ("none", None)]
    now = time.time_ns() // 1_000_000
    written = [
        NewRecord(topic, None, None, []),
        NewRecord(topic, b"", b"", []),
        NewRecord(topic, b"\xff", b"v", headers),
    ]
    await append(source, *written)
    await eventually(lambda: len(sink.delivered) >= 3)
    assert [(r.key, r.value, list(r.headers or [])) for r in sink.delivered] == [w[1:] for w in written]
    assert all(now - 1000 <= r.timestamp <= now + 60_000 for r in sink.delivered)


async def test_a_partition_is_told_before_its_records(log: Log) -> None:
    topic = log.topic()
    source, sink = await log.reading(topic)
    await append(source, record(topic, b"x"))
    await eventually(lambda: sink.delivered)
    assert sink.calls.index("partition") < sink.calls.index("records")
    ((name, topic_id, partition, start),) = sink.partitions
    assert (name, len(topic_id), partition, start) == (topic, 16, 0, 0)


async def test_a_topic_is_counted_before_its_first_partition(log: Log) -> None:
    topic = log.topic()
    _, sink = await log.reading(topic)
    assert sink.calls.index("topic") < sink.calls.index("partition")
    assert sink.topics == [(topic, sink.partitions[0][1], 1)]


async def test_what_is_read_on_demand_is_read_when_it_is_asked_for(log: Log) -> None:
    topic, other = log.topic(), log.topic()
    source, sink = await log.reading(topic, other, on_demand=[topic])
    await append(source, record(topic, b"before"))
    await append(source, record(other, b"x"))
    await eventually(lambda: sink.values(other))
    assert (sink.values(topic), [name for name, *_ in sink.topics].count(topic)) == ([], 1)
    assert topic not in [name for name, *_ in sink.partitions]
    source.read_partition(topic, 0)
    await eventually(lambda: sink.caught == [(topic, 0)])
    assert sink.values(topic) == [b"before"]
    assert (topic, 0) in source.lag()
    await append(source, record(topic, b"after"))
    await eventually(lambda: sink.values(topic) == [b"before", b"after"])


async def test_what_is_read_on_demand_is_read_whole_if_it_is_asked_for_so(log: Log) -> None:
    topic, recent = log.topic(), log.topic()
    source, sink = await log.reading(topic, recent, history_ms=500, on_demand=[topic, recent])
    await append(source, record(topic, b"old"), record(recent, b"old"))
    await asyncio.sleep(1)
    source.read_partition(topic, 0, whole=True)
    source.read_partition(recent, 0)
    await eventually(lambda: len(sink.caught) == 2)
    assert (sink.values(topic), sink.values(recent)) == ([b"old"], [])


async def test_what_is_let_go_is_read_no_more_until_it_is_asked_for_again(log: Log) -> None:
    topic, other = log.topic(), log.topic()
    source, sink = await log.reading(topic, other, on_demand=[topic])
    await append(source, record(topic, b"1"))
    source.read_partition(topic, 0)
    await eventually(lambda: sink.caught == [(topic, 0)])
    source.let_go(topic, 0)
    await eventually(lambda: sink.left == [(topic, 0)])
    assert (topic, 0) not in source.lag()
    assert await source.bounds(topic, [0]) == {0: (0, 1)}
    assert [r.value for r in await read_all(source, topic, 0, 1)] == [b"1"], "it is looked back at all the same"
    await append(source, record(topic, b"2"))
    await append(source, record(other, b"x"))
    await eventually(lambda: sink.values(other))
    assert sink.values(topic) == [b"1"]
    source.read_partition(topic, 0)
    await eventually(lambda: len(sink.caught) == 2)
    assert sink.values(topic) == [b"1", b"1", b"2"], "from one history window ago"
    assert [call for call in sink.calls if call in ("caught_up", "let_go")] == ["caught_up", "let_go", "caught_up"]
    await append(source, record(topic, b"3"))
    await eventually(lambda: sink.values(topic) == [b"1", b"1", b"2", b"3"])


async def test_topics_that_a_pattern_matches_are_read_also_those_that_appear_later(log: Log) -> None:
    prefix = log.topic()
    before, later, other, state = f"{prefix}.a", f"{prefix}.b", log.topic(), f"{prefix}.state"
    first, _ = await log.reading(before, other)
    await append(first, record(before, b"old"), record(other, b"other"))
    await first.stop()
    source, sink = await log.reading(rf"^{prefix}\.", state_topics=[state])
    assert sink.values(before) == [b"old"]
    await append(source, record(before, b"new"))
    log.create(later)
    await append(source, record(later, b"1"))
    await append(source, record(later, b"2"))
    await eventually(lambda: sink.values(later) == [b"1", b"2"])
    await eventually(lambda: sink.values(before) == [b"old", b"new"])
    assert [start for topic, _, _, start in sink.partitions if topic == later] == [0]
    assert {topic for topic, _, _, _ in sink.partitions} == {before, later, state}
    assert sink.calls.count("ready") == 1
    assert (await source.read(later, 0, 0, 2)).next == 2
    await eventually(lambda: source.lag()[later, 0] == 0)


async def test_ready_comes_once_after_all_that_the_log_held(log: Log) -> None:
    topic = log.topic()
    source, _ = await log.reading(topic)
    count = 3 * LIMITS.read_batch + 1
    await asyncio.gather(*(append(source, record(topic, b"%d" % i)) for i in range(count)))
    await source.stop()
    _, sink = await log.reading(topic)
    assert sink.before_ready == count
    assert max(len(batch) for batch in sink.batches) <= LIMITS.read_batch
    assert sink.calls.count("ready") == 1


async def test_reading_begins_one_history_window_ago(log: Log) -> None:
    topic = log.topic()
    source, _ = await log.reading(topic)
    await append(source, record(topic, b"old"), record(topic, b"old too"))
    await asyncio.sleep(3)
    written = time.monotonic()
    await append(source, record(topic, b"new"))
    await source.stop()
    _, sink = await log.reading(topic, history_ms=int((time.monotonic() - written) * 1000) + 2500)
    assert sink.partitions[0][3] == 2
    assert sink.values(topic) == [b"new"]


async def test_without_anything_new_reading_begins_at_the_end(log: Log) -> None:
    topic = log.topic()
    source, _ = await log.reading(topic)
    await append(source, record(topic, b"old"))
    await asyncio.sleep(0.5)
    await source.stop()
    source, sink = await log.reading(topic, history_ms=1)
    assert sink.partitions[0][3] == 1
    await append(source, record(topic, b"new"))
    await eventually(lambda: sink.values(topic) == [b"new"])


async def test_a_restart_keeps_everything(log: Log) -> None:
    topic = log.topic()
    source, first = await log.reading(topic)
    await append(source, *(record(topic, b"%d" % i) for i in range(10)))
    await source.stop()
    source, second = await log.reading(topic)
    assert second.values(topic) == [b"%d" % i for i in range(10)]
    assert second.partitions == first.partitions
    (place,) = await append(source, record(topic, b"more"))
    assert place.offset == 10


async def test_many_topics(log: Log) -> None:
    topics = [log.topic() for _ in range(20)]
    source, sink = await log.reading(*topics)
    assert sorted(name for name, *_ in sink.partitions) == sorted(topics)
    assert len({topic_id for _, topic_id, *_ in sink.partitions}) == 20
    for turn in range(3):
        await append(source, *(record(topic, b"%d" % turn) for topic in topics))
    await eventually(lambda: len(sink.delivered) >= 60)
    assert all(sink.values(topic) == [b"0", b"1", b"2"] for topic in topics)


# -- state --


async def test_topics_of_state_are_read_from_their_beginning_before_ready(log: Log) -> None:
    messages, state = log.topic(), log.topic()
    source, _ = await log.reading(messages, state_topics=[state])
    count = LIMITS.read_batch + 1
    await append(source, record(messages, b"old"))
    await asyncio.gather(*(append(source, record(state, b"%d" % i, key=b"%d" % i)) for i in range(count)))
    await asyncio.sleep(0.5)
    await source.stop()
    source, sink = await log.reading(messages, history_ms=1, state_topics=[state])
    assert sink.before_ready == count
    assert sink.values(state) == [b"%d" % i for i in range(count)]
    assert {(name, start) for name, _, _, start in sink.partitions} == {(messages, 1), (state, 0)}
    await append(source, record(state, None, key=b"0"), record(messages, b"new"))
    await eventually(lambda: sink.values(state)[count:] == [None] and sink.values(messages) == [b"new"])


async def test_a_record_without_a_key_says_nothing_of_state(log: Log) -> None:
    state = log.topic()
    source, sink = await log.reading(state_topics=[state])
    refusal = await asyncio.wait_for(begin_append(source, record(state, b"x", key=None)), 20)
    assert isinstance(refusal, SourceError)
    await append(source, record(state, b"y"))
    await eventually(lambda: sink.values(state) == [b"y"])


# -- append --


async def test_records_of_one_append_lie_next_to_each_other_in_the_order_of_the_calls(log: Log) -> None:
    topic = log.topic()
    source, _ = await log.reading(topic)
    groups = [[record(topic, b"%d.%d" % (g, i)) for i in range(7)] for g in range(100)]
    placed = await asyncio.gather(*(append(source, *group) for group in groups))
    offsets = [place.offset for places in placed for place in places]
    assert offsets == list(range(offsets[0], offsets[0] + 700))
    assert {(place.topic, place.partition) for places in placed for place in places} == {(topic, 0)}


async def test_an_append_of_nothing_is_confirmed(log: Log) -> None:
    source, _ = await log.reading(log.topic())
    assert await append(source) == []


async def test_confirmations_come_on_the_loop_and_one_that_raises_harms_no_other(log: Log) -> None:
    topic = log.topic()
    source, _ = await log.reading(topic)
    loop, threads, reported = asyncio.get_running_loop(), [], []
    loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))

    def bad(_: object) -> None:
        threads.append(threading.get_ident())
        raise ZeroDivisionError

    source.append([record(topic, b"1")], bad)
    await append(source, record(topic, b"2"))
    assert threads == [threading.get_ident()]
    assert [type(error) for error in reported] == [ZeroDivisionError]


@pytest.mark.parametrize("size", [0, LIMITS.append_bytes // 100])
async def test_past_the_bound_append_raises_busy_and_takes_nothing(log: Log, size: int) -> None:
    topic = log.topic()
    source, sink = await log.reading(topic)
    fits = LIMITS.append_records if size == 0 else 99  # of 100, which the keys push past the bound
    outcomes = [begin_append(source, record(topic, bytes(size))) for _ in range(fits)]
    with pytest.raises(SourceBusy):
        begin_append(source, record(topic, bytes(size)))
    assert all(isinstance(outcome, list) for outcome in await asyncio.wait_for(asyncio.gather(*outcomes), 60))
    await append(source, record(topic, b"later"))
    await eventually(lambda: sink.delivered and sink.delivered[-1].value == b"later")
    assert len(sink.delivered) == fits + 1


# -- reading back --


async def test_what_was_written_is_read_back_by_any_range(log: Log) -> None:
    topic = log.topic()
    source, sink = await log.reading(topic)
    count = 2 * LIMITS.slice_records + 500
    await asyncio.gather(*(append(source, record(topic, b"%d" % i)) for i in range(count)))
    await eventually(lambda: len(sink.delivered) == count)
    for start, stop in [(0, count), (0, 1), (count - 1, count), (7, 1500), (LIMITS.slice_records, 2000), (5, 5)]:
        assert await read_all(source, topic, start, stop) == sink.delivered[start:stop]
    first = await source.read(topic, 0, 0, count)
    assert (len(first.records), first.next) == (LIMITS.slice_records, LIMITS.slice_records)


async def test_a_range_behind_the_end_is_read_up_to_it(log: Log) -> None:
    topic = log.topic()
    source, sink = await log.reading(topic)
    await append(source, record(topic, b"0"), record(topic, b"1"))
    await eventually(lambda: len(sink.delivered) == 2)
    behind = await source.read(topic, 0, 1, 100)
    assert (len(behind.records), behind.next) == (1, 2)
    nothing = await source.read(topic, 0, 90, 100)
    assert (len(nothing.records), nothing.next) == (0, 90)


async def test_a_slice_is_bounded_in_bytes_and_has_a_record_all_the_same(log: Log) -> None:
    topic = log.topic()
    source, sink = await log.reading(topic)
    values = [bytes([i]) * 900_000 for i in range(8)]
    for value in values:
        await append(source, record(topic, value))
    await eventually(lambda: len(sink.delivered) == 8)
    first = await source.read(topic, 0, 0, 8)
    assert first.next == len(first.records) == LIMITS.slice_bytes // 900_000 + 1
    assert [r.value for r in await read_all(source, topic, 0, 8)] == values


async def test_bounds_and_times_tell_where_to_read(log: Log) -> None:
    topic = log.topic()
    source, _ = await log.reading(topic)
    assert await source.bounds(topic) == {0: (0, 0)}
    assert await source.since(topic, 0) == {0: 0}
    places = []
    for value in (b"0", b"1", b"2"):
        places += await append(source, record(topic, value))
        await asyncio.sleep(0.02)
    assert await source.bounds(topic) == {0: (0, 3)}
    for long_ago in (0, -1, -2, -120_000):
        assert await source.since(topic, long_ago) == {0: 0}
    for place in places:
        assert await source.since(topic, place.timestamp) == {0: place.offset}
        assert await source.since(topic, place.timestamp + 1) == {0: place.offset + 1}


async def test_reads_are_bounded_and_those_given_up_leave_room(log: Log) -> None:
    topic = log.topic()
    source, _ = await log.reading(topic)
    await append(source, record(topic, b"x"))
    reads = [asyncio.create_task(source.read(topic, 0, 0, 1)) for _ in range(LIMITS.reads)]
    await asyncio.sleep(0)
    with pytest.raises(SourceBusy):
        await source.read(topic, 0, 0, 1)
    for read in reads[: LIMITS.reads // 2]:
        read.cancel()
    outcomes = await asyncio.gather(*reads, return_exceptions=True)
    assert [len(done.records) for done in outcomes[LIMITS.reads // 2 :] if isinstance(done, Slice)] == [1] * (
        LIMITS.reads // 2
    )
    await asyncio.sleep(0.2)  # until those that were given up have noticed
    assert len((await source.read(topic, 0, 0, 1)).records) == 1


async def test_what_is_not_read_cannot_be_read_back(log: Log) -> None:
    source, _ = await log.reading(log.topic())
    with pytest.raises(SourceError):
        await source.bounds(log.topic())
    await source.stop()
    with pytest.raises(SourceError):
        await source.since(log.topic(), 0)


# -- threads, health, stop --


async def test_the_sink_is_called_from_one_thread_that_is_not_the_loops(log: Log) -> None:
    topic = log.topic()
    source, sink = await log.reading(topic)
    await append(source, record(topic, b"x"))
    await eventually(lambda: sink.delivered)
    assert len(sink.threads) == 1
    assert threading.get_ident() not in sink.threads


async def test_health_says_no_once_stopped(log: Log) -> None:
    source, _ = await log.reading(log.topic())
    assert source.health() == Health(True, "")
    await source.stop()
    assert not source.health().ok
    assert source.health().reason


async def test_lag_counts_what_is_not_delivered(log: Log) -> None:
    topic = log.topic()
    source, _ = await log.reading(topic)
    await append(source, *(record(topic, b"x") for _ in range(10)))
    await source.stop()
    source, sink = log.source(), RecordingSink()
    sink.gate.clear()
    await source.start(sink, [topic], HOUR_MS)
    await eventually(lambda: sink.batches)
    assert source.lag() == {(topic, 0): 10}
    sink.gate.set()
    await eventually(lambda: source.lag() == {(topic, 0): 0})


@pytest.mark.parametrize("failure", [ZeroDivisionError, SystemExit])
async def test_a_sink_that_raises_is_reported_and_not_called_again(log: Log, failure: type[BaseException]) -> None:
    class Broken(RecordingSink):
        def progress(self, *_: object) -> None:
            raise failure

        records = progress

    topic = log.topic()
    source, sink = log.source(), Broken()
    await source.start(sink, [topic], HOUR_MS)
    await eventually(lambda: sink.is_ready)
    await append(source, record(topic, b"x"))
    await eventually(lambda: not source.health().ok)
    assert failure.__name__ in source.health().reason
    await append(source, record(topic, b"still written"))


async def test_stop_waits_for_appends_and_may_be_called_again(log: Log) -> None:
    topic = log.topic()
    source, _ = await log.reading(topic)
    outcomes = [begin_append(source, record(topic, b"%d" % i)) for i in range(2000)]
    await asyncio.gather(source.stop(), source.stop())
    assert all(isinstance(outcome.result(), list) for outcome in outcomes)
    await source.stop()
    with pytest.raises(SourceError):
        begin_append(source, record(topic, b"late"))


async def test_stop_without_start(log: Log) -> None:
    source = log.source()
    assert not source.health().ok
    with pytest.raises(SourceError):
        begin_append(source, record("t", b"early"))
    await source.stop()


async def test_no_thread_is_left(log: Log) -> None:
    before = set(threading.enumerate())
    source, _ = await log.reading(log.topic())
    assert set(threading.enumerate()) > before
    await source.stop()
    left = {thread.name for thread in set(threading.enumerate()) - before if thread.name.startswith("fanout")}
    assert not left
