"""One batch out of Kafka's client, a piece at a time.

The client library makes its objects, and copies their bytes, with the interpreter's lock held: for a whole batch of
large records that is 12 ms. Between two pieces others have the lock if they ask for it. Called on the reading thread.
"""

from typing import TYPE_CHECKING, Final, Protocol

from fanout.sources.base import LIMITS

if TYPE_CHECKING:
    from confluent_kafka import Message

__all__ = ["PIECE_BYTES", "PIECE_RECORDS", "Queue", "whole_batch"]

PIECE_RECORDS: Final = 250
PIECE_BYTES: Final = 256 << 10  # of values, taken to be as long as the last one; either is some 0.2 ms of CPU time


class Queue(Protocol):
    """What has been fetched and waits here; `confluent_kafka.Consumer` answers this."""

    def consume(self, num_messages: int, timeout: float, /) -> "list[Message[bytes, bytes]]":
        """Up to so many, as many as there are within so many seconds."""


def whole_batch(first: "Message[bytes, bytes]", queue: Queue) -> "list[Message[bytes, bytes]]":
    """The first one and what waits behind it, as many as a sink is given at once. Does not wait."""
    batch = [first]
    while (room := LIMITS.read_batch - len(batch)) > 0:
        asked = min(room, PIECE_RECORDS, 1 + PIECE_BYTES // (1 + len(batch[-1].value() or b"")))
        piece = queue.consume(asked, 0)
        batch += piece
        if len(piece) < asked:
            break
    return batch
