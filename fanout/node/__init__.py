"""The parts of one node, and who is given which.

Making a `Node` starts nothing; then the source is started, and then the port is opened. What is put on the stack stops
them the other way round: nobody is let in before there is something to serve, and nothing that was taken is cut off
from the log. Everything belongs to the event loop that made the node.

Each part is made by the first of these that has what it needs, and each knows only those before it: `messages`,
`people`, `doors`.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final

from fanout._core import DEDUP_WINDOW_MS
from fanout.config import Config
from fanout.credentials import Access
from fanout.node.doors import Doors
from fanout.node.messages import Messages
from fanout.node.people import People
from fanout.observe.forgotten import warn_of_forgotten
from fanout.observe.metrics import Metrics, Readings
from fanout.observe.statistics import watch_minutes
from fanout.probes import probes
from fanout.routing import Route, Routing
from fanout.session.limits import SessionSettings
from fanout.sources.base import Health, Source
from fanout.stats import Stats
from fanout.tasks import Tasks

__all__ = ["Node"]

log = logging.getLogger(__name__)

HTTP_DRAIN_S: Final = 5.0  # for requests that are being answered


class Node:
    """What serves: each part by its name, for the server that owns it and for the other parts.

    `route` and `source` are the program's own, as for `fanout.server.Server`; `stack` closes what is opened. Raises
    ConfigError for routes that the engine cannot follow.
    """

    def __init__(
        self,
        stack: AsyncExitStack,
        config: Config,
        routing: Routing,
        access: Access,
        settings: SessionSettings,
        *,
        route: Route | None,
        source: Source | None,
    ) -> None:
        self.config = config
        self.draining = False
        self.tasks = Tasks()
        self.metrics = Metrics(self._readings())
        self.stats = Stats()
        self.messages = Messages(
            stack,
            config,
            routing,
            access.secret,
            settings,
            route=route,
            source=source,
            took=self.metrics.publish_seconds.observe,
            clock=_now_ms,
        )
        self.people = People(stack, config, routing, access, settings, self.messages, clock=_now_ms)
        self.doors = Doors(
            config,
            access,
            settings,
            self.messages,
            self.people,
            stats=self.stats,
            probes=probes(self.health, self.metrics.render),
            clock=_now_ms,
        )

    async def start(self, stack: AsyncExitStack) -> None:
        """Starts to read the log. Raises SourceError, or ConfigError for a data directory that cannot be used."""
        loop = asyncio.get_running_loop()
        messages, people = self.messages, self.people
        engine, source, caught_up = messages.engine, messages.source, messages.subscriptions.ready
        _watch(stack, engine.event_fd, self._on_events)
        if engine.shard_fd >= 0:
            _watch(stack, engine.shard_fd, engine.run_shards)
        stack.push_async_callback(source.stop)
        # Which of the oldest records are repeats is only known from those before them.
        read_back_ms = self.config.history_ms + DEDUP_WINDOW_MS
        sink = _Sink(messages, loop)
        await source.start(sink, messages.topics, read_back_ms, messages.state_topics, messages.on_demand)
        stack.callback(self.tasks.close)
        for name, work in (
            ("the loop's lateness", self.metrics.watch_loop()),
            ("statistics", watch_minutes(self.stats, self._readings(), _now_ms)),
            ("message ids", warn_of_forgotten(lambda: engine.stats()["ids_forgotten"])),
            ("presence", people.presence.run()),
            ("occupancy", people.occupancy.run()),
            ("leases", people.leases.run(caught_up)),
            ("MQTT sessions", people.mqtt.run(caught_up)),
            ("MQTT wildcards", _once(caught_up, people.mqtt.followed.run)),
            ("retained messages", _once(caught_up, people.mqtt.messages.sweep)),
            ("revocations", people.revocations.sweep()),
            ("dead letters", messages.failures.run(caught_up)),
            ("checkpoints", messages.checkpoints.run(caught_up)),
            ("what is read on demand", messages.interest.run()),
            ("partition counts", messages.counted.run(caught_up)),
            ("where rules began", messages.since.run(caught_up)),
        ):
            self.tasks.start(name, work)
        stack.callback(self.doors.connections.abort_all)

    async def drain(self, window_s: float) -> None:
        """Takes no new clients, and sends those that are here away over the window."""
        self.draining = True
        self.doors.close()
        await asyncio.gather(self.doors.connections.drain(window_s), self.doors.front.drain(HTTP_DRAIN_S))

    def health(self) -> Health:
        """Whether clients are well served here, and if not why not: what `/ready` answers."""
        if self.draining:
            return Health(False, "the node is draining")
        if self.tasks.failure:
            return Health(False, self.tasks.failure)
        log_state = self.messages.source.health()
        if log_state.ok and not self.messages.subscriptions.ready.is_set():
            return Health(False, self._left_to_read(), log_state.held)
        if log_state.ok and self.messages.failures.stopped:
            return Health(False, self.messages.failures.stopped)
        return log_state

    def _left_to_read(self) -> str:
        """What the node waits for before it is ready: where most is left to read."""
        left = {key: count for key, count in self.messages.source.lag().items() if count}
        if not left:
            return "the node is reading the log back"
        topic, partition = max(left, key=lambda key: left[key])
        others = f", and {len(left) - 1} partitions more" if len(left) > 1 else ""
        count = left[topic, partition]
        return f"the node is reading the log back: {count} records of {topic!r}, partition {partition}{others}"

    def _readings(self) -> Readings:
        return Readings(
            engine=lambda: self.messages.engine.stats(),
            publisher=lambda: self.messages.publisher.counts,
            presence=lambda: self.people.presence.counts,
            failures=lambda: self.messages.failures.counts,
            mqtt=lambda: self.people.mqtt.counters(),
            unconfirmed=lambda: self.messages.backlog.records,
            on_demand=lambda: self.messages.interest.counts,
            lag=lambda: self.messages.source.lag(),
            held=lambda: {key: held.seconds for key, held in self.messages.source.health().held.items()},
            connections=lambda: len(self.doors.connections),
            opened=lambda: self.doors.connections.opened,
            refused=lambda: self.doors.refused,
            tasks_failed=lambda: self.tasks.failed,
            ready=lambda: self.health().ok,
        )

    def _on_events(self) -> None:
        """Hands the engine's events to those they are about."""
        for event in self.messages.engine.events():
            try:
                self._take(*event)
            except Exception:  # of one: no event is told again, and the others' must come
                log.exception("an event of the engine ends with an error that was not expected")

    def _take(self, kind: str, number: int, argument: int) -> None:
        if kind == "wake":
            self.messages.subscriptions.wake(number)
        elif kind == "replayed":
            self.messages.replays.look(number)
        elif kind == "births":
            self.people.mqtt.followed.births()
        else:
            self.doors.connections.event(kind, number, argument)


