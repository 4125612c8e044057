"""The parts of one node, and who is given which.

Making a `Node` starts nothing; then the source is started, and then the port is opened. What is put on the stack stops
them the other way round: nobody is let in before there is something to serve, and nothing that was taken is cut off
from the log. Everything belongs to the event loop that made the node.
"""

import asyncio
import errno
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Final

from fanout._core import DEDUP_WINDOW_MS, Engine
from fanout.auth.connection_key import ConnectionKeys
from fanout.auth.token_requests import TokenRequests
from fanout.backlog import Backlog
from fanout.config import HISTORY_MAX_MS, Config, is_loopback
from fanout.control import Control
from fanout.credentials import Access
from fanout.decoding import decoded_source
from fanout.errors import ConfigError
from fanout.failures import Failures
from fanout.history import History
from fanout.history.reading import Channels
from fanout.lookup import Lookup
from fanout.mutate import Mutator
from fanout.namespaces import Namespaces
from fanout.observe.metrics import Metrics, Readings
from fanout.observe.statistics import watch_minutes
from fanout.occupancy import Occupancy
from fanout.presence.copies import Copies
from fanout.presence.leases import Leases
from fanout.presence.service import Presence
from fanout.probes import probes
from fanout.publish import Publisher
from fanout.replay import Replays
from fanout.revocations import Revocations
from fanout.routing import CONTROL_TOPIC, PRESENCE_TOPIC, STATE_TOPICS, Route, Routing, guarded
from fanout.sandbox import Sandbox
from fanout.session.behalf import Behalf
from fanout.session.effects import Effect
from fanout.session.limits import SessionSettings
from fanout.session.opening import open_session, reauthenticate
from fanout.session.resume import ConnectionTable
from fanout.session.session import Session
from fanout.sources.base import Health, Source
from fanout.stats import Stats
from fanout.subscribe import Subscriptions
from fanout.targets import Targets
from fanout.transports import router
from fanout.transports.comet import Comet
from fanout.transports.connections import Connections
from fanout.transports.front import Front
from fanout.transports.listener import Listener, connection_limit
from fanout.transports.pages import pages
from fanout.transports.rest import Api, rest
from fanout.transports.rest.apps import apps
from fanout.transports.rest.changes import changes
from fanout.transports.rest.keys import keys
from fanout.transports.streams import streams
from fanout.transports.terms import Terms
from fanout.transports.tls import TlsDoor, server_context
from fanout.transports.websocket import websockets
from fanout.types import Message

__all__ = ["Node"]

