"""What a node reads and where it writes, made of all rules that it is given.

The first rule whose topic matches counts for a record: those of `--route` come first, then those of the file, then
those that a connector's configuration stands for. What is published is also sent to subscribers unless the user says
what is, that is:

| rules | publish-topic | read and routed | published to |
|---|---|---|---|
| – | – | `fanout.messages=#{key}` | `fanout.messages` |
| – | T | `T=#{key}` | T |
| R | – | R, and `fanout.messages=#{key}` unless R has that topic | `fanout.messages` |
| R | T | R | T |

Topics that only a `[[publish]]` names are read, and sent to the channels that were published on, if there is no rule R.

Messages of a topic may be held for a time, so that more of them leave in one write (Kafka's producers call it linger).
"""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace

from fanout.config import Config, RegistryAddress
from fanout.delivered import as_record
from fanout.errors import ConfigError
from fanout.rules.connector import NO_CONNECTOR, Connector, read_connector
from fanout.rules.file import NO_RULES, RulesFile, read_rules
from fanout.rules.publish import BY_CHANNEL, PublishRule
from fanout.rules.route import UNDECODABLE, Rule, linger_ms, parse_rule
from fanout.rules.topics import (
    CHECKPOINT_TOPIC,
    CONTROL_TOPIC,
    MQTT_TOPIC,
    OWN_TOPICS,
    PRESENCE_TOPIC,
    STATE_TOPICS,
    check_topic,
    pattern_of,
)
from fanout.types import Creation, Record

__all__ = [
    "CHECKPOINT_TOPIC",
    "CONTROL_TOPIC",
    "MQTT_TOPIC",
    "PRESENCE_TOPIC",
    "STATE_TOPICS",
    "Route",
    "Routing",
    "configured_routing",
    "guarded",
    "routing",
]

log = logging.getLogger(__name__)

Route = Callable[[Record], str | Sequence[str] | None]
"""A program's own rule: the channel of a record, several, or None to skip it."""

MESSAGES_TOPIC = "fanout.messages"
SEGMENT_MS = 600_000
"""Kafka compacts nothing of the segment that it writes to; with its default, a week, a start would read a week."""
RULES_MAX = 1_000  # a record's topic is looked up among them once a batch


