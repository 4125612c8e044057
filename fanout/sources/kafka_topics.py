"""Which partitions there are to read, and from where: Kafka's topics, looked at again and again.

Rules:

- Look-ups have a thread and a handle of their own: on the reader's handle each would wait behind an idle fetch.
- A partition met at the first look at its topic is read from one history window ago; one of a topic of state, or that
  appears later, or whose topic was made anew (only the topic's id tells), from the earliest offset there is. One whose
  position was lost goes on where its log goes on: behind what retention took, or where it was cut (`kafka_lost`).
- A look that had no answer is followed by one with a handle of its own: a handle asks the broker that it once heard of
  as the controller, and nobody else; if that one refuses connections, it is asked without a pause until it is back.
- A topic that is missing at the first look is created, and last one that gets as many partitions as another. One that
  vanishes later is waited for: whoever deletes a topic may be about to make it again.
- Whether Kafka answers is what the last look found. Trouble is logged when it begins, changes its kind, and ends.
"""

import concurrent.futures
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import Consumer, IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec, TopicDescription  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from fanout.errors import SourceTimeout
from fanout.sources.base import Health
from fanout.sources.kafka_lost import Place, go_on
from fanout.types import Creation

__all__ = ["Begin", "End", "Making", "TopicWatch"]

LOOK_EVERY_S: Final = 5.0
RETRY_S: Final = 1.0  # after a look that failed; also the least time between two looks
REQUEST_S: Final = 5.0
APPEAR_S: Final = 5.0  # until a topic that was just created can be described, and its partitions be led

# What the client library calls it when no broker answers.
_AWAY: Final = {"_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE"}
_PASSING: Final = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}
_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]

Key = tuple[str, int]  # topic, partition

log = logging.getLogger("fanout.source.kafka")


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


class Making(NamedTuple):
    """How missing topics are made: those in `kept` in their own way, and the others with so many partitions."""

    kept: Mapping[str, Creation]
    partitions: int
    replication: int  # of all; -1: the broker's default

    def of(self, topic: str) -> Creation:
        """How that topic is made."""
        return self.kept.get(topic) or Creation()


class _Trouble(NamedTuple):
    """What a look met. `kind` stays the same while nothing but the wording changes."""

    kind: Hashable
    reason: str
    passing: bool = False  # ends by itself within moments: a new leader is being chosen


class _Stopped(Exception):
    """The watch was told to stop in the middle of a look."""


