"""Which partitions there are to read, and from where: Kafka's topics, looked at again and again.

Rules:

- Look-ups have a thread and a handle of their own: on the reader's handle each would wait behind an idle fetch.
- A partition met at the first look at its topic is read from one history window ago; one of a topic of state, or that
  appears later, or whose topic was made anew (only the topic's id tells), from the earliest offset there is. One whose
  position was lost goes on where its log goes on: behind what retention took, or where it was cut (`kafka_lost`).
- A topic that is missing at the first look is created (`kafka_making`). One that vanishes later is waited for: whoever
  deletes a topic may be about to make it again. It is said to be gone when every look for `GONE_S` has missed it: who
  is asked first may not know of it yet.
- Of a topic that is read on demand only what was asked for is read, until it is let go, from one history window ago or
  whole, as asked. That is looked up at once, also between two looks.
- A partition that nobody leads is not waited for after `LED_S`, unless its topic is one of state: it is read when
  somebody does, and until then named as held.
- A broker that has just woken may tell an end that was. So at the start where topics of state end is asked twice, and
  the second time `STANDS_S` after the first: who is ready has read what they say.
- What a pattern matches is looked up with each look, never made, and not missed when it vanishes.
- Whether Kafka answers is what the last look found. Trouble is logged when it begins, changes its kind, and ends.
"""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

from confluent_kafka import Consumer, KafkaError
from confluent_kafka.admin import OffsetSpec, TopicDescription  # type: ignore[attr-defined]

from fanout.errors import SourceTimeout
from fanout.sources.base import Health
from fanout.sources.kafka_admin import AWAY, Admin, Stopped, Trouble
from fanout.sources.kafka_changes import Begin, Change, Counted, End, Ends, Gone, LetGo
from fanout.sources.kafka_lost import Place, go_on
from fanout.sources.kafka_making import Maker, Making
from fanout.sources.patterns import Patterns

__all__ = ["TopicWatch"]

LOOK_EVERY_S: Final = 5.0
RETRY_S: Final = 1.0  # after a look that failed; also the least time between two looks
SEARCH_S: Final = 5.0  # for the cut in one partition
GONE_S: Final = 5.0  # as long as an end of the log has to stand that lies below a client's place
STANDS_S: Final = 1.0  # less costs no start less: what lies between two looks
LED_S: Final = 5.0  # an election is over by then
APPEAR_S: Final = 5.0  # until a topic that was just created can be described, and its partitions be led

_EARLIEST: Final = OffsetSpec.earliest()  # type: ignore[no-untyped-call]
_LATEST: Final = OffsetSpec.latest()  # type: ignore[no-untyped-call]

Key = tuple[str, int]  # topic, partition

log = logging.getLogger("fanout.source.kafka")


