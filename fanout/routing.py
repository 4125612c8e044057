"""Rules as users write them: which records of the log reach which channel.

A rule is `TOPIC=TEMPLATE`. The template is a channel's name with fields of the record in it:

    #{topic}          the record's topic
    #{key}            its key, as text
    #{header.NAME}    a header's value, as text
    #{value.FIELD}    a field of a JSON value; dots go into nested objects

A JSON value is read up to the last field that is asked for; of members of the same name the first that leads to the
field counts.

Rules are checked here, before a server starts, and evaluated by the engine, once for each record. One topic has one
rule. What is published is also sent to subscribers unless the user says what is, that is:

| route | publish-topic | read and routed | published to |
|---|---|---|---|
| – | – | `fanout.messages=#{key}` | `fanout.messages` |
| – | T | `T=#{key}` | T |
| R | – | R, and `fanout.messages=#{key}` unless R has that topic | `fanout.messages` |
| R | T | R | T |

Messages of a topic may be held for a time, so that more of them leave in one write (Kafka's producers call it linger).
"""

import logging
import re
from collections.abc import Callable, Container, Sequence
from functools import cache
from typing import Any, NamedTuple

from fanout._core import headers_of
from fanout.config import parse_duration
from fanout.errors import ConfigError
from fanout.types import Creation, Record

__all__ = [
    "CONTROL_TOPIC",
    "PRESENCE_TOPIC",
    "STATE_TOPICS",
    "Route",
    "Routing",
    "Rule",
    "guarded",
    "parse_rule",
    "routing",
]

log = logging.getLogger(__name__)

Route = Callable[[Record], str | Sequence[str] | None]
"""A program's own rule: the channel of a record, several, or None to skip it."""

MESSAGES_TOPIC = "fanout.messages"
PRESENCE_TOPIC = "fanout.presence"
"""Who is present: key = channel, connection and client; its newest record says how, and one without a value that they
left."""
CONTROL_TOPIC = "fanout.control"
"""What nodes tell each other: the key names the fact, its newest record says how it stands."""
STATE_TOPICS = (PRESENCE_TOPIC, CONTROL_TOPIC)
SEGMENT_MS = 600_000
"""Kafka compacts nothing of the segment that it writes to; with its default, a week, a start would read a week."""
RULES_MAX = 1_000  # a record's topic is looked up among them once a batch
LINGER_MAX_MS = 1_000
TEMPLATE_MAX = 1_000  # characters; a channel's name is shorter

TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")  # Kafka's rule for names
FIELD = re.compile(r"topic|key|header\.[^\s{}]+|value\.[^\s.{}]+(\.[^\s.{}]+)*")
PLACEHOLDER = re.compile(r"#\{([^{}]*)\}")


class Rule(NamedTuple):
    """One topic and the template that makes a channel's name of each of its records."""

    topic: str
    template: str

    def may_make(self, channel: str) -> bool:
        """Whether there may be a record that this rule makes the channel of."""
        first, *others = _texts(self.topic, self.template)
        if not others:
            return channel == first
        *middle, last = others
        at, end = len(first), len(channel) - len(last)
        if at > end or not channel.startswith(first) or not channel.endswith(last):
            return False
        for text in middle:  # each as early as can be: then there is most room for the next
            at = channel.find(text, at, end) + len(text)
            if at < len(text):
                return False
        return True