class TopicWatch:
    """Looks at the topics until `stop`; `found` gathers what the reader has to do.

    `run` belongs to a thread of its own; `look_soon`, `lost`, `health`, `stop` to any.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        topics: Sequence[str],
        state_topics: Sequence[str],
        making: Making,
        history_ms: int,
        reader: Callable[[], Consumer],
    ) -> None:
        """What `making` keeps is made if it is missing, read or not. `reader` makes a handle that reads back.

        Raises KafkaException for bad settings.
        """
        self._settings = {**settings}
        self._admin = AdminClient(self._settings)
        self._bootstrap = settings.get("bootstrap.servers", "")
        self._topics = tuple(dict.fromkeys((*topics, *state_topics)))
        self._state_topics = frozenset(state_topics)
        self._making = making
        self._unmade = [topic for topic in making.kept if topic not in self._topics]
        self._history_ms = history_ms
        self._reader = reader
        self._ids: dict[str, bytes | None] = {}  # topics looked at before; None: it was missing
        self._known: set[Key] = set()
        self._wanted: dict[Key, Any] = {}  # where to begin in partitions that are not found yet
        self._lost: deque[tuple[Key, Place]] = deque()  # one a partition at most: it stands still until found again
        self._trouble = _Trouble("new", f"Kafka at {self._bootstrap} has not answered yet")
        self._ok = False
        self._hint: KafkaError | None = None
        self._stopping = threading.Event()
        self._soon = threading.Event()
        self.found: deque[Begin | End] = deque()  # a few entries a partition, taken by the reader
        self.complete = False  # every topic has been found once, and all its partitions put into `found`

    def health(self) -> Health:
        """Whether the last look had its answers."""
        return Health(self._ok, "" if self._ok else self._trouble.reason)

    def look_soon(self, hint: KafkaError | None = None) -> None:
        """Something may have changed; `hint` says what a client saw, in case Kafka does not answer."""
        if hint is not None and hint.name() != "_ALL_BROKERS_DOWN":  # which does not say why
            self._hint = hint
        self._soon.set()

    def lost(self, topic: str, partition: int, position: Place) -> None:
        """The position in a partition is no more: where it goes on will be found."""
        self._lost.append(((topic, partition), position))
        self._soon.set()

    def stop(self) -> None:
        """Makes `run` return, within 0.1 s."""
        self._stopping.set()
        self._soon.set()

    def run(self) -> None:
        """Looks until told to stop."""
        while not self._stopping.is_set():
            self._soon.clear()
            try:
                trouble = self._look()
            except _Stopped:
                break
            self._note(trouble)
            if trouble is not None and trouble.kind == "away":
                self._admin = AdminClient(self._settings)
            self._stopping.wait(RETRY_S)
            if trouble is None:
                self._soon.wait(LOOK_EVERY_S)

    def _note(self, trouble: _Trouble | None) -> None:
        if trouble is None:
            if not self._ok:
                log.info("Kafka at %s answers", self._bootstrap)
            self._hint = None
        else:
            if self._ok or trouble.kind != self._trouble.kind:
                log.error("%s; trying on", trouble.reason)
            self._trouble = trouble
        self._ok = trouble is None

    # -- one look: what fails is gathered, so that one topic's trouble is not the others' --

    def _look(self) -> _Trouble | None:
        """Finds what has changed; returns the first trouble that was met."""
        troubles: list[_Trouble] = []
        described, missing = self._describe(self._topics, troubles)
        new = [topic for topic in missing if topic not in self._ids]
        for dependent in (False, True):
            if batch := [topic for topic in new if (self._making.of(topic).like is not None) == dependent]:
                described |= self._await(self._create(batch, described, troubles), troubles)
        for topic in missing:
            if topic in self._ids and topic not in described:
                self._ids[topic] = None
                troubles.append(_Trouble(("gone", topic), f"topic {topic!r} is not in Kafka at {self._bootstrap}"))
        self._locate(described, troubles)
        if troubles:
            return troubles[0]
        self._keep()
        self.complete = True
        return None

    def _keep(self) -> None:
        """Makes, once, the topics that are only written to. Whoever writes hears if that was not permitted."""
        if not self._unmade:
            return
        troubles: list[_Trouble] = []
        described, missing = self._describe(self._unmade, troubles)
        self._create(missing, described, troubles)
        for trouble in troubles:
            log.warning("%s", trouble.reason)
        self._unmade = []

    def _describe(
        self, topics: Sequence[str], troubles: list[_Trouble]
    ) -> tuple[dict[str, TopicDescription], list[str]]:
        """The topics that are there, and the names of those that are not."""
        futures = self._admin.describe_topics(TopicCollection(list(topics)), request_timeout=REQUEST_S)
        described, errors = self._answers(futures)
        missing = [topic for topic, error in errors.items() if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART]
        strange = errors.keys() - missing
        troubles.extend(self._trouble_of(errors[topic], f"topic {topic!r} cannot be looked at") for topic in strange)
        return described, missing

    def _create(
        self, topics: Sequence[str], described: Mapping[str, TopicDescription], troubles: list[_Trouble]
    ) -> list[str]:
        """Makes topics; returns those that are there now."""
        wanted = []
        for topic in topics:
            settings, count, like = self._making.of(topic)
            count = count or self._partitions_of(like, described, troubles)
            if count is not None:
                wanted.append(NewTopic(topic, count, self._making.replication, config=dict(settings)))
        if not wanted:
            return []
        created, errors = self._answers(self._admin.create_topics(wanted, request_timeout=REQUEST_S))
        there = list(created)
        for topic in there:
            log.info("topic %r was missing and has been created", topic)
        for topic, error in errors.items():
            if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # another node was faster
                there.append(topic)
            else:
                troubles.append(self._trouble_of(error, f"topic {topic!r} is missing and cannot be created"))
        return there

    def _partitions_of(
        self, like: str | None, described: Mapping[str, TopicDescription], troubles: list[_Trouble]
    ) -> int | None:
        """As many as that topic has; None if that cannot be found out now."""
        if like is None:
            return self._making.partitions
        met: list[_Trouble] = []
        topic = described.get(like) or self._describe([like], met)[0].get(like)
        troubles.extend(met)
        if topic is None:  # it may be missing, and will be made like any other
            return None if met else self._making.partitions
        return len(topic.partitions)

    def _await(self, topics: Sequence[str], troubles: list[_Trouble]) -> dict[str, TopicDescription]:
        """Waits for topics that were just created: it takes a moment until they are known and led."""
        self._ids.update(dict.fromkeys(topics))
        deadline = time.monotonic() + APPEAR_S
        described: dict[str, TopicDescription] = {}
        while waiting := [topic for topic in topics if topic not in described]:
            if time.monotonic() > deadline or self._stopping.wait(0.1):
                break
            found = self._describe(waiting, troubles)[0]
            described |= {name: topic for name, topic in found.items() if all(part.leader for part in topic.partitions)}
        return described

    def _locate(self, described: Mapping[str, TopicDescription], troubles: list[_Trouble]) -> None:
        """Finds where to begin in each partition that is not being read, or has to be read anew."""
        ids = {topic: _id_bytes(description) for topic, description in described.items()}
        keys = {(topic, part.id) for topic, description in described.items() for part in description.partitions}
        again: set[Key] = set()
        for topic, topic_id in ids.items():
            before = self._ids.get(topic, topic_id)
            if before != topic_id:
                if before is not None:
                    log.warning("topic %r was made anew: it is read from its beginning", topic)
                old = {key for key in self._known if key[0] == topic}
                self.found.extend(End(*key) for key in sorted(old - keys))
                self._known -= old - keys
                again |= old & keys
        since = OffsetSpec.for_timestamp(max(0, time.time_ns() // 1_000_000 - self._history_ms))
        whole = self._state_topics | self._ids.keys()
        for topic, partition in keys - self._known:
            self._wanted[topic, partition] = _EARLIEST if topic in whole else since
        self._wanted.update(self._lost.popleft() for _ in range(len(self._lost)))
        self._wanted.update(dict.fromkeys(again, _EARLIEST))
        self._known |= keys
        self._ids.update(ids)
        deadline = time.monotonic() + APPEAR_S
        while True:
            met: list[_Trouble] = []
            self._find({key: spec for key, spec in self._wanted.items() if key in keys}, met)
            passing = bool(met) and all(trouble.passing for trouble in met)
            if not passing or time.monotonic() > deadline or self._stopping.wait(0.1):
                break
        troubles.extend(met)

    def _find(self, wanted: Mapping[Key, Any], troubles: list[_Trouble]) -> None:
        """Turns what is wanted into offsets; what cannot be answered now stays wanted."""
        # First the ends: a record that arrives between the two questions is then still ahead of the start.
        ends = self._offsets(dict.fromkeys(wanted, _LATEST), troubles)
        specs = {key: _EARLIEST if isinstance(wanted[key], Place) else wanted[key] for key in ends}
        for key, start in sorted(self._offsets(specs, troubles).items()):
            topic, partition = key
            if isinstance(lost := wanted[key], Place):
                try:
                    start = go_on(self._reader, topic, partition, lost, (start, ends[key]), self._checks())
                except SourceTimeout as error:
                    troubles.append(_Trouble(("lost", key), str(error)))
                    continue
            begin, epoch = ends[key] if start.offset < 0 else start
            self.found.append(Begin(topic, self._ids[topic] or b"", partition, begin, ends[key].offset, epoch))
            del self._wanted[key]

    def _checks(self) -> Callable[[], None]:
        deadline = time.monotonic() + REQUEST_S

        def check() -> None:
            if self._stopping.is_set():
                raise _Stopped
            if time.monotonic() > deadline:
                raise SourceTimeout(f"Kafka at {self._bootstrap} does not tell where its log was cut")

        return check

    def _offsets(self, specs: Mapping[Key, Any], troubles: list[_Trouble]) -> dict[Key, Place]:
        if not specs:
            return {}
        asked = {TopicPartition(*key): spec for key, spec in specs.items()}
        futures = self._admin.list_offsets(
            asked, isolation_level=IsolationLevel.READ_COMMITTED, request_timeout=REQUEST_S
        )
        answers, errors = self._answers(futures)
        for where, error in errors.items():
            what = f"topic {where.topic!r}, partition {where.partition} cannot be looked at"
            troubles.append(self._trouble_of(error, what))
        return {
            (where.topic, where.partition): Place(
                answer.offset, -1 if answer.leader_epoch is None else answer.leader_epoch
            )
            for where, answer in answers.items()
        }

    def _answers(
        self, futures: Mapping[Any, "concurrent.futures.Future[Any]"]
    ) -> tuple[dict[Any, Any], dict[Any, KafkaError]]:
        """Waits for all of them; returns the results, and the errors."""
        while concurrent.futures.wait(futures.values(), timeout=0.1).not_done:
            if self._stopping.is_set():
                raise _Stopped
        results, errors = {}, {}
        for name, future in futures.items():
            try:
                results[name] = future.result()
            except KafkaException as error:
                errors[name] = error.args[0]
        return results, errors

    def _trouble_of(self, error: KafkaError, what: str) -> _Trouble:
        if error.name() in _AWAY:
            error = self._hint or error
            return _Trouble("away", f"Kafka at {self._bootstrap} does not answer: {error.str()}")
        return _Trouble((what, error.code()), f"{what}: {error.str()}", error.code() in _PASSING)


def _id_bytes(description: TopicDescription) -> bytes:
    topic_id: Any = description.topic_id
    halves = (topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits())
    return b"".join((half % (1 << 64)).to_bytes(8, "big") for half in halves)  # the halves are signed
