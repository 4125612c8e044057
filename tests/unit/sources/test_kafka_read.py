"""Ranges of a partition, by a consumer that plays what Kafka rarely does; the rest is tested with Kafka itself."""

from typing import Any

from fanout.sources.kafka_read import read_range
from fanout.sources.reads import Errand


class Error:
    def __init__(self, name: str) -> None:
        self._name = name

    def name(self) -> str:
        return self._name

    str = name


class Message:
    def __init__(self, offset: int, error: str | None = None) -> None:
        self._offset = offset
        self._error = None if error is None else Error(error)

    def offset(self) -> int:
        return self._offset

    def error(self) -> Error | None:
        return self._error

    def __len__(self) -> int:
        return 10


class Consumer:
    """Gives what it is made with; once assigned to an offset of `later`, what that has."""

    def __init__(self, first: list[Message], later: dict[int, list[Message]], bounds: tuple[int, int]) -> None:
        self._queue = first
        self._later = later
        self._bounds = bounds

    def assign(self, places: list[Any]) -> None:
        self._queue += self._later.pop(places[0].offset, [])

    def unassign(self) -> None: ...

    def poll(self, timeout: float) -> Message | None:
        return self._queue.pop(0) if self._queue else None

    def consume(self, count: int, timeout: float) -> list[Message]:
        return []

    def get_watermark_offsets(self, where: Any, timeout: float) -> tuple[int, int]:
        return self._bounds


def read(consumer: Any, start: int, stop: int) -> tuple[list[int | None], int]:
    found = read_range(consumer, "t", 0, start, stop, Errand())
    return [record.offset() for record in found.records], found.next


def some(*offsets: int) -> list[Message]:
    return [Message(offset) for offset in offsets]


def test_a_range_ends_where_retention_has_passed_the_reader_within_it() -> None:
    kept = {200: some(200, 201, 202)}
    consumer = Consumer([*some(100, 101), Message(102, "_AUTO_OFFSET_RESET")], kept, (200, 300))
    assert read(consumer, 100, 202) == ([100, 101], 102)


def test_a_range_that_retention_has_taken_the_beginning_of_begins_where_there_is_something() -> None:
    consumer = Consumer([Message(100, "_AUTO_OFFSET_RESET")], {200: some(200, 201, 202)}, (200, 300))
    assert read(consumer, 100, 202) == ([200, 201], 202)


def test_the_end_that_a_new_leader_tells_too_early_is_not_the_ranges() -> None:
    consumer = Consumer([Message(100, "_PARTITION_EOF"), *some(100, 101, 102)], {}, (0, 103))
    assert read(consumer, 100, 102) == ([100, 101], 102)


def test_a_range_ends_with_the_log() -> None:
    consumer = Consumer([Message(100, "_PARTITION_EOF")], {}, (0, 100))
    assert read(consumer, 100, 102) == ([], 100)