class TopicWatch:
    """Looks at the topics until `stop`; `found` gathers what the reader has to do.

    `run` belongs to a thread of its own; `look_soon`, `ask`, `let_go`, `lost`, `health`, `is_gone`, `stop` to any.
    """

    def __init__(
        self,
        settings: Mapping[str, Any],
        topics: Sequence[str],
        state_topics: Sequence[str],
        on_demand: Sequence[str],
        making: Making,
        history_ms: int,
        *,
        reader: Callable[[], Consumer],
        waiting: Callable[[], Mapping[Key, int]],
    ) -> None:
        """What `making` keeps is made if it is missing, read or not. `reader` makes a handle that reads back; `waiting`
        tells in which partitions records do not come, and from which offset on.

        Raises KafkaException for bad settings.
        """
        self._stopping = threading.Event()
        self._admin = Admin(settings, self._stopping)
        self._bootstrap = self._admin.bootstrap
        self._patterns = Patterns((*topics, *state_topics))
        self._topics = self._patterns.names
        self._matched: set[str] = set()
        self._state_topics = frozenset(state_topics)
        self._maker = Maker(self._admin, making, self._topics)
        self._history_ms = history_ms
        self._reader = reader
        self._waiting = waiting
        self._ids: dict[str, bytes | None] = {}  # topics looked at before; None: it was missing
        self._counted: dict[str, Counted] = {}  # as the sink was told; of those that are there
        self._absent: dict[str, float] = {}  # others of those, and since when looks have missed them
        self._gone: set[str] = set()  # of those that were counted once, what the sink was told is no more
        self._on_demand = frozenset(on_demand)
        self._asking: deque[tuple[Key, bool | None]] = deque()  # whether whole; None: to let go. A few a partition
        self._asked: dict[Key, bool] = {}
        self._known: set[Key] = set()
        self._wanted: dict[Key, Any] = {}  # where to begin in partitions that are not found yet
        self._lost: deque[tuple[Key, Place]] = deque()  # one a partition at most: it stands still until found again
        self._trouble = Trouble("new", f"Kafka at {self._bootstrap} has not answered yet")
        self._ok = False
        self._is_due = False  # the next look, however long ago the last one was
        self._wake = threading.Event()
        self.leaderless: Mapping[Key, float] = {}  # partitions that no broker leads, since when
        self.unbegun: Mapping[Key, float] = {}  # those of them that are to be read
        self.unstable: Mapping[Key, bool] = {}  # of those where records wait, whether it is for a transaction
        self.found: deque[Change] = deque()  # a few entries a partition, taken by the reader
        self.complete = False  # every topic has been found once, and its partitions put into `found`, with their ends
        self._found_at: float | None = None  # when that was so, but for ends that have stood

    def health(self) -> Health:
        """Whether the last look had its answers."""
        return Health(self._ok, "" if self._ok else self._trouble.reason)

    def look_soon(self, hint: KafkaError | None = None) -> None:
        """Something may have changed; `hint` says what a client saw, in case Kafka does not answer."""
        if hint is not None and hint.name() == "_ALL_BROKERS_DOWN":  # which does not say why
            self._admin.all_down = True
        elif hint is not None:
            self._admin.hint = hint
        self._is_due = True
        self._wake.set()

    def count(self, topic: str) -> int:
        """How many partitions a topic has, as far as it has been found."""
        counted = self._counted.get(topic)
        return counted.partitions if counted is not None else 0

    def is_gone(self, topic: str) -> bool:
        """Whether a topic that has been found is no more, for certain."""
        return topic in self._gone

    def ask(self, topic: str, partition: int, *, whole: bool) -> None:
        """A partition of a topic that is read on demand is to be read; `whole`: from its beginning."""
        self._asking.append(((topic, partition), whole))
        self._wake.set()

    def let_go(self, topic: str, partition: int) -> None:
        """A partition that was asked for is not to be read any more."""
        self._asking.append(((topic, partition), None))
        self._wake.set()

    def lost(self, topic: str, partition: int, position: Place) -> None:
        """The position in a partition is no more: where it goes on will be found."""
        self._lost.append(((topic, partition), position))
        self._is_due = True
        self._wake.set()

    def stop(self) -> None:
        """Makes `run` return, within 0.1 s."""
        self._stopping.set()
        self._wake.set()

    def run(self) -> None:
        """Looks until told to stop."""
        with suppress(Stopped):
            while not self._stopping.is_set():
                self._is_due = False
                trouble = self._look()
                self._note(trouble)
                if trouble is not None and trouble.kind == AWAY:
                    self._admin.renew()
                self._rest(RETRY_S, until_due=False)
                if trouble is None:
                    self._rest(LOOK_EVERY_S, until_due=True)

    def _rest(self, seconds: float, *, until_due: bool) -> None:
        """Waits between two looks, and begins what is asked for meanwhile."""
        until = time.monotonic() + seconds
        while not (self._stopping.is_set() or (until_due and self._is_due)) and (left := until - time.monotonic()) > 0:
            self._wake.wait(left)
            self._wake.clear()
            self._begin_asked()

    def _begin_asked(self) -> None:
        """Finds where to begin in what is read on demand; what cannot be found now is left to the next look."""
        self._heed()
        there = {key for key in self._asked.keys() - self._known if key[1] < self.count(key[0])}
        there -= self.leaderless.keys()
        if there:
            self._known |= there
            wanted = {key: _EARLIEST if self._asked[key] else self._since for key in there}
            self._wanted.update(wanted)
            troubles: list[Trouble] = []
            self._find(wanted, troubles)
            self._is_due = self._is_due or bool(troubles)

    def _heed(self) -> None:
        """Takes in what is asked for, and lets go of what is not any more."""
        while self._asking:
            key, whole = self._asking.popleft()
            if whole is None:
                self._asked.pop(key, None)
                self._known.discard(key)
                self._wanted.pop(key, None)
                self.found.append(LetGo(*key))
            else:
                self._asked[key] = whole

    @property
    def _since(self) -> Any:
        """One history window ago."""
        return OffsetSpec.for_timestamp(max(0, time.time_ns() // 1_000_000 - self._history_ms))

    def _note(self, trouble: Trouble | None) -> None:
        if trouble is None:
            if not self._ok:
                log.info("Kafka at %s answers", self._bootstrap)
            self._admin.hint, self._admin.all_down = None, False
        else:
            if self._ok or trouble.kind != self._trouble.kind:
                log.error("%s; trying on", trouble.reason)
            self._trouble = trouble
        self._ok = trouble is None

    # -- one look: what fails is gathered, so that one topic's trouble is not the others' --

    def _look(self) -> Trouble | None:
        """Finds what has changed; returns the first trouble that was met."""
        troubles: list[Trouble] = []
        described, missing = self._admin.describe(self._topics, troubles)
        for turn in self._maker.in_turns([topic for topic in missing if topic not in self._ids]):
            described |= self._await(self._maker.make(turn, described, troubles), troubles)
        for topic in missing:
            if topic in self._ids and topic not in described:
                self._ids[topic] = None
                troubles.append(Trouble(("gone", topic), f"topic {topic!r} is not in Kafka at {self._bootstrap}"))
        absent = [topic for topic in missing if topic not in described]
        if self._patterns and described:
            matched, unmatched = self._match(troubles)
            described |= matched
            absent += unmatched
        self._tell_gone(absent)
        self._note_leaders(described)
        self._locate(described, troubles)
        self._explain()
        if troubles:
            return troubles[0]
        self._maker.keep()
        if not self.complete:
            self.complete = self._has_stood(troubles)
            self._is_due |= not self.complete
        return troubles[0] if troubles else None

    def _has_stood(self, troubles: list[Trouble]) -> bool:
        """Whether it is certain by now where topics of state end, which is then put into `found`."""
        state = [key for key in self._known if key[0] in self._state_topics]
        now = time.monotonic()
        if self._found_at is None:
            self._found_at = now
        if not state:
            return True
        if now - self._found_at < STANDS_S:
            return False
        ends = self._admin.offsets(dict.fromkeys(state, _LATEST), troubles)
        self.found.append(Ends({key: end.offset for key, end in ends.items()}))
        return not troubles

    def _match(self, troubles: list[Trouble]) -> tuple[dict[str, TopicDescription], list[str]]:
        """The topics that patterns match, and the names of those that are no more, whose reading ends."""
        met: list[Trouble] = []
        names = self._patterns.of(self._admin.names(met))
        described = self._admin.describe(names, met)[0] if names else {}
        troubles.extend(met)
        gone = set() if met else self._matched - described.keys()
        for topic in gone:
            log.info("topic %r is gone", topic)
            lost = sorted(key for key in self._known if key[0] == topic)
            self.found.extend(End(*key) for key in lost)
            self._known.difference_update(lost)
            self._ids[topic] = None
        for topic in described.keys() - self._matched:
            log.info("topic %r is read: a pattern matches it", topic)
            if self.complete:
                self._ids.setdefault(topic, None)  # it is new: all of it is wanted
        self._matched = (self._matched | described.keys()) - gone
        known = self._counted.keys() - self._topics
        return described, [] if met else sorted(known - described.keys())

    def _tell_gone(self, absent: Sequence[str]) -> None:
        """Says of topics that they are gone, of those that this look has missed."""
        now = time.monotonic()
        self._absent = {topic: self._absent.get(topic, now) for topic in absent if topic in self._counted}
        for topic, since in self._absent.items():
            if now - since >= GONE_S:
                del self._counted[topic]
                self._gone.add(topic)
                self.found.append(Gone(topic))

    def _await(self, topics: Sequence[str], troubles: list[Trouble]) -> dict[str, TopicDescription]:
        """Waits for topics that were just created: it takes a moment until they are known and led."""
        self._ids.update(dict.fromkeys(topics))
        deadline = time.monotonic() + APPEAR_S
        described: dict[str, TopicDescription] = {}
        while waiting := [topic for topic in topics if topic not in described]:
            if time.monotonic() > deadline or self._stopping.wait(0.1):
                break
            found = self._admin.describe(waiting, troubles)[0]
            described |= {name: topic for name, topic in found.items() if all(part.leader for part in topic.partitions)}
        return described

    def _locate(self, described: Mapping[str, TopicDescription], troubles: list[Trouble]) -> None:
        """Finds where to begin in each partition that is not being read, or has to be read anew."""
        ids = {topic: _id_bytes(description) for topic, description in described.items()}
        keys = {(topic, part.id) for topic, description in described.items() for part in description.partitions}
        again: set[Key] = set()
        self._heed()
        for topic, topic_id in ids.items():
            counted = Counted(topic, topic_id, len(described[topic].partitions))
            if self._counted.get(topic) != counted:
                self._gone.discard(topic)
                self._counted[topic] = counted
                self.found.append(counted)
        for topic, topic_id in ids.items():
            before = self._ids.get(topic, topic_id)
            if before != topic_id:
                if before is not None:
                    log.warning("topic %r was made anew: it is read from its beginning", topic)
                old = {key for key in self._known if key[0] == topic}
                self.found.extend(End(*key) for key in sorted(old - keys))
                self._known -= old - keys
                again |= old & keys
        whole = (self._state_topics | self._ids.keys()) - self._on_demand
        new = {key for key in keys - self._known if key[0] not in self._on_demand or key in self._asked}
        for key in new:
            self._wanted[key] = _EARLIEST if key[0] in whole or self._asked.get(key) else self._since
        lost = dict(self._lost.popleft() for _ in range(len(self._lost)))
        self._wanted.update((key, place) for key, place in lost.items() if key in self._known)
        self._wanted.update(dict.fromkeys(again, _EARLIEST))
        self._known |= new
        self._ids.update(ids)
        deadline = time.monotonic() + APPEAR_S
        while True:
            met: list[Trouble] = []
            self._find({key: spec for key, spec in self._wanted.items() if key in keys and self._is_awaited(key)}, met)
            passing = bool(met) and all(trouble.passing for trouble in met)
            if not passing or time.monotonic() > deadline or self._stopping.wait(0.1):
                break
        troubles.extend(met)

    def _note_leaders(self, described: Mapping[str, TopicDescription]) -> None:
        now, parts = time.monotonic(), [(name, part) for name, topic in described.items() for part in topic.partitions]
        self.leaderless = {
            (name, part.id): self.leaderless.get((name, part.id), now) for name, part in parts if part.leader is None
        }

    def _is_awaited(self, key: Key) -> bool:
        """Whether somebody has to lead it. Else it is its channels' trouble alone if nobody does: they are told when
        they ask, at once of what is read on demand.
        """
        since = self.leaderless.get(key)
        if since is None or key[0] in self._state_topics:
            return True
        return key[0] not in self._on_demand and time.monotonic() - since < LED_S

    def _explain(self) -> None:
        """Finds out what holds up the partitions that stand still."""
        wanted = self._asked.keys() | self._wanted.keys()
        self.unbegun = {key: since for key, since in self.leaderless.items() if key in wanted}
        waiting = {key: offset for key, offset in self._waiting().items() if key not in self.leaderless}
        stable = self._admin.offsets(dict.fromkeys(waiting, _LATEST), [])
        self.unstable = {key: key in stable and stable[key].offset <= offset for key, offset in waiting.items()}

    def _find(self, wanted: Mapping[Key, Any], troubles: list[Trouble]) -> None:
        """Turns what is wanted into offsets; what cannot be answered now stays wanted."""
        # First the ends: a record that arrives between the two questions is then still ahead of the start.
        ends = self._admin.offsets(dict.fromkeys(wanted, _LATEST), troubles)
        specs = {key: _EARLIEST if isinstance(wanted[key], Place) else wanted[key] for key in ends}
        for key, start in sorted(self._admin.offsets(specs, troubles).items()):
            topic, partition = key
            if isinstance(lost := wanted[key], Place):
                try:
                    start = go_on(self._reader, topic, partition, lost, (start, ends[key]), self._checks())
                except SourceTimeout as error:
                    troubles.append(Trouble(("lost", key), str(error)))
                    continue
            begin, epoch = ends[key] if start.offset < 0 else start
            self.found.append(Begin(topic, self._ids[topic] or b"", partition, begin, ends[key].offset, epoch))
            del self._wanted[key]

    def _checks(self) -> Callable[[], None]:
        deadline = time.monotonic() + SEARCH_S

        def check() -> None:
            if self._stopping.is_set():
                raise Stopped
            if time.monotonic() > deadline:
                raise SourceTimeout(f"Kafka at {self._bootstrap} does not tell where its log was cut")

        return check


def _id_bytes(description: TopicDescription) -> bytes:
    topic_id: Any = description.topic_id
    halves = (topic_id.get_most_significant_bits(), topic_id.get_least_significant_bits())
    return b"".join((half % (1 << 64)).to_bytes(8, "big") for half in halves)  # the halves are signed
