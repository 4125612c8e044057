"""What messages pass through in a node: the log, the engine, the publisher; and what looks back for them.

Everything is made here and nothing started. What was opened is closed by the stack, the engine last.
"""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Final

from fanout._core import Engine
from fanout.backlog import Backlog
from fanout.checkpoints import Checkpoints
from fanout.config import HISTORY_MAX_MS, Config
from fanout.control import Control
from fanout.counted import Counted
from fanout.decoding import decoded_source
from fanout.errors import ConfigError
from fanout.failures import Failures
from fanout.history import History
from fanout.history.reading import Channels
from fanout.interest import Interest
from fanout.lookup import Lookup
from fanout.mutate import Mutator
from fanout.namespaces import Namespaces
from fanout.publish import Publisher
from fanout.replay import Replays
from fanout.routing import (
    CHECKPOINT_TOPIC,
    CONTROL_TOPIC,
    MQTT_TOPIC,
    PRESENCE_TOPIC,
    STATE_TOPICS,
    Route,
    Routing,
    guarded,
)
from fanout.session.limits import SessionSettings
from fanout.since import Since
from fanout.sources.base import Source
from fanout.subscribe import Subscriptions
from fanout.targets import Targets
from fanout.types import Message
from fanout.unbegun import Unbegun

__all__ = ["Messages"]

REPLAY_BYTES: Final = 64 << 20  # a look-up in the log holds at most so much; a few of them are made at a time


class Messages:
    """The parts by their names: `source` is the log, `engine` what memory holds of it, `publisher` the way into it.

    `route` and `source` are the program's own, as for `fanout.server.Server`; `took` is told how many seconds each
    publish waited for the log, `clock` reads the time in ms. Raises ConfigError for routes that the engine cannot
    follow. Belongs to the event loop.
    """

    def __init__(
        self,
        stack: AsyncExitStack,
        config: Config,
        routing: Routing,
        secret: bytes,
        settings: SessionSettings,
        *,
        route: Route | None,
        source: Source | None,
        took: Callable[[float], None],
        clock: Callable[[], int],
    ) -> None:
        self.namespaces = Namespaces(config.mutable)
        routing = routing if route is None else routing.given
        self.state_topics = (*STATE_TOPICS, *routing.snapshots)
        topics = (*routing.topics, *routing.dead_letters, CHECKPOINT_TOPIC)
        self.topics = tuple(topic for topic in topics if topic not in self.state_topics)
        self.engine = _engine(stack, config, routing, secret, settings.max_idle_ms)
        self.engine.router(guarded(route) if route else None)
        self.source, as_written = decoded_source(source or _source(config, routing), routing)
        self.on_demand = routing.on_demand
        may_make = routing.may_make if route is None else lambda _topic, _channel: True
        self.unbegun = Unbegun(self.on_demand, self.engine.partitions_of, may_make, routing.tells_partition)
        self.interest = Interest(self.engine, self.source, self.on_demand, config.history_ms, self.unbegun.feeds)
        stack.callback(self.interest.close)
        self.failures = Failures(
            routing.rules, self.source, as_written=as_written, history_ms=config.history_ms, clock=clock
        )
        self.engine.failures(self.failures.taken)
        self.engine.dead_letters(routing.dead_letters, self.failures.read)
        self.control = Control(self.source, CONTROL_TOPIC)
        self.counted = Counted(self.control, self.engine.topic, routing.tells_partition)
        self.since = Since(
            self.control,
            [rule.topic for rule in routing.rules],
            lambda topic: None if topic in self.on_demand else _rule_name(routing, topic),
            lambda topic, number: self.engine.entry(topic, number)[2],
            self.engine.read_since,
        )
        self.engine.presence_topic(PRESENCE_TOPIC)
        self.engine.facts(CONTROL_TOPIC, self.control.taken)
        self.mqtt_facts = Control(self.source, MQTT_TOPIC)
        self.engine.facts(MQTT_TOPIC, self.mqtt_facts.taken)
        self.checkpoints = Checkpoints(self.engine.checkpoints(CHECKPOINT_TOPIC), self.source, CHECKPOINT_TOPIC)
        stack.callback(self.checkpoints.close)
        self.backlog = Backlog(self.source)
        self.targets = Targets(routing.publish_topic, routing.publish)
        self.publisher = Publisher(
            self.engine, self.backlog, self.targets, took=took, when_read=self.interest.when_read
        )
        self.replayer = _replayer(routing, route, secret)
        self.lookup = Lookup(self.engine, self.source, routing.reads, self.replayer, self.interest.wait)
        self.channels = Channels(self.engine, self.publisher.ends, self.interest.has)
        self.history = History(
            self.engine,
            self.source,
            may_make,
            self._newest,
            self.checkpoints.whole,
            self.publisher.ends,
            self.interest.has,
        )
        self.replays = Replays(self.engine, self.source, may_make, self.checkpoints.whole)
        stack.callback(self.replays.close)
        self.subscriptions = Subscriptions(self.engine, self.replays, self.interest.has, self.interest.wait)
        stack.callback(self.subscriptions.close)
        self.mutator = Mutator(
            self.lookup,
            self.publisher,
            self.namespaces,
            clock=clock,
            history_ms=config.history_ms,
            limits=settings.limits,
        )

    def caught_up(self) -> None:
        """All that the log had when the node started is read."""
        self.since.settle()
        self.subscriptions.caught_up()

    async def _newest(self, channel: str, messages: list[Message], who: str) -> list[Message]:
        """Messages of the log in their newest versions: only where some may be changed is that looked for."""
        return await self.lookup.newest(channel, messages, who) if self.namespaces.mutable(channel) else messages


def _rule_name(routing: Routing, topic: str) -> str | None:
    rule = routing.rule_of(topic)
    return None if rule is None else rule.topic


def _engine(stack: AsyncExitStack, config: Config, routing: Routing, secret: bytes, max_idle_ms: int) -> Engine:
    engine = Engine(
        io_threads=config.io_threads,
        history_ms=config.history_ms,
        secret=secret,
        max_idle_ms=max_idle_ms,
        history_bytes=config.history_bytes,
    )
    stack.callback(engine.close)
    try:
        engine.rules(routing.rules)
    except ValueError as problem:
        raise ConfigError(f"route: {problem}") from problem
    return engine


def _source(config: Config, routing: Routing) -> Source:
    """The log that the configuration names. confluent-kafka is loaded only for Kafka."""
    if config.kafka is None:
        from fanout.sources.embedded import EmbeddedSource

        return EmbeddedSource(config.data, retention_ms=config.retention_ms, retention_bytes=config.retention_bytes)
    from fanout.sources.kafka import KafkaSource

    return KafkaSource(config.kafka_settings, kept=routing.kept(config.history_ms))


def _replayer(routing: Routing, route: Route | None, secret: bytes) -> Callable[[], Engine]:
    """Makes engines that are given records of the log again, to tell from them what became of a message."""

    def replayer() -> Engine:
        engine = Engine(io_threads=0, history_ms=HISTORY_MAX_MS, secret=secret, history_bytes=REPLAY_BYTES)
        engine.rules(routing.rules)
        engine.router(guarded(route) if route else None)
        return engine

    return replayer