class Routing(NamedTuple):
    """What a node reads, and where it writes what clients publish."""

    rules: tuple[Rule, ...]
    publish_topic: str
    publish: tuple[PublishRule, ...] = ()
    registry: RegistryAddress | None = None

    @property
    def dead_letters(self) -> tuple[str, ...]:
        """The topics that failing records are written to. A node reads them too, though not as messages."""
        return tuple(dict.fromkeys(rule.dead_letter for rule in self.rules if rule.dead_letter is not None))

    def rule_of(self, topic: str) -> Rule | None:
        """The rule for records of that topic."""
        if topic in self.dead_letters:
            return None
        return next((rule for rule in self.rules if rule.is_for(topic)), None)

    def shadow_of(self, rule: Rule) -> Rule | None:
        """The rule that comes first for the topic that this one names: then this one is never asked."""
        first = self.rule_of(rule.topic)
        return first if first not in (None, rule) and not rule.is_pattern else None

    def reads(self, topic: str) -> bool:
        """Whether messages of that topic are read."""
        return self.rule_of(topic) is not None

    def may_make(self, topic: str, channel: str) -> bool:
        """Whether that topic may have messages of the channel."""
        rule = self.rule_of(topic)
        return rule is not None and rule.may_make(topic, channel)

    def tells_partition(self, topic: str) -> bool:
        """Whether the keys of that topic tell their partitions."""
        rule = self.rule_of(topic)
        return rule is not None and rule.partitioner is not None

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of messages to read, as `fanout.sources.base.Source.start` takes them: names, and regular
        expressions; beside them a node reads `OWN_TOPICS`.
        """
        return tuple(
            dict.fromkeys(
                pattern_of(rule.topic, (*self.dead_letters, *self.snapshots)) if rule.is_pattern else rule.topic
                for rule in self.rules
            )
        )

    @property
    def snapshots(self) -> tuple[str, ...]:
        """Those of them that are read from their beginning, for of each key the newest message is kept."""
        return tuple(rule.topic for rule in self.rules if rule.snapshot)

    @property
    def given(self) -> "Routing":
        """The same where a program's own rule says which channels there are: no key tells where one lies."""
        return self._replace(rules=tuple(replace(rule, partitioner=None, read="all") for rule in self.rules))

    @property
    def on_demand(self) -> tuple[str, ...]:
        """The topics of which partitions are read when somebody needs them."""
        return tuple(rule.topic for rule in self.rules if rule.is_on_demand and self.shadow_of(rule) is None)

    @property
    def copies_presence(self) -> bool:
        """Whether presence events of some channels are copied to a topic."""
        return any(rule.presence is not None for rule in self.publish)

    @property
    def _published(self) -> list[str]:
        """The topics that messages and copies of presence events are written to."""
        rules = self.publish
        return [self.publish_topic, *(topic for rule in rules for topic in (rule.topic, rule.presence) if topic)]

    def kept(self, history_ms: int) -> dict[str, Creation]:
        """How topics are made that are not like any other: what clients publish to, which may not be read; and those of
        state, compacted, since only the newest record of each key counts, but not before the history window is over.
        Checkpoints are kept for as long as the broker keeps messages of topics that do not say otherwise.
        """
        settings = {
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(history_ms),
            "segment.ms": str(SEGMENT_MS),
        }
        return {
            **dict.fromkeys(self._published, Creation()),
            **dict.fromkeys(self.snapshots, Creation(settings)),
            PRESENCE_TOPIC: Creation(settings, like=self.publish_topic),
            CONTROL_TOPIC: Creation(settings, partitions=1),
            MQTT_TOPIC: Creation(settings, partitions=1),
            CHECKPOINT_TOPIC: Creation({"cleanup.policy": "delete"}, partitions=1),
        }


def routing(
    routes: Sequence[str],
    publish_topic: str | None,
    linger: Sequence[str] = (),
    file: RulesFile = NO_RULES,
    connector: Sequence[Rule] = (),
) -> Routing:
    """The routing that the options ask for; the table above. Raises ConfigError."""
    if publish_topic is not None:
        try:
            check_topic(publish_topic)
        except ValueError as problem:
            raise ConfigError(f"publish-topic: {problem}") from None
    rules = [*_once("route", map(parse_rule, routes)), *_once("rules", file.route), *connector]
    if len(rules) > RULES_MAX:
        raise ConfigError(f"route: {len(rules)} rules are too many; give at most {RULES_MAX}")
    if len(file.publish) > RULES_MAX:
        raise ConfigError(f"rules: {len(file.publish)} [[publish]] are too many; give at most {RULES_MAX}")
    target = publish_topic or MESSAGES_TOPIC
    is_said = bool(rules)
    if not is_said:
        named = dict.fromkeys(rule.topic for rule in file.publish if rule.topic not in (None, target))
        rules = [Rule(topic, "#{header.fanout.channel}") for topic in named if topic]
    if (not is_said or publish_topic is None) and not any(rule.is_for(target) for rule in rules):
        if any(rule.topic in (None, target) and rule.key != BY_CHANNEL for rule in file.publish):
            raise ConfigError(
                f"rules: a [[publish]] to '{target}', which is sent by its keys, has another key; "
                "name another topic, or give a [[route]]"
            )
        rules.append(Rule(target, "#{key}"))
    messages = {target, *(rule.topic for rule in rules)}
    if failing := next((rule for rule in rules if rule.dead_letter in messages), None):
        raise ConfigError(f"rules: dead_letter: '{failing.dead_letter}' is read for messages; name another topic")
    return Routing(tuple(_held(rules, linger)), target, file.publish)


