"""What the thread that looks at Kafka's topics has the reading thread do, partition by partition."""

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Begin", "Change", "Counted", "End", "Ends", "Gone", "LetGo"]


class Counted(NamedTuple):
    """The topic has so many partitions. Comes before the first of them."""

    topic: str
    topic_id: bytes
    partitions: int


class Gone(NamedTuple):
    """The topic is no more, until it is counted again."""

    topic: str


class Begin(NamedTuple):
    """Read the partition from `start`, and drop what was read of it before. `end` is where its log ended just now.

    `epoch` is the leader epoch up to which the log is known to reach `start`, -1 if it has none: if an unclean election
    cuts it off before anything is read, that tells.
    """

    topic: str
    topic_id: bytes
    partition: int
    start: int
    end: int
    epoch: int


class End(NamedTuple):
    """The partition is no more: stop reading it."""

    topic: str
    partition: int


class Ends(NamedTuple):
    """Where the logs of partitions end, by topic and number: caught up is who has read as far."""

    ends: Mapping[tuple[str, int], int]


class LetGo(NamedTuple):
    """The partition is not needed any more: stop reading it, and say so."""

    topic: str
    partition: int


Change = Counted | Gone | Begin | End | Ends | LetGo
