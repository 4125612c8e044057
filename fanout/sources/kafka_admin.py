"""Questions to Kafka about its topics, and their answers.

Rules:

- What fails is gathered: one topic's trouble is not the others'.
- Belongs to one thread, which may be told to stop while it waits: then the question raises `Stopped`, within 0.1 s.
- A handle asks the broker that it once heard of as the controller, and no other. If that one is gone for good it finds
  nobody, and if it refuses connections it is asked without a pause. So who had no answer goes on with a new handle.
"""

import concurrent.futures
import logging
import threading
from collections.abc import Hashable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, TopicDescription  # type: ignore[attr-defined]
from confluent_kafka.cimpl import NewTopic

from fanout.sources.kafka_lost import Place

__all__ = ["AWAY", "Admin", "Stopped", "Trouble"]

REQUEST_S: Final = 5.0
AWAY: Final = "away"  # the kind of trouble when no broker answers

# What the client library calls it when no broker answers.
_AWAY: Final = {"_TIMED_OUT", "_TRANSPORT", "_ALL_BROKERS_DOWN", "_RESOLVE"}
_REFUSED: Final = {"_AUTHENTICATION", "_SSL"}
_PASSING: Final = {KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.LEADER_NOT_AVAILABLE}

log = logging.getLogger("fanout.source.kafka")


class Trouble(NamedTuple):
    """What a question met. `kind` stays the same while nothing but the wording changes."""

    kind: Hashable
    reason: str
    passing: bool = False  # ends by itself within moments: a new leader is being chosen


class Stopped(Exception):
    """The thread was told to stop in the middle of a question."""


class Admin:
    """Asks. Every method adds to `troubles` what it met."""

    def __init__(self, settings: Mapping[str, Any], stopping: threading.Event) -> None:
        """Raises KafkaException for bad settings."""
        self._settings = {**settings}
        self._stopping = stopping
        self._client = AdminClient(self._settings)
        self.bootstrap: str = settings.get("bootstrap.servers", "")
        self.hint: KafkaError | None = None  # what another handle has seen, in case Kafka does not answer
        self.all_down = False  # it has seen no broker at all; who closes connections at once leaves no hint but this
        self._protocol = str(settings.get("security.protocol", "plaintext")).lower()

    def renew(self) -> None:
        """Goes on with a new handle."""
        self._client = AdminClient(self._settings)

    def describe(self, topics: Sequence[str], troubles: list[Trouble]) -> tuple[dict[str, TopicDescription], list[str]]:
        """The topics that are there, and the names of those that are not."""
        futures = self._client.describe_topics(TopicCollection(list(topics)), request_timeout=REQUEST_S)
        described, errors = self._answers(futures)
        missing = [topic for topic, error in errors.items() if error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART]
        strange = errors.keys() - missing
        troubles.extend(self._trouble_of(errors[topic], f"topic {topic!r} cannot be looked at") for topic in strange)
        return described, missing

    def names(self, troubles: list[Trouble]) -> list[str]:
        """The names of all topics. To be asked when Kafka has just answered: it cannot be told to stop."""
        try:
            return list(self._client.list_topics(timeout=REQUEST_S).topics)
        except KafkaException as error:
            troubles.append(self._trouble_of(error.args[0], "topics cannot be listed"))
            return []

    def create(self, topics: list[NewTopic], troubles: list[Trouble]) -> list[str]:
        """Makes topics; the names of those that are there now."""
        if not topics:
            return []
        created, errors = self._answers(self._client.create_topics(topics, request_timeout=REQUEST_S))
        there = list(created)
        for topic in there:
            log.info("topic %r was missing and has been created", topic)
        for topic, error in errors.items():
            if error.code() == KafkaError.TOPIC_ALREADY_EXISTS:  # another node was faster
                there.append(topic)
            else:
                troubles.append(self._trouble_of(error, f"topic {topic!r} is missing and cannot be created"))
        return there

    def offsets(self, specs: Mapping[tuple[str, int], Any], troubles: list[Trouble]) -> dict[tuple[str, int], Place]:
        """Where `OffsetSpec`s lie in their partitions; no committed record: offset -1. The latest is the stable end."""
        if not specs:
            return {}
        asked = {TopicPartition(*key): spec for key, spec in specs.items()}
        futures = self._client.list_offsets(
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
                raise Stopped
        results, errors = {}, {}
        for name, future in futures.items():
            try:
                results[name] = future.result()
            except KafkaException as error:
                errors[name] = error.args[0]
        return results, errors

    def _trouble_of(self, error: KafkaError, what: str) -> Trouble:
        if error.name() in _AWAY:
            if self.hint is None and self.all_down and "ssl" not in self._protocol:
                perhaps = f"all brokers are down, or want TLS and not security.protocol={self._protocol}"
                return Trouble(AWAY, f"Kafka at {self.bootstrap} does not answer: {perhaps}")
            error = self.hint or error
            does = "refuses this node" if error.name() in _REFUSED else "does not answer"
            return Trouble(AWAY, f"Kafka at {self.bootstrap} {does}: {error.str()}")
        return Trouble((what, error.code()), f"{what}: {error.str()}", error.code() in _PASSING)
