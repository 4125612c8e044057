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
from fanout.sources.kafka_append import Appender
from fanout.sources.pending import Pending

Report = Callable[[KafkaError | None, Any], None]


class Place:
    """A delivery report's message."""

    def __init__(self, topic: str, offset: int | None) -> None:
        self.topic = lambda: topic
        self.partition = lambda: 0
        self.offset = lambda: offset
        self.timestamp = lambda: (1, 1234)


class FakeProducer:
    """Stands in for the client library's producer; `fail` maps a value to how its record ends."""

    made: ClassVar[list[Any]] = []
    fail: ClassVar[dict[bytes, Exception | KafkaError]] = {}
    somewhere: ClassVar[set[bytes]] = set()
    """What is confirmed without its offset."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self.error_cb = settings["error_cb"]
        self.asked: list[bytes] = []
        self.waiting: list[tuple[str, bytes, Report]] = []
        self.lock = threading.Lock()
        self.made.append(self)

    def produce(self, topic: str, *, value: bytes, key: bytes, headers: list[Any], on_delivery: Report) -> None:
        self.asked.append(value)
        if isinstance(failure := self.fail.get(value), Exception):
            raise failure
        with self.lock:
            self.waiting.append((topic, value, on_delivery))

    def poll(self, seconds: float) -> None:
        with self.lock:
            taken, self.waiting = self.waiting, []
        for number, (topic, value, report) in enumerate(taken):
            failure = self.fail.get(value)
            report(
                failure if isinstance(failure, KafkaError) else None,
                Place(topic, None if value in self.somewhere else number),
            )
            if isinstance(failure, KafkaError) and failure.fatal():
                self.error_cb(failure)

    def purge(self) -> None:
        with self.lock:
            taken, self.waiting = self.waiting, []
        for _, _, report in taken:
            report(KafkaError(KafkaError._PURGE_QUEUE), None)

    def flush(self, seconds: float) -> None:
        self.poll(0)


@pytest.fixture
async def appender(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Appender]:
    monkeypatch.setattr(kafka_append, "Producer", FakeProducer)
    monkeypatch.setattr(FakeProducer, "made", [])
    monkeypatch.setattr(FakeProducer, "fail", {})
    monkeypatch.setattr(FakeProducer, "somewhere", set())
    appender = Appender({}, Pending(asyncio.get_running_loop()), lambda _: None)
    with polling(appender):
        yield appender


@contextmanager
def polling(appender: Appender) -> Iterator[None]:
    thread = threading.Thread(target=appender.run)
    thread.start()
    yield
    appender.stop()
    thread.join()


async def outcome_of(appender: Appender, *values: bytes) -> list[Appended] | SourceError:
    outcome: asyncio.Future[list[Appended] | SourceError] = asyncio.get_running_loop().create_future()
    appender.append([NewRecord("t", b"k", value, []) for value in values], outcome.set_result)
    return await asyncio.wait_for(outcome, 5)


@pytest.mark.parametrize(
    ("failure", "kind", "text"),
    [
        (BufferError("Queue full"), SourceError, "Queue full"),
        (KafkaException(KafkaError(KafkaError.MSG_SIZE_TOO_LARGE)), SourceTooLarge, "too large"),
        (KafkaError(KafkaError.MSG_SIZE_TOO_LARGE), SourceTooLarge, "too large"),
        (KafkaError(KafkaError._MSG_TIMED_OUT), SourceTimeout, "timed out"),
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
