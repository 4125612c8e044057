"""One `[[route]]`: which records, which channels they reach, and what becomes of those that do not fit.

A rule that could not work is refused where it is made, with one line that says what would be right.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, Literal

import msgspec

from fanout.config import parse_duration
from fanout.errors import ConfigError
from fanout.rules.template import check_channel, check_fields, check_key_alone, check_template, may_make
from fanout.rules.topics import check_topic, is_pattern, matches

__all__ = ["UNDECODABLE", "WITH_SCHEMA", "Format", "OnFailure", "Rule", "linger_ms", "parse_rule"]

LINGER_MAX_MS: Final = 1_000

Format = Literal["bytes", "text", "json", "avro", "protobuf", "json-schema"]
OnFailure = Literal["skip", "dead-letter", "stop"]
WITH_SCHEMA: Final = ("avro", "protobuf", "json-schema")
UNDECODABLE: Final = "fanout.undecodable"
"""The header on a record of such a format that could not be decoded; its value says why."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What becomes of the records of a topic, or of all whose names match. Raises ValueError for what cannot be right.

    Templates (`channel`, `name`, `client_id`) are those of `fanout.rules.template`.
    """

    topic: str
    """A name, a glob with `*` and `?`, or a regular expression that begins with `^`."""
    channel: str
    """Template of the channel, or of several."""
    name: str | None = None
    """Template of the message's name."""
    client_id: str | None = None
    """Template of who the message is said to be from."""
    key: Format | None = None
    """How the key is to be read; None: as text where it is text."""
    value: Format | None = None
    """How the value is to be read; None: as what it turns out to be."""
    tombstone: Literal["message", "skip", "delete"] = "message"
    """What a record without a value is: a message without data, nothing, or a delete."""
    on_failure: OnFailure = "skip"
    """What becomes of a record that the rule cannot be followed for."""
    dead_letter: str | None = None
    """The topic that such records are written to, with `on_failure = "dead-letter"`."""
    expose: bool = False
    """Whether subscribers are shown topic, partition, offset, key and headers of the record, in `extras.headers`."""
    linger: str | None = None
    """How long a message may be held for more to leave with it, like 20ms; at most 1s."""
    snapshot: bool = False
    """Whether who attaches is first given the newest message of each key."""
    partitioner: Literal["murmur2"] | None = None
    """How every producer of the topic chooses a record's partition by its key: then it is known which partition feeds a
    channel. None: nothing is known."""
    read: Literal["all", "needed"] = "all"
    """Whether a node reads all partitions, or those alone that somebody on it needs."""

    def __post_init__(self) -> None:
        """Refuses what cannot be right."""
        _check("topic", partial(check_topic, pattern=True), self.topic)
        _check("channel", check_channel, self.channel)
        _check("name", check_template, self.name)
        _check("client_id", check_template, self.client_id)
        templates = [template for template in (self.channel, self.name, self.client_id) if template is not None]
        _check("channel", partial(check_fields, is_key_json=self.key in ("json", *WITH_SCHEMA)), *templates)
        if self.partitioner is not None:
            is_key_json = self.key in ("json", *WITH_SCHEMA)
            _check("partitioner", partial(check_key_alone, is_key_json=is_key_json), self.channel)
        if self.is_on_demand:
            self._check_on_demand()
        _check("dead_letter", check_topic, self.dead_letter)
        if (self.on_failure == "dead-letter") != (self.dead_letter is not None):
            raise ValueError('dead_letter: the topic goes with on_failure = "dead-letter"; give both or neither')
        if self.dead_letter == self.topic:
            raise ValueError(f"dead_letter: '{self.topic}' is the topic that the rule reads; name another")
        if self.linger is not None:
            linger_ms(self.linger)
        if self.snapshot and self.is_pattern:
            raise ValueError(f"snapshot: '{self.topic}' is a pattern; name the topic, which is read from its beginning")
        if self.snapshot and self.tombstone == "skip":
            raise ValueError('snapshot: with tombstone = "skip" nobody would learn that a key is gone; give another')

    @property
    def is_pattern(self) -> bool:
        """Whether the rule is for all topics that match."""
        return is_pattern(self.topic)

    @property
    def is_on_demand(self) -> bool:
        """Whether partitions are read when somebody needs them."""
        return self.read == "needed"

    @property
    def needs_registry(self) -> bool:
        """Whether records can only be read with their schemas."""
        return self.key in WITH_SCHEMA or self.value in WITH_SCHEMA

    @property
    def linger_ms(self) -> int:
        """How long a message may be held, in ms."""
        return 0 if self.linger is None else linger_ms(self.linger)

    def _check_on_demand(self) -> None:
        if self.partitioner is None:
            raise ValueError('read: what is needed is only known with partitioner = "murmur2"; give it, or read all')
        if self.is_pattern:
            raise ValueError(f"read: '{self.topic}' is a pattern; name the topic of which only some is to be read")
        if self.snapshot:
            raise ValueError("read: snapshots are of all that a topic holds; read all, or keep no snapshot")

    def is_for(self, topic: str) -> bool:
        """Whether the rule is for records of that topic."""
        return matches(self.topic, topic)

    def may_make(self, topic: str, channel: str) -> bool:
        """Whether there may be a record of the topic that this rule makes the channel of."""
        return may_make(self.channel, topic, channel)


def parse_rule(text: str) -> Rule:
    """The rule that `TOPIC=CHANNEL` spells. Raises ConfigError that says what would be right."""
    topic, equals, channel = text.partition("=")
    if not equals or not channel:
        raise ConfigError(f"route: '{text}' names no channel; write TOPIC=CHANNEL, like orders=orders:#{{key}}")
    try:
        return Rule(topic, channel)
    except ValueError as problem:
        raise ConfigError(f"route: {problem}") from None


def linger_ms(text: str) -> int:
    """Milliseconds of such a time. Raises ValueError."""
    try:
        milliseconds = parse_duration(text)
    except ValueError as problem:
        raise ValueError(f"linger: '{text}' is {problem}") from None
    if milliseconds > LINGER_MAX_MS:
        raise ValueError(f"linger: '{text}' is too long; give at most 1s")
    return milliseconds


def _check(field: str, check: Callable[..., None], value: str | None, *others: str) -> None:
    """Checks a field that is given, and others with it. Raises ValueError that names it."""
    if value is None:
        return
    try:
        check(value, *others)
    except ValueError as problem:
        raise ValueError(f"{field}: {problem}") from None