def configured_routing(config: Config) -> Routing:
    """The routing of a configuration, whose files are read now. Raises ConfigError."""
    file = NO_RULES if config.rules is None else read_rules(config.rules)
    connector = NO_CONNECTOR if config.connector is None else read_connector(config.connector)
    made = routing(config.route, config.publish_topic, config.linger, file, connector.rules)
    return made._replace(registry=_registry(config, connector, made))


def _registry(config: Config, connector: Connector, made: Routing) -> RegistryAddress | None:
    """Where schemas are: as the options say, else the connector. Raises ConfigError if neither does, but must."""
    url, settings = config.schema_registry, config.schema_registry_settings
    if url is not None:
        return RegistryAddress(url, settings)
    if connector.registry is not None:
        return RegistryAddress(connector.registry.url, {**connector.registry.settings, **settings})
    if settings:
        raise ConfigError("schema-registry-setting is given, but schema-registry is not: name it by its URL")
    if rule := next((rule for rule in made.rules if rule.needs_registry), None):
        raise ConfigError(
            f"schema-registry is not given, but records of '{rule.topic}' need one: name it by its URL, "
            "like http://localhost:8081"
        )
    return None


def _once(option: str, rules: Iterable[Rule]) -> list[Rule]:
    """The rules, of which each has a topic of its own. Raises ConfigError."""
    found: dict[str, Rule] = {}
    for rule in rules:
        if rule.topic in found:
            raise ConfigError(f"{option}: topic '{rule.topic}' has two rules; give it one")
        found[rule.topic] = rule
    return list(found.values())


def _held(rules: Sequence[Rule], linger: Sequence[str]) -> list[Rule]:
    """The rules, with the times that topics are held for. Raises ConfigError."""
    held: dict[str, str] = {}
    topics = {rule.topic for rule in rules}
    for text in linger:
        topic, equals, time = text.partition("=")
        if not equals:
            raise ConfigError(f"linger: '{text}' has no time; write TOPIC=TIME, like ticks=20ms")
        if topic not in topics:
            raise ConfigError(f"linger: topic '{topic}' is not read; name one that is sent to subscribers")
        if topic in held:
            raise ConfigError(f"linger: topic '{topic}' has two times; give it one")
        try:
            linger_ms(time)
        except ValueError as problem:
            raise ConfigError(str(problem)) from None
        held[topic] = time
    return [replace(rule, linger=held.get(rule.topic, rule.linger)) for rule in rules]


def guarded(route: Route) -> Callable[[Any], tuple[str, ...]]:
    """The program's rule as the engine may call it: with whatever a source delivers, and sure not to raise.

    A record for which the rule raises, or names something other than channels, is counted as unroutable and skipped.
    So is one for which it calls `sys.exit`: that would end the source's thread and not the program. One that could not
    be decoded is not shown to it.
    Each kind of exception is logged once, so that a rule that fails for every record does not fill the disk.
    """
    told: set[type[BaseException]] = set()

    def call(delivered: Any) -> tuple[str, ...]:
        record = as_record(delivered)
        if record.topic in OWN_TOPICS:
            return ()
        if any(name == UNDECODABLE for name, _ in record.headers or ()):
            return ("",)  # no channel's name: the engine counts it
        try:
            return _channels(route(record))
        except BaseException as problem:
            if type(problem) not in told:
                told.add(type(problem))
                log.exception("route failed for offset %d of %s; such records are skipped", record.offset, record.topic)
            return ("",)

    return call


def _channels(answer: object) -> tuple[str, ...]:
    names = () if answer is None else (answer,) if isinstance(answer, str) else answer
    if isinstance(names, Sequence) and all(isinstance(name, str) for name in names):
        for name in names:
            name.encode()  # text that UTF-8 cannot hold names nothing
        return tuple(names)
    raise TypeError(f"route returns a channel, a sequence of channels or None, not {answer!r}")
