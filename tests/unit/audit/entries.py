"""Records of a log, as the tests of the audit write them."""

from collections.abc import Iterable

from fanout.audit.expected import Entry, Expected, expect
from fanout.audit.views import Received
from fanout.types import Record

__all__ = ["TOPIC", "entries", "expected", "message", "record"]

TOPIC = "t"


def record(
    number: int, *, partition: int = 0, key: str = "c", message_id: str | None = None, timestamp: int = 0, **more: bytes
) -> Record:
    """The record at offset `number`, of the message `message(number)` unless it has another id."""
    named = message(number).id if message_id is None else message_id
    headers = [("fanout.id", named.encode()), *((name.replace("_", "."), value) for name, value in more.items())]
    value = message(number).text.encode()
    return Record(TOPIC, partition, number, 0, timestamp, key.encode(), value, headers)


def message(number: int) -> Received:
    return Received(f"id{number}", f"text {number}")


def expected(records: Iterable[Record]) -> Expected:
    """What follows from records whose key is their channel."""
    return expect(records, {TOPIC: lambda one: (one.key or b"").decode() or None})


def entries(count: int, partitions: int = 1) -> list[Entry]:
    """So many messages of a channel, in turn over the partitions."""
    return expected(record(number, partition=number % partitions) for number in range(count)).channels["c"]