HTTP_DRAIN_S: Final = 5.0  # for requests that are being answered
REPLAY_BYTES: Final = 64 << 20  # a look-up in the log holds at most so much; a few of them are made at a time


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
        self.access = access
        self.settings = settings
        self.draining = False
        self.port = config.port
        self.namespaces = Namespaces(config.mutable)
        self._state_topics = (*STATE_TOPICS, *routing.snapshots)
        self._topics = tuple(
            topic for topic in (*routing.topics, *routing.dead_letters) if topic not in self._state_topics
        )
        self.engine = _engine(stack, config, routing, access, settings)
        self.engine.router(guarded(route) if route else None)
        self.subscriptions = Subscriptions(self.engine)
        stack.callback(self.subscriptions.close)
        self.source, as_written = decoded_source(source or _source(config, routing), routing)
        self.failures = Failures(routing.rules, self.source, as_written=as_written)
        self.engine.failures(self.failures.taken)
        self.engine.dead_letters(routing.dead_letters, self.failures.read)
        self.control = Control(self.source, CONTROL_TOPIC)
        self.engine.presence_topic(PRESENCE_TOPIC)
        self.engine.facts(CONTROL_TOPIC, self.control.taken)
        self.metrics = Metrics(self._readings())
        self.stats = Stats()
        self.backlog = Backlog(self.source)
        targets = Targets(routing.publish_topic, routing.publish)
        self.publisher = Publisher(self.engine, self.backlog, targets, took=self.metrics.publish_seconds.observe)
        may_make = routing.may_make if route is None else lambda _topic, _channel: True
        self.lookup = Lookup(self.engine, self.source, routing.reads, self._replayer(routing, route))
        self.history = History(self.engine, self.source, may_make, self._newest, self.publisher.ends)
        self.replays = Replays(self.engine, self.source, may_make)
        stack.callback(self.replays.close)
        self.occupancy = Occupancy(self.engine)
        log = Copies(self.backlog, targets.presence_topic) if routing.copies_presence else self.backlog
        self.presence = Presence(
            self.engine, self.source, settings.server_id, log=log, members_max=config.presence_members
        )
        self.leases = Leases(self.engine, self.control, self.source, settings.server_id, self.presence.members, log=log)
        self._table = ConnectionTable(
            ttl_ms=settings.connection_state_ttl_ms, now=_now_ms, limits=settings.limits, members=self.presence
        )
        self._connection_keys = ConnectionKeys(access.secret)
        self.terms = Terms(access.revoked, _now_ms)
        stack.callback(self.terms.close)
        self.revocations = Revocations(access.revoked, self.control, self.terms.review, _now_ms)
        self.mutator = Mutator(
            self.lookup,
            self.publisher,
            self.namespaces,
            clock=_now_ms,
            history_ms=config.history_ms,
            limits=settings.limits,
        )
        self.connections = self._connections()
        most = min(connection_limit(), config.max_connections or connection_limit())
        self.comet = Comet(
            self.connections,
            access.authenticator,
            self._connection_keys,
            has_room=lambda: self._open_connections() < most,
            max_idle_ms=settings.max_idle_ms,
        )
        self.front = Front(router.Router(self._routes()), websockets(self.connections))
        self.door = _door(config, self.front)
        self.listener = Listener(self.door.take if self.door else self.front.take, self._open_connections, most)

    async def start(self, stack: AsyncExitStack) -> None:
        """Starts to read the log. Raises SourceError, or ConfigError for a data directory that cannot be used."""
        loop, engine = asyncio.get_running_loop(), self.engine
        _watch(stack, engine.event_fd, self._on_events)
        if engine.shard_fd >= 0:
            _watch(stack, engine.shard_fd, engine.run_shards)
        stack.push_async_callback(self.source.stop)
        # Which of the oldest records are repeats is only known from those before them.
        read_back_ms = self.config.history_ms + DEDUP_WINDOW_MS
        sink = _Sink(engine, loop, self.subscriptions.caught_up)
        await self.source.start(sink, self._topics, read_back_ms, self._state_topics)
        for watching in (
            self.metrics.watch_loop(),
            watch_minutes(self.stats, self._readings(), _now_ms),
            self.presence.run(),
            self.occupancy.run(),
            self.leases.run(self.subscriptions.ready),
            self.revocations.sweep(),
            self.failures.run(self.subscriptions.ready),
        ):
            stack.callback(loop.create_task(watching).cancel)
        stack.callback(self.connections.abort_all)

    async def listen(self) -> None:
        """Opens the port; `port` is the real one from now on. Raises ConfigError, in the option's words."""
        host, port = self.config.host, self.config.port
        try:
            self.port = await self.listener.start(host, port)
        except socket.gaierror as problem:
            raise ConfigError(f"host: '{host}' is not known; give an address of this machine") from problem
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                text = (
                    f"port: {port} on {host} is taken by another program; give another one, or 0 for any that is free"
                )
            elif problem.errno == errno.EACCES:
                text = f"port: {port} on {host} is for privileged programs; give one above 1023"
            else:
                text = f"host: cannot listen on {host} ({problem.strerror}); give an address of this machine"
            raise ConfigError(text) from problem

    async def drain(self, window_s: float) -> None:
        """Takes no new clients, and sends those that are here away over the window."""
        self.draining = True
        self.listener.stop()
        if self.door is not None:
            self.door.close()
        await asyncio.gather(self.connections.drain(window_s), self.front.drain(HTTP_DRAIN_S))

    def health(self) -> Health:
        """Whether clients are well served here, and if not why not: what `/ready` answers."""
        if self.draining:
            return Health(False, "the node is draining")
        log_state = self.source.health()
        if log_state.ok and not self.subscriptions.ready.is_set():
            return Health(False, "the node is reading the log back")
        if log_state.ok and self.failures.stopped:
            return Health(False, self.failures.stopped)
        return log_state

    def reload_certificate(self) -> None:
        """Reads the files again, for the handshakes to come. Raises ConfigError: then nothing changes."""
        if self.door is not None:
            assert self.config.tls_cert is not None
            assert self.config.tls_key is not None
            self.door.context = server_context(self.config.tls_cert, self.config.tls_key)

    def _open_connections(self) -> int:
        at_the_door = self.door.waiting if self.door is not None else 0
        return self.front.open_connections + at_the_door + len(self.comet)

    def _readings(self) -> Readings:
        return Readings(
            engine=self.engine.stats,
            publisher=lambda: self.publisher.counts,
            presence=lambda: self.presence.counts,
            failures=lambda: self.failures.counts,
            unconfirmed=lambda: self.backlog.records,
            lag=self.source.lag,
            held=lambda: {key: held.seconds for key, held in self.source.health().held.items()},
            connections=lambda: len(self.connections),
            opened=lambda: self.connections.opened,
            refused=lambda: self.listener.refused,
            ready=lambda: self.health().ok,
        )

    def _connections(self) -> Connections:
        settings, authenticator = self.settings, self.access.authenticator
        channels = Channels(self.engine, self.publisher.ends)

        def opener(query: Mapping[str, str], authorization: str | None, now_ms: int) -> Session:
            return open_session(
                query,
                authorization=authorization,
                authenticator=authenticator,
                table=self._table,
                connection_keys=self._connection_keys,
                channels=channels,
                settings=settings,
                now_ms=now_ms,
            )

        def renewer(session: Session, token: str, now_ms: int) -> list[Effect]:
            return reauthenticate(
                session,
                token,
                authenticator=authenticator,
                connection_keys=self._connection_keys,
                settings=settings,
                now_ms=now_ms,
            )

        return Connections(
            engine=self.engine,
            publisher=self.publisher,
            presence=self.presence,
            mutator=self.mutator,
            backlog=self.backlog,
            replays=self.replays,
            watch=self.occupancy.watch,
            open_session=opener,
            reauthenticate=renewer,
            terms=self.terms,
            ready=self.subscriptions.ready,
            clock=_now_ms,
        )

    def _routes(self) -> Sequence[router.Route]:
        access = self.access
        api = Api(
            authenticator=access.authenticator,
            engine=self.engine,
            publisher=self.publisher,
            history=self.history,
            behalf=Behalf(self._connection_keys, self._table),
            stats=self.stats,
            clock=_now_ms,
            limits=self.settings.limits,
        )
        requests = TokenRequests(access.keys, access.tokens)
        # The made key is shown on the page of a node that only this machine can reach.
        demo_key = access.key if access.made and is_loopback(self.config.host) else None
        return [
            *probes(self.health, self.metrics.render),
            *rest(
                api,
                [
                    *self._provisioning(api),
                    *changes(api, self.lookup, self.mutator),
                    *keys(api, requests, self.revocations),
                    *streams(self.connections),
                ],
            ),
            *self.comet.routes(),
            *pages(demo_key),
        ]

    def _replayer(self, routing: Routing, route: Route | None) -> Callable[[], Engine]:
        """Makes engines that are given records of the log again, to tell from them what became of a message."""

        def replayer() -> Engine:
            engine = Engine(
                io_threads=0,
                history_ms=HISTORY_MAX_MS,
                secret=self.access.secret,
                history_bytes=REPLAY_BYTES,
            )
            engine.rules(routing.rules)
            engine.router(guarded(route) if route else None)
            return engine

        return replayer

    async def _newest(self, channel: str, messages: list[Message], who: str) -> list[Message]:
        """Messages of the log in their newest versions: only where some may be changed is that looked for."""
        return await self.lookup.newest(channel, messages, who) if self.namespaces.mutable(channel) else messages

    def _provisioning(self, api: Api) -> Sequence[router.Route]:
        """The routes by which test suites make apps; none unless asked for."""
        if not self.config.sandbox:
            return ()
        sandbox = Sandbox(self.access.keys, self.namespaces, self.presence, self.settings.limits)
        return apps(
            api,
            sandbox,
            self.config.host,
            lambda: self.port,
            tls=self.config.tls_cert is not None,
            dismiss=self.connections.dismiss,
        )

    def _on_events(self) -> None:
        """Hands the engine's events to those they are about."""
        for kind, number, argument in self.engine.events():
            if kind == "wake":
                self.subscriptions.wake(number)
            elif kind == "replayed":
                self.replays.look(number)
            else:
                self.connections.event(kind, number, argument)


class _Sink:
    """What a source delivers to: the engine, and the loop for the one word that is not about records."""

    def __init__(self, engine: Engine, loop: asyncio.AbstractEventLoop, caught_up: Callable[[], None]) -> None:
        self.partition = engine.partition
        self.records = engine.records
        self.progress = engine.progress
        self._loop = loop
        self._caught_up = caught_up

    def ready(self) -> None:
        self._loop.call_soon_threadsafe(self._caught_up)


def _engine(
    stack: AsyncExitStack, config: Config, routing: Routing, access: Access, settings: SessionSettings
) -> Engine:
    engine = Engine(
        io_threads=config.io_threads,
        history_ms=config.history_ms,
        secret=access.secret,
        max_idle_ms=settings.max_idle_ms,
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


def _door(config: Config, front: Front) -> TlsDoor | None:
    """What stands before the front of a node that speaks TLS. Raises ConfigError for a certificate of no use."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    return TlsDoor(server_context(config.tls_cert, config.tls_key), front.adopt)


def _watch(stack: AsyncExitStack, descriptor: int, act: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, act)
    stack.callback(loop.remove_reader, descriptor)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
