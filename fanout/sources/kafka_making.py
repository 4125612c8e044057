"""Topics that are missing, and how they are made.

Rules:

- A topic that gets as many partitions as another is made after that one.
- A topic that is only written to is made once, if it is missing. Whoever writes hears if that was not permitted.
- Belongs to the thread that looks at the topics.
"""

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from confluent_kafka.admin import TopicDescription  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from fanout.sources.kafka_admin import Admin, Trouble
from fanout.types import Creation

__all__ = ["Maker", "Making"]

log = logging.getLogger("fanout.source.kafka")


class Making(NamedTuple):
    """How missing topics are made: those in `kept` in their own way, and the others with so many partitions."""

    kept: Mapping[str, Creation]
    partitions: int
    replication: int  # of all; -1: the broker's default

    def of(self, topic: str) -> Creation:
        """How that topic is made."""
        return self.kept.get(topic) or Creation()


class Maker:
    """Makes topics. Every method adds to `troubles` what it met."""

    def __init__(self, admin: Admin, making: Making, read: Collection[str]) -> None:
        """What `making` keeps is made if it is missing, whether it is among those that are `read` or not."""
        self._admin = admin
        self._making = making
        self._unmade = [topic for topic in making.kept if topic not in read]

    def in_turns(self, topics: Sequence[str]) -> list[list[str]]:
        """Those that are made first, and those that have to be made after them."""
        follow = [self._making.of(topic).like is not None for topic in topics]
        turns = [[topic for topic, follows in zip(topics, follow, strict=True) if follows == turn] for turn in (0, 1)]
        return [turn for turn in turns if turn]

    def make(
        self, topics: Sequence[str], described: Mapping[str, TopicDescription], troubles: list[Trouble]
    ) -> list[str]:
        """Makes topics; returns those that are there now."""
        wanted = []
        for topic in topics:
            settings, count, like = self._making.of(topic)
            count = count or self._partitions_of(like, described, troubles)
            if count is not None:
                wanted.append(NewTopic(topic, count, self._making.replication, config=dict(settings)))
        return self._admin.create(wanted, troubles)

    def keep(self) -> None:
        """Makes, once, the topics that are only written to."""
        if not self._unmade:
            return
        troubles: list[Trouble] = []
        described, missing = self._admin.describe(self._unmade, troubles)
        self.make(missing, described, troubles)
        for trouble in troubles:
            log.warning("%s", trouble.reason)
        self._unmade = []

    def _partitions_of(
        self, like: str | None, described: Mapping[str, TopicDescription], troubles: list[Trouble]
    ) -> int | None:
        """As many as that topic has; None if that cannot be found out now."""
        if like is None:
            return self._making.partitions
        met: list[Trouble] = []
        topic = described.get(like) or self._admin.describe([like], met)[0].get(like)
        troubles.extend(met)
        if topic is None:  # it may be missing, and will be made like any other
            return None if met else self._making.partitions
        return len(topic.partitions)
