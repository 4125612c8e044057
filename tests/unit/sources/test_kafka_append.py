"""The producer's failures that a real broker does not show on demand, with a producer of the test's own."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from confluent_kafka import KafkaError, KafkaException

from fanout.errors import SourceError, SourceTimeout, SourceTooLarge
from fanout.sources import kafka_append
from fanout.sources.base import Appended, NewRecord
from fanout.sources.kafka_append import TIMEOUT_S, Appender
from fanout.sources.pending import Pending
from tests.support.sources import eventually

Report = Callable[[KafkaError | None, Any], None]


class Place:
    """A delivery report's message."""

    def __init__(self, topic: str, offset: int | None) -> None:
        self.topic = lambda: topic
        self.partition = lambda: 0
        self.offset = lambda: offset
        self.timestamp = lambda: (1, 1234)


class Clock:
    """The appender's."""

    now = 0.0

    @classmethod
    def read(cls) -> float:
        return cls.now


class FakeProducer:
    """Stands in for the client library's producer; `fail` maps a value to how its record ends."""

    made: ClassVar[list[Any]] = []
    fail: ClassVar[dict[bytes, Exception | KafkaError]] = {}
    somewhere: ClassVar[set[bytes]] = set()
    """What is confirmed without its offset."""
    dead: ClassVar[set[bytes]] = set()
    """Keys whose records no producer confirms."""
    slow: ClassVar[set[bytes]] = set()
    """Values that only the second producer confirms."""
    may_empty = threading.Event()
    """A producer is emptied when this is set."""
    is_emptied = threading.Event()
    """Somebody has begun to."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.error_cb = settings["error_cb"]
        self.asked: list[bytes] = []
        self.waiting: list[tuple[str, bytes, bytes, Report]] = []
        self.lock = threading.Lock()
        self.made.append(self)

    def produce(self, topic: str, *, value: bytes, key: bytes, headers: list[Any], on_delivery: Report) -> None:
        self.asked.append(value)
        if isinstance(failure := self.fail.get(value), Exception):
            raise failure
        with self.lock:
            self.waiting.append((topic, key, value, on_delivery))

    def poll(self, seconds: float) -> None:
        with self.lock:
            held = self.slow if self.made == [self] else ()
            stay = [one for one in self.waiting if one[1] in self.dead or one[2] in held]
            taken, self.waiting = [one for one in self.waiting if one not in stay], stay
        for number, (topic, _, value, report) in enumerate(taken):
            failure = self.fail.get(value)
            report(
                failure if isinstance(failure, KafkaError) else None,
                Place(topic, None if value in self.somewhere else number),
            )
            if isinstance(failure, KafkaError) and failure.fatal():
                self.error_cb(failure)

    def purge(self, *, in_flight: bool = True) -> None:
        self.is_emptied.set()
        assert self.may_empty.wait(5)
        with self.lock:
            taken, self.waiting = self.waiting, []
        for topic, _, _, report in taken:
            report(KafkaError(KafkaError._PURGE_QUEUE), Place(topic, None))

    def flush(self, seconds: float) -> None:
        self.poll(0)


@pytest.fixture
async def appender(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Appender]:
    monkeypatch.setattr(kafka_append, "Producer", FakeProducer)
    monkeypatch.setattr(FakeProducer, "made", [])
    monkeypatch.setattr(FakeProducer, "fail", {})
    monkeypatch.setattr(FakeProducer, "somewhere", set())
    monkeypatch.setattr(FakeProducer, "dead", set())
    monkeypatch.setattr(FakeProducer, "slow", set())
    Clock.now = 0.0
    FakeProducer.may_empty.set()
    FakeProducer.is_emptied.clear()
    appender = Appender({}, Pending(asyncio.get_running_loop()), lambda _: None, Clock.read)
    with polling(appender):
        yield appender


@contextmanager
def polling(appender: Appender) -> Iterator[None]:
    thread = threading.Thread(target=appender.run)
    thread.start()
    yield
    appender.stop()
    thread.join()


def begin(appender: Appender, *values: bytes, key: bytes = b"k") -> "asyncio.Future[list[Appended] | SourceError]":
    outcome: asyncio.Future[list[Appended] | SourceError] = asyncio.get_running_loop().create_future()
    appender.append([NewRecord("t", key, value, []) for value in values], outcome.set_result)
    return outcome


async def outcome_of(appender: Appender, *values: bytes) -> list[Appended] | SourceError:
    return await asyncio.wait_for(begin(appender, *values), 5)


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (BufferError("Queue full"), SourceError, "Queue full"),
        (KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)), SourceTooLarge, "too large"),
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), SourceTooLarge, "too large"),
        (KafkaError(KafkaError.REQUEST_TIMED_OUT), SourceTimeout, "timed out"),
        (KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED), SourceError, "uthorization"),
    ],
)
async def test_one_failure_fails_the_append_once(
    appender: Appender, failure: Exception | KafkaError, kind: type[SourceError], text: str
) -> None:
    FakeProducer.fail[b"bad"] = failure
    outcome = await outcome_of(appender, b"1", b"bad", b"2")
    assert type(outcome) is kind
    assert text in str(outcome)
    assert isinstance(await outcome_of(appender, b"1", b"2"), list)


async def test_a_record_of_which_nobody_says_where_it_is_counts_as_not_confirmed(appender: Appender) -> None:
    FakeProducer.somewhere.add(b"?")
    assert isinstance(await outcome_of(appender, b"1", b"?", b"2"), SourceTimeout)
    assert isinstance(await outcome_of(appender, b"1", b"2"), list)


async def test_what_follows_a_refused_record_is_not_sent(appender: Appender) -> None:
    FakeProducer.fail[b"bad"] = BufferError("Queue full")
    await outcome_of(appender, b"1", b"bad", b"2")
    assert FakeProducer.made[0].asked == [b"1", b"bad"]


async def test_a_producer_that_failed_for_good_is_replaced(appender: Appender) -> None:
    FakeProducer.fail[b"bad"] = KafkaError(KafkaError.OUT_OF_ORDER_SEQUENCE_NUMBER, "fenced", fatal=True)
    assert isinstance(await outcome_of(appender, b"bad"), SourceError)
    assert isinstance(await outcome_of(appender, b"good"), list)
    assert len(FakeProducer.made) == 2


async def test_what_is_given_up_takes_along_what_is_behind_it_under_its_key_and_nothing_else(
    appender: Appender,
) -> None:
    FakeProducer.dead.add(b"d")
    FakeProducer.slow |= {b"1", b"2", b"3"}
    late = begin(appender, b"first", b"second", key=b"d")
    Clock.now = 5
    behind, others = begin(appender, b"third", key=b"d"), [begin(appender, b"1", b"2"), begin(appender, b"3")]
    Clock.now = TIMEOUT_S
    assert isinstance(await asyncio.wait_for(late, 5), SourceTimeout)
    assert isinstance(await asyncio.wait_for(behind, 5), SourceTimeout)
    placed = [await asyncio.wait_for(other, 5) for other in others]
    assert all(isinstance(one, list) for one in placed)
    assert [producer.asked for producer in FakeProducer.made] == [
        [b"first", b"second", b"third", b"1", b"2", b"3"],
        [b"1", b"2", b"3"],
    ]


async def test_what_comes_while_a_producer_is_replaced_is_written_behind_what_it_held(appender: Appender) -> None:
    FakeProducer.dead.add(b"d")
    FakeProducer.slow |= {b"1", b"2"}
    FakeProducer.may_empty.clear()
    late = begin(appender, b"late", key=b"d")
    Clock.now = 5
    held = begin(appender, b"1"), begin(appender, b"2")
    Clock.now = TIMEOUT_S
    await eventually(lambda: len(FakeProducer.made) == 2)
    await eventually(FakeProducer.is_emptied.is_set)
    after = begin(appender, b"3")
    assert FakeProducer.made[0].asked == [b"late", b"1", b"2"], "nothing is handed to a producer that is being emptied"
    FakeProducer.may_empty.set()
    for one in (*held, after):
        assert isinstance(await asyncio.wait_for(one, 5), list)
    assert isinstance(await asyncio.wait_for(late, 5), SourceTimeout)
    assert FakeProducer.made[1].asked == [b"1", b"2", b"3"]


async def test_without_the_means_for_another_producer_what_waits_waits_on(
    appender: Appender, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[dict[str, Any]] = []

    def refuse(settings: dict[str, Any]) -> None:
        refused.append(settings)
        raise KafkaException(KafkaError(KafkaError._CRIT_SYS_RESOURCE))

    monkeypatch.setattr(kafka_append, "Producer", refuse)
    FakeProducer.dead.add(b"d")
    waits = begin(appender, b"1", key=b"d")
    Clock.now = 3 * TIMEOUT_S
    await eventually(lambda: refused)
    assert not waits.done()
    FakeProducer.dead.clear()
    assert isinstance(await asyncio.wait_for(waits, 5), list)