class _Sink:
    """What a source delivers to: the engine, and those who have to hear of what is not about records."""

    def __init__(self, messages: Messages, loop: asyncio.AbstractEventLoop) -> None:
        self.records = messages.engine.records
        self.progress = messages.engine.progress
        self.caught_up = messages.interest.caught_up
        self._engine = messages.engine
        self._interest = messages.interest
        self._counted = messages.counted
        self._since = messages.since
        self._unbegun = messages.unbegun
        self._loop = loop
        self._has_caught_up = messages.caught_up

    def topic(self, topic: str, topic_id: bytes, partitions: int, /) -> None:
        self._unbegun.counted(topic, partitions)
        with self._interest.counting(topic, topic_id, partitions):
            self._counted.topic(topic, topic_id, partitions)

    def gone(self, topic: str, /) -> None:
        self._unbegun.counted(topic, 0)
        self._counted.gone(topic)
        self._engine.gone(topic)

    def partition(self, topic: str, topic_id: bytes, partition: int, start: int, /) -> None:
        self._engine.partition(topic, topic_id, partition, start)
        self._since.began(topic, topic_id, partition)
        if self._unbegun.began(topic, partition):
            self._interest.began()

    def let_go(self, topic: str, partition: int, /) -> None:
        self._engine.let_go(topic, partition)
        self._interest.let_go(topic, partition)

    def ready(self) -> None:
        self._unbegun.ready()
        self._loop.call_soon_threadsafe(self._has_caught_up)


def _watch(stack: AsyncExitStack, descriptor: int, act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, act)
    stack.callback(loop.remove_reader, descriptor)


async def _once(ready: asyncio.Event, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Runs that from when the node is `ready`."""
    await ready.wait()
    await run()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
