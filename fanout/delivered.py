"""What a source delivers: a `Record`, or confluent-kafka's `Message` in its place; here they answer the same questions.

The engine asks both itself. All other code asks here, so that nobody else has to know that there are two. Messages are
asked only what is wanted: each answer of theirs costs a call, and a `Record` made of one costs eight.
"""

from collections.abc import Sequence
from typing import Any

from fanout._core import headers_of as message_headers
from fanout.types import Record

__all__ = [
    "as_record",
    "headers_of",
    "leader_epoch_of",
    "offset_of",
    "timestamp_of",
    "topic_of",
    "value_bytes_of",
    "value_of",
]

Delivered = Any
"""A `Record` or confluent-kafka's `Message`, which is loaded only where Kafka is."""


def topic_of(delivered: Delivered) -> str:
    """Its topic."""
    found: str = delivered.topic if isinstance(delivered, Record) else delivered.topic()
    return found


def offset_of(delivered: Delivered) -> int:
    """Its offset in its partition."""
    found: int = delivered.offset if isinstance(delivered, Record) else delivered.offset()
    return found


def leader_epoch_of(delivered: Delivered) -> int:
    """The leader epoch that it was written in; -1 where the log has none."""
    found: int | None = delivered.leader_epoch if isinstance(delivered, Record) else delivered.leader_epoch()
    return -1 if found is None else found


def timestamp_of(delivered: Delivered) -> int:
    """Its time, in ms."""
    found: int = delivered.timestamp if isinstance(delivered, Record) else delivered.timestamp()[1]
    return found


def value_of(delivered: Delivered) -> bytes | None:
    """Its value."""
    found: bytes | None = delivered.value if isinstance(delivered, Record) else delivered.value()
    return found


def value_bytes_of(delivered: Delivered) -> int:
    """How many bytes its value has."""
    return len(value_of(delivered) or b"")


def headers_of(delivered: Delivered) -> Sequence[tuple[str, bytes | None]]:
    """Its headers; none where it has none, or where the client library cannot show them."""
    found = delivered.headers if isinstance(delivered, Record) else message_headers(delivered)
    return found or ()


def as_record(delivered: Delivered) -> Record:
    """All of it."""
    if isinstance(delivered, Record):
        return delivered
    return Record(
        delivered.topic(),
        delivered.partition(),
        delivered.offset(),
        leader_epoch_of(delivered),
        timestamp_of(delivered),
        delivered.key(),
        delivered.value(),
        message_headers(delivered),
    )
