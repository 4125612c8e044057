"""The log in Kafka: every partition of the topics read by one thread, what is appended written by another.

Rules:

- Partitions are assigned, not subscribed to: every node reads everything, and no group is ever joined.
- Only committed records are read. A position that is no more is an error to be told, never a silent jump.
- How far a partition is read is the client's own position, which also passes transaction markers; the last record's
  offset does not.
- The consumer belongs to the reading thread: a call from another can wait for it for ever, with the interpreter's lock.
- Looking up, looking back and writing have handles of their own (`kafka_topics`, `kafka_read`, `kafka_append`): on a
  handle that waits for records every other request waits as well.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from fanout.errors import ConfigError, SourceError
from fanout.sources.base import Done, Health, Held, NewRecord, Sink, Slice
from fanout.sources.kafka_append import WRITTEN, Appender
from fanout.sources.kafka_batch import whole_batch
from fanout.sources.kafka_changes import Begin, Change, Counted, Ends, Gone, LetGo
from fanout.sources.kafka_lost import Place
from fanout.sources.kafka_making import Making
from fanout.sources.kafka_partition import Reading
from fanout.sources.kafka_read import ALL, READER, UNPACKED_MAX, find_bounds, find_since, read_range
from fanout.sources.kafka_topics import TopicWatch
from fanout.sources.pending import Pending
from fanout.sources.prompt import prompt_threads
from fanout.sources.reads import Reads
from fanout.types import Creation

__all__ = ["KafkaSource"]

DRAIN_S: Final = 10.0  # what `stop` gives to what is being appended
PROGRESS_S: Final = 0.1  # between two looks at the positions
HELD_S: Final = 3.0  # records that wait for so long are looked after

CLIENT: Final = {
    "client.id": "fanout",
    "log_level": 2,  # what concerns us arrives by error_cb; the library's own log repeats every retry
    "socket.timeout.ms": 5000,  # a leader that has frozen holds its partitions up for so long
    "reconnect.backoff.max.ms": 2000,  # as long, at most, until a broker that is back is noticed
}
CONSUMER: Final = {
    "fetch.wait.max.ms": 100,
    "fetch.queue.backoff.ms": 10,  # a full queue is looked at again after so long; the default, 1 s, is a stall
    "queued.max.messages.kbytes": 8192,
    "receive.message.max.bytes": UNPACKED_MAX,
}
# What the promises of a source rest on: not for the settings to change.
FIXED: Final = {
    "group.id": "fanout",  # demanded by the library, joined by nobody
    "enable.auto.commit": False,
    "auto.offset.reset": "error",
    "isolation.level": "read_committed",
}
ALIASES: Final = {"auto.commit.enable", "request.required.acks", "delivery.timeout.ms"}
OURS: Final = {*FIXED, *WRITTEN, *ALIASES, "enable.partition.eof"}

log = logging.getLogger("fanout.source.kafka")


class KafkaSource:
    """A `fanout.sources.base.Source` over Kafka topics."""

    def __init__(
        self,
        settings: Mapping[str, Any],
        *,
        kept: Mapping[str, Creation] | None = None,
        partitions: int = 6,
        replication: int = -1,
    ) -> None:
        """`settings` are librdkafka's, with at least `bootstrap.servers`; they also win over the tuning here.

        A topic that is missing is created with so many `partitions` (6: room to spread keys, as adding partitions later
        breaks the order of a key) and so many replicas (-1: the broker's default). `kept` says how some topics are made
        instead, and names those that must be there though they are only written to.
        """
        self._kept = kept or {}
        self._settings = {**CLIENT, **settings}
        self._partitions = partitions
        self._replication = replication
        self._watch: TopicWatch | None = None
        self._appender: Appender | None = None
        self._pending: Pending | None = None
        self._threads: list[threading.Thread] = []
        self._stopped: asyncio.Task[None] | None = None
        self._stopping = False
        self._reading: dict[tuple[str, int], Reading] = {}  # changed by the reading thread alone
        self._state_topics: frozenset[str] = frozenset()
        self._on_demand: frozenset[str] = frozenset()
        self._behind: set[tuple[str, int]] = set()  # of those topics, what is not caught up
        self._failure = ""
        self._reads: Reads[Consumer] = Reads("fanout-kafka-back", self._reader)

    async def start(
        self,
        sink: Sink,
        topics: Sequence[str],
        history_ms: int,
        state_topics: Sequence[str] = (),
        on_demand: Sequence[str] = (),
    ) -> None:
        """See `Source.start`. Raises ConfigError for settings that the client library refuses, or that are not free."""
        if taken := sorted(OURS & self._settings.keys()):
            raise ConfigError(f"kafka-setting: {taken[0]} cannot be set: what fanout promises rests on it")
        pending = Pending(asyncio.get_running_loop())
        try:
            making = Making(self._kept, self._partitions, self._replication)
            watch = TopicWatch(
                self._settings,
                topics,
                state_topics,
                on_demand,
                making,
                history_ms,
                reader=self._reader,
                waiting=self._waiting,
            )
            with prompt_threads():
                appender = Appender(self._settings, pending, watch.look_soon)
                consumer = Consumer({**CONSUMER, **self._settings, **FIXED, "error_cb": watch.look_soon})
        except KafkaException as error:
            raise ConfigError(f"Kafka's client refuses its settings: {error.args[0].str()}") from error
        self._watch, self._appender, self._pending = watch, appender, pending
        self._state_topics, self._on_demand = frozenset(state_topics), frozenset(on_demand)
        self._threads = [
            threading.Thread(target=self._read, args=(consumer, watch, sink), name="fanout-kafka-read", daemon=True),
            threading.Thread(target=watch.run, name="fanout-kafka-watch", daemon=True),
            threading.Thread(target=appender.run, name="fanout-kafka-append", daemon=True),
        ]
        with prompt_threads():
            for thread in self._threads:
                thread.start()

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        """See `Source.append`. Confirmed by all in-sync replicas, or SourceTimeout after 10 s."""
        if self._appender is None or self._stopped is not None:
            raise SourceError("the source is not running")
        self._appender.append(records, done)

    def read_partition(self, topic: str, partition: int, *, whole: bool = False) -> None:
        """See `Source.read_partition`."""
        if self._watch is not None:
            self._watch.ask(topic, partition, whole=whole)

    def let_go(self, topic: str, partition: int) -> None:
        """See `Source.let_go`."""
        if self._watch is not None:
            self._watch.let_go(topic, partition)

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        """See `Source.read`."""
        if not self._partitions_of(topic, [partition]):
            raise SourceError(f"topic {topic!r} has no partition {partition}")
        return await self._reads.run(
            lambda consumer, errand: read_range(consumer, topic, partition, start, stop, errand), [(topic, partition)]
        )

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        """See `Source.bounds`."""
        asked = self._partitions_of(topic, partitions)
        return await self._reads.run(
            lambda consumer, errand: find_bounds(consumer, topic, asked, errand), [(topic, number) for number in asked]
        )

    async def since(self, topic: str, timestamp: int, partitions: Collection[int] | None = None) -> dict[int, int]:
        """See `Source.since`."""
        asked = self._partitions_of(topic, partitions)
        return await self._reads.run(
            lambda consumer, errand: find_since(consumer, topic, asked, timestamp, errand),
            [(topic, ALL), *((topic, number) for number in asked)],
        )

    def _partitions_of(self, topic: str, wanted: Collection[int] | None = None) -> list[int]:
        """Those of them that there are, also where nothing is read of them just now; or all that are read."""
        there: Collection[int] = [partition for name, partition in list(self._reading) if name == topic]
        if wanted is not None and self._watch is not None:
            there = range(self._watch.count(topic))
            if self._watch.is_gone(topic):
                return []
        if not there:
            raise SourceError(f"topic {topic!r} is not read, or not found yet")
        return [partition for partition in there if wanted is None or partition in wanted]

    def _reader(self) -> Consumer:
        return Consumer({**READER, **self._settings, **FIXED, "error_cb": lambda _: None})

    def health(self) -> Health:
        """See `Source.health`."""
        if self._watch is None or self._stopped is not None:
            return Health(False, "the source is not running")
        if self._failure:
            return Health(False, self._failure)
        watch, now = self._watch, time.monotonic()
        stands = {key: Held(now - since, "no broker leads it") for key, since in watch.unbegun.items()}
        stands |= {
            key: held
            for key, reading in list(self._reading.items())
            if (held := reading.held(watch.leaderless.get(key), watch.unstable.get(key), now))
        }
        return watch.health()._replace(held=stands)

    def lag(self) -> dict[tuple[str, int], int]:
        """See `Source.lag`. Up to 0.1 s old."""
        return {key: max(0, reading.end - reading.next) for key, reading in list(self._reading.items())}

    def _waiting(self) -> dict[tuple[str, int], int]:
        """From where on records have been waiting for long, by partition."""
        now = time.monotonic()
        return {key: reading.next for key, reading in list(self._reading.items()) if reading.waits(now) > HELD_S}

    async def stop(self) -> None:
        """See `Source.stop`."""
        if self._stopped is None:
            self._stopped = asyncio.get_running_loop().create_task(self._stop())
        await asyncio.shield(self._stopped)

    async def _stop(self) -> None:
        if self._watch is None or self._appender is None or self._pending is None:
            return
        await self._pending.drained(DRAIN_S)
        self._stopping = True
        self._watch.stop()
        self._appender.stop()
        await self._reads.stop()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        await self._pending.drained(DRAIN_S)  # everything is settled by now, though not yet answered
        self._watch = self._appender = None
        self._reading.clear()

    # -- the reading thread --

    def _read(self, consumer: Consumer, watch: TopicWatch, sink: Sink) -> None:
        try:
            self._deliver(consumer, watch, sink)
        except BaseException as error:  # without reading the node is blind: it must not look well
            log.exception("reading from Kafka has stopped")
            self._failure = f"reading from Kafka has stopped: {error!r}"
        consumer.close()

    def _deliver(self, consumer: Consumer, watch: TopicWatch, sink: Sink) -> None:
        ready = False
        progress_at = 0.0
        while not self._stopping:
            complete = watch.complete  # asked before `found` is emptied: then all that it speaks of is taken here
            while watch.found:
                self._change(consumer, sink, watch.found.popleft())
            if (first := consumer.poll(PROGRESS_S)) is not None:  # a message without a value is false
                batch = whole_batch(first, consumer)
                if any(message.error() for message in batch):
                    batch = [message for message in batch if not self._is_error(message, consumer, watch)]
                if batch:
                    sink.records(batch)
            now = time.monotonic()
            if now >= progress_at:
                progress_at = now + PROGRESS_S
                self._progress(consumer, sink, now)
                if complete and not ready and self._is_caught_up(now):
                    ready = True
                    sink.ready()

    def _is_caught_up(self, now: float) -> bool:
        """Whether all is read that the log held at the start, but for what cannot be: its channels wait for that."""
        return all(
            reading.is_caught_up or (topic not in self._state_topics and reading.is_refused(now))
            for (topic, _), reading in self._reading.items()
        )

    def _change(self, consumer: Consumer, sink: Sink, change: Change) -> None:
        """Begins, begins anew or ends to read one partition; or a topic has been counted, or is gone."""
        if isinstance(change, Counted):
            sink.topic(*change)
            return
        if isinstance(change, Gone):
            sink.gone(change.topic)
            return
        if isinstance(change, Ends):
            for key, end in change.ends.items():
                if reading := self._reading.get(key):
                    reading.target = max(reading.target, end)
            return
        key = (change.topic, change.partition)
        self._behind.discard(key)
        if self._reading.pop(key, None):
            consumer.incremental_unassign([TopicPartition(*key)])
        if isinstance(change, Begin):
            sink.partition(change.topic, change.topic_id, change.partition, change.start)
            consumer.incremental_assign([TopicPartition(*key, change.start, leader_epoch=change.epoch)])
            self._reading[key] = Reading(change.start, change.end, change.epoch, time.monotonic())
            if change.topic in self._on_demand:
                self._behind.add(key)
        elif isinstance(change, LetGo):
            sink.let_go(*change)

    def _is_error(self, message: "Message[bytes, bytes]", consumer: Consumer, watch: TopicWatch) -> bool:
        """Whether a message is an error in a message's place, which is then dealt with."""
        error = message.error()
        if error is None:
            return False
        topic, partition = message.topic(), message.partition()
        reading = self._reading.get((topic, partition)) if topic is not None and partition is not None else None
        if topic is None or partition is None or reading is None:
            watch.look_soon(error)
        elif error.name() == "_AUTO_OFFSET_RESET":
            (stood,) = consumer.position([TopicPartition(topic, partition)])
            epoch = reading.epoch if stood.leader_epoch is None else stood.leader_epoch
            watch.lost(topic, partition, Place(max(reading.next, stood.offset), epoch))
        else:
            if reading.failed(error.str(), time.monotonic()):
                log.error("topic %r, partition %d cannot be read: %s", topic, partition, error.str())
            watch.look_soon()
        return True

    def _progress(self, consumer: Consumer, sink: Sink, now: float) -> None:
        asked = [TopicPartition(*key) for key in self._reading]
        for where in consumer.position(asked):
            reading = self._reading[where.topic, where.partition]
            fetched = consumer.get_watermark_offsets(where, cached=True)
            if reading.advance(where.offset, fetched[1] if fetched else 0, now):
                sink.progress(where.topic, where.partition, where.offset)
            elif reading.tries_again(now):
                again = TopicPartition(where.topic, where.partition, reading.next)
                consumer.incremental_unassign([again])
                consumer.incremental_assign([again])
        for key in [key for key in self._behind if self._reading[key].is_caught_up]:
            self._behind.discard(key)
            sink.caught_up(*key)