class Routing(NamedTuple):
    """What a node reads, and where it writes what clients publish."""

    rules: tuple[Rule, ...]
    publish_topic: str
    linger_ms: dict[str, int]
    """By topic, for those that are held: how long at most."""

    def topics_of(self, channel: str) -> tuple[str, ...]:
        """The topics that may have messages of the channel."""
        return tuple(rule.topic for rule in self.rules if rule.may_make(channel))

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of messages to read; beside them a node reads `STATE_TOPICS`."""
        return tuple(rule.topic for rule in self.rules)

    def kept(self, history_ms: int) -> dict[str, Creation]:
        """How topics are made that are not like any other: what clients publish to, which may not be read; and those of
        state, compacted, since only the newest record of each key counts, but not before the history window is over.
        """
        settings = {
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(history_ms),
            "segment.ms": str(SEGMENT_MS),
        }
        return {
            self.publish_topic: Creation(),
            PRESENCE_TOPIC: Creation(settings, like=self.publish_topic),
            CONTROL_TOPIC: Creation(settings, partitions=1),
        }


@cache
def _texts(topic: str, template: str) -> list[str]:
    """What stands between the fields of a template, and before and behind them."""
    return PLACEHOLDER.split(template.replace("#{topic}", topic))[::2]


def parse_rule(text: str) -> Rule:
    """The rule that `text` spells. Raises ConfigError that says what would be right."""
    topic, equals, template = text.partition("=")
    if not equals or not template:
        raise ConfigError(f"route: '{text}' names no channel; write TOPIC=CHANNEL, like orders=orders:#{{key}}")
    _check_topic("route", topic)
    if len(template) > TEMPLATE_MAX:
        raise ConfigError(f"route: the channel of topic '{topic}' is too long; give at most {TEMPLATE_MAX} characters")
    for match in PLACEHOLDER.finditer(template):
        if FIELD.fullmatch(match[1]) is None:
            raise ConfigError(
                f"route: '{match[0]}' in '{text}' is no field of a record; "
                "there are #{topic}, #{key}, #{header.NAME} and #{value.FIELD}"
            )
    paths = {match[1].removeprefix("value.") for match in PLACEHOLDER.finditer(template) if match[1][:6] == "value."}
    if outer := next((path for path in paths if any(other.startswith(path + ".") for other in paths)), None):
        raise ConfigError(f"route: '{outer}' in '{text}' cannot be both text and an object")
    if "#{" in PLACEHOLDER.sub("", template):
        raise ConfigError(f"route: '{text}' opens a field and does not close it; write it like #{{key}}")
    return Rule(topic, template)


def routing(routes: Sequence[str], publish_topic: str | None, linger: Sequence[str] = ()) -> Routing:
    """The routing that the options ask for; the table above. Raises ConfigError."""
    if publish_topic is not None:
        _check_topic("publish-topic", publish_topic)
    if len(routes) > RULES_MAX:
        raise ConfigError(f"route: {len(routes)} rules are too many; give at most {RULES_MAX}")
    rules: dict[str, Rule] = {}
    for rule in map(parse_rule, routes):
        if rule.topic in rules:
            raise ConfigError(f"route: topic '{rule.topic}' has two rules; give it one")
        rules[rule.topic] = rule
    target = publish_topic or MESSAGES_TOPIC
    if not routes or publish_topic is None:
        rules.setdefault(target, Rule(target, "#{key}"))
    return Routing(tuple(rules.values()), target, _linger(linger, rules))


def _linger(texts: Sequence[str], topics: Container[str]) -> dict[str, int]:
    """Milliseconds by topic. Raises ConfigError."""
    held: dict[str, int] = {}
    for text in texts:
        topic, equals, time = text.partition("=")
        if not equals:
            raise ConfigError(f"linger: '{text}' has no time; write TOPIC=TIME, like ticks=20ms")
        try:
            milliseconds = parse_duration(time)
        except ValueError as problem:
            raise ConfigError(f"linger: '{time}' in '{text}' is {problem}") from None
        if milliseconds > LINGER_MAX_MS:
            raise ConfigError(f"linger: '{time}' in '{text}' is too long; give at most 1s")
        if topic not in topics:
            raise ConfigError(f"linger: topic '{topic}' is not read; name one that is sent to subscribers")
        if topic in held:
            raise ConfigError(f"linger: topic '{topic}' has two times; give it one")
        held[topic] = milliseconds
    return held


def guarded(route: Route) -> Callable[[Any], tuple[str, ...]]:
    """The program's rule as the engine may call it: with whatever a source delivers, and sure not to raise.

    A record for which the rule raises, or names something other than channels, is counted as unroutable and skipped.
    So is one for which it calls `sys.exit`: that would end the source's thread and not the program.
    Each kind of exception is logged once, so that a rule that fails for every record does not fill the disk.
    """
    told: set[type[BaseException]] = set()

    def call(delivered: Any) -> tuple[str, ...]:
        record = _as_record(delivered)
        if record.topic in STATE_TOPICS:
            return ()
        try:
            return _channels(route(record))
        except BaseException as problem:
            if type(problem) not in told:
                told.add(type(problem))
                log.exception("route failed for offset %d of %s; such records are skipped", record.offset, record.topic)
            return ("",)  # no channel's name: the engine counts it

    return call


def _as_record(delivered: Any) -> Record:
    """A `Record`, also of confluent-kafka's `Message`."""
    if isinstance(delivered, Record):
        return delivered
    return Record(
        delivered.topic(),
        delivered.partition(),
        delivered.offset(),
        delivered.leader_epoch() if delivered.leader_epoch() is not None else -1,
        delivered.timestamp()[1],
        delivered.key(),
        delivered.value(),
        headers_of(delivered),
    )


def _channels(answer: object) -> tuple[str, ...]:
    names = () if answer is None else (answer,) if isinstance(answer, str) else answer
    if isinstance(names, Sequence) and all(isinstance(name, str) for name in names):
        for name in names:
            name.encode()  # text that UTF-8 cannot hold names nothing
        return tuple(names)
    raise TypeError(f"route returns a channel, a sequence of channels or None, not {answer!r}")


def _check_topic(option: str, topic: str) -> None:
    if TOPIC.fullmatch(topic) is None or topic in (".", ".."):
        raise ConfigError(
            f"{option}: '{topic}' is no name of a topic; use at most 249 letters, digits, dots, underscores and hyphens"
        )
    if topic in STATE_TOPICS:
        raise ConfigError(f"{option}: topic '{topic}' is not for messages; it holds what nodes remember")
