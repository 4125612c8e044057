"""A batch out of Kafka's client: whole, in order, and in pieces that are small enough."""

from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.sources.base import LIMITS
from fanout.sources.kafka_batch import PIECE_BYTES, PIECE_RECORDS, whole_batch


class Fetched:
    def __init__(self, number: int, size: int | None) -> None:
        self.number = number
        self._value = None if size is None else bytes(size)

    def value(self) -> bytes | None:
        return self._value


class Queue:
    def __init__(self, sizes: list[int | None]) -> None:
        self.waiting = [Fetched(number, size) for number, size in enumerate(sizes)]
        self.pieces: list[list[Fetched]] = []

    def consume(self, num_messages: int, timeout: float, /) -> Any:
        assert num_messages > 0
        assert timeout == 0
        piece, self.waiting = self.waiting[:num_messages], self.waiting[num_messages:]
        self.pieces.append(piece)
        return piece

    def batch(self) -> list[int]:
        first = self.waiting.pop(0)
        return [cast("Fetched", message).number for message in whole_batch(cast("Any", first), self)]


@given(st.lists(st.sampled_from([None, 0, 100, 1_024, 70_000, 300_000]), min_size=1, max_size=40))
def test_a_batch_is_what_waits_in_order(sizes: list[int | None]) -> None:
    queue = Queue(sizes)
    assert queue.batch() == list(range(len(sizes)))
    assert not queue.waiting


def test_what_waits_beyond_a_batch_waits_for_the_next() -> None:
    queue = Queue([0] * (LIMITS.read_batch + 1))
    assert queue.batch() == list(range(LIMITS.read_batch))
    assert queue.batch() == [LIMITS.read_batch]


@pytest.mark.parametrize("size", [None, 0, 100, 1_024, 16_384, 100_000, 1_000_000])
def test_a_piece_is_no_more_than_it_may_be(size: int | None) -> None:
    queue = Queue([size] * LIMITS.read_batch)
    queue.batch()
    assert max(map(len, queue.pieces)) <= PIECE_RECORDS
    assert max(len(piece) - 1 for piece in queue.pieces) * (size or 0) <= PIECE_BYTES, "but for one record"


def test_one_that_is_alone_is_asked_behind_once() -> None:
    queue = Queue([100])
    queue.batch()
    assert queue.pieces == [[]]
