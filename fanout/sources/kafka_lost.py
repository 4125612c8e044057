"""Where to go on in a partition whose position is no more: retention has passed it, or the log was cut.

Rules:

- A log is cut when a replica that lacks its newest records comes to lead (an unclean election). What is written in
  their place carries a newer leader epoch. Epochs never fall along a log, so the cut is found by halving: it lies
  behind the last record whose epoch is not newer than that of the record read last. A step fetches one record.
- Reading goes on at the cut: everything from there on is new, and nothing before it is read twice.
- Without an epoch (a log in a format of old) only the end of the log is known, and reading goes on there.
"""

import logging
from collections.abc import Callable
from typing import Final, NamedTuple

from confluent_kafka import Consumer, Message, TopicPartition

__all__ = ["Place", "go_on"]

LOOK_S: Final = 0.1  # between two looks at whether it is still wanted

log = logging.getLogger("fanout.source.kafka")


class Place(NamedTuple):
    """An offset, and the leader epoch of the log up to it; -1 where the log has none."""

    offset: int
    epoch: int


def go_on(
    reader: Callable[[], Consumer],
    topic: str,
    partition: int,
    lost: Place,
    bounds: tuple[Place, Place],
    check: Callable[[], None],
) -> Place:
    """Where reading goes on from the position that was lost; says so in the log.

    `bounds` are the log's earliest offset and its end. `reader` makes a handle that tells the ends of partitions; it is
    closed again. `check` is called every 0.1 s, and raises what is to end the search.
    """
    earliest, end = bounds
    if lost.offset < earliest.offset:
        text = "topic %r, partition %d: offset %d is no more, reading goes on at %d, the earliest there is"
        log.warning(text, topic, partition, lost.offset, earliest.offset)
        return earliest
    low, high = earliest.offset, min(lost.offset, end.offset)
    if lost.epoch < 0:
        low = high
    consumer = reader()
    try:
        while low < high:
            middle = (low + high) // 2
            record = _first(consumer, TopicPartition(topic, partition, middle), check)
            offset = None if record is None or (record.leader_epoch() or 0) > lost.epoch else record.offset()
            if offset is None or offset >= high:
                high = middle
            else:
                low = offset + 1
    finally:
        consumer.close()
    if low < lost.offset:
        text = "topic %r, partition %d was cut: what was read from offset %d to %d is no more, other records follow"
        log.error(text, topic, partition, low, lost.offset - 1)
    return Place(low, lost.epoch)


def _first(consumer: Consumer, where: TopicPartition, check: Callable[[], None]) -> "Message[bytes, bytes] | None":
    """The first record from there on; None if there is none."""
    consumer.assign([where])
    while True:
        check()
        message = consumer.poll(LOOK_S)
        error = None if message is None else message.error()
        if error is not None and error.name() in ("_PARTITION_EOF", "_AUTO_OFFSET_RESET"):
            return None
        if message is not None and error is None:
            return message
