"""One node, run by the command line or inside another program: the only module that knows all the parts.

    async with Server(Config()) as server:
        serial = await server.publish("chat", "hello")
        async for message in server.subscribe("chat"):
            ...

Started in the order engine, source, listener, and stopped the other way round: nobody is let in before there is
something to serve, and nothing that was taken is cut off from the log. Everything belongs to the event loop that
entered it, asyncio's or uvloop's. Nodes in one process share nothing.
"""

import asyncio
import errno
import ipaddress
import logging
import secrets
import socket
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Final, Self

import orjson

from fanout._core import DEDUP_WINDOW_MS, Engine
from fanout.auth.connection_key import ConnectionKeys
from fanout.auth.keys import Key, Keys
from fanout.config import Config
from fanout.credentials import Access, Authorize, grant_access
from fanout.errors import ConfigError, SourceBusy, SourceError
from fanout.observe.metrics import Metrics, Readings
from fanout.probes import probes
from fanout.publish import Publisher
from fanout.routing import Route, Routing, guarded, routing
from fanout.session.extras import extras_bytes
from fanout.session.limits import SessionSettings
from fanout.session.names import parse_name
from fanout.session.opening import open_session
from fanout.session.resume import ConnectionTable
from fanout.session.session import Session
from fanout.sources.base import Health, Source
from fanout.subscribe import Subscription, Subscriptions
from fanout.transports.comet import comet
from fanout.transports.front import Front
from fanout.transports.listener import Listener, connection_limit
from fanout.transports.pages import pages
from fanout.transports.rest import Api, rest
from fanout.transports.router import Router
from fanout.transports.websocket import Connections
from fanout.types import OutMessage

__all__ = ["Authorize", "Data", "Server", "Subscription"]

log = logging.getLogger(__name__)

Data = str | bytes | dict[str, Any] | list[Any] | None

HTTP_DRAIN_S: Final = 5.0  # for requests that are being answered
PUBLISH_HOLD_S: Final = 10.0  # for a node that is about to be ready


class Server:
    """A node. Enter it once, to start it; leaving stops it, draining first over no time at all.

    Before it is entered and after it is left, what needs a running node raises RuntimeError. Iterations over its
    subscriptions end when it is left.

    `route`, if given, takes the place of the routes' templates: it is called for each record of the topics that the
    node reads, on the source's thread, and returns a channel, several, or None to skip the record. It must not block,
    and every node of one log must decide alike. A record for which it raises is skipped.

    `authorize`, if given, takes the place of the keys: it is called on the loop with the credential that a client
    presents in the place of a key, and the client id that it asks for or None; it returns who that is, or None to
    refuse. It must not block.

    `source`, if given, is the log: an object that keeps what `fanout.sources.base.Source` promises. The server starts
    it, asks it for the topics of the routes and stops it; it belongs to this server alone. `Config.data` then holds
    the made key and secret, and nothing of the log.
    """

    def __init__(
        self,
        config: Config | None = None,
        *,
        route: Route | None = None,
        authorize: Authorize | None = None,
        source: Source | None = None,
    ) -> None:
        """Raises ConfigError for options that contradict each other. Nothing is opened before the server is entered."""
        self.config = config or Config()
        if source is not None and self.config.kafka is not None:
            raise ConfigError("kafka is given, and so is a source: a node reads one log")
        self.key: str | None = None
        """An API key for clients: the first one configured, or the one that was made; None with `authorize`."""
        self.port = self.config.port
        """The port listened on; once entered, the real one also for port 0."""
        self._routing = routing(self.config.route, self.config.publish_topic, self.config.linger)
        Keys(map(Key.parse, self.config.key))  # refuses wrong ones now
        self._route = route
        self._authorize = authorize
        self._given_source = source
        self._running = AsyncExitStack()
        self._entered = False
        self._is_running = False
        self._draining: asyncio.Task[None] | None = None
        self._session_settings = SessionSettings()
        # Made when entered, since they belong to a loop:
        self._engine: Engine
        self._source: Source
        self._publisher: Publisher
        self._subscriptions: Subscriptions
        self._connections: Connections
        self._front: Front
        self._listener: Listener
        self._metrics: Metrics

    # -- life --

    async def __aenter__(self) -> Self:
        """Starts the node and listens. The log may be away: `ready` waits for it.

        Raises ConfigError when the port or the data directory cannot be used, SourceError when the embedded log cannot
        be opened; then nothing is left behind.
        """
        if self._entered:
            raise RuntimeError("a Server is entered once; make another one")
        self._entered = True
        async with AsyncExitStack() as stack:
            await self._start(stack)
            self._running = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._running.aclose()

    async def drain(self, window_s: float | None = None) -> None:
        """Takes no new clients, and sends those that are here away over the window (`Config.drain` unless given).

        Clients resume on another node, or here after a restart. `/ready` says no from now on. Subscriptions inside the
        process and `publish` go on until the server is left. Returns when all have gone; a second call waits for the
        first. Cancelling a call does not stop it.
        """
        if self._draining is None:
            self._check_running()
            window = self.config.drain_ms / 1000 if window_s is None else window_s
            self._draining = asyncio.create_task(self._drain(window))
        await asyncio.shield(self._draining)

    async def ready(self) -> None:
        """Waits until the node has read the log as far as it was when it started."""
        self._check_running()
        await self._subscriptions.ready.wait()

    def health(self) -> Health:
        """Whether clients are well served here, and if not why not: what `/ready` answers."""
        self._check_running()
        if self._draining is not None:
            return Health(False, "the node is draining")
        log_state = self._source.health()
        if log_state.ok and not self._subscriptions.ready.is_set():
            return Health(False, "the node is reading the log back")
        return log_state

    @property
    def url(self) -> str:
        """Where this machine's clients find the node."""
        host = self.config.host
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return f"http://{host}:{self.port}"
        if address.is_unspecified:
            host = "::1" if address.version == 6 else "127.0.0.1"
        return f"http://[{host}]:{self.port}" if address.version == 6 else f"http://{host}:{self.port}"

    # -- messages --

    async def publish(
        self,
        channel: str,
        data: Data,
        *,
        name: str | None = None,
        id: str | None = None,  # noqa: A002  the protocol's word
        client_id: str | None = None,
        encoding: str | None = None,
        extras: dict[str, Any] | None = None,
    ) -> str:
        """Writes one message to the log and returns its serial once the log has it.

        A dict or a list is sent as JSON. `id` is by which a repeat is recognised, for at least two minutes: a call that
        failed or was cancelled, whose message may or may not be written, is safely made again under the same id. On a
        node that has yet to catch up it waits for that, 10 s at most, since repeats can be told only then.

        Raises SourceBusy, SourceTimeout or another SourceError; ClientError 40010 for an impossible channel, 40032 for
        extras that clients may not send either; TypeError or ValueError for anything else that cannot be sent.
        """
        _check_text(name=name, id=id, client_id=client_id, encoding=encoding)
        if isinstance(data, dict | list):
            data, encoding = orjson.dumps(data).decode(), encoding or "json"
        elif not isinstance(data, str | bytes | None):
            raise TypeError(f"data is text, bytes, a dict, a list or None, not {type(data).__name__}")
        extras_bytes(extras, self._session_settings.limits.extras_depth)
        target = self._channel(channel)
        message = OutMessage(
            id=id or secrets.token_urlsafe(12),
            data=data,
            name=name,
            encoding=encoding,
            client_id=client_id,
            extras=extras,
        )
        await self._caught_up()
        written: asyncio.Future[list[str] | SourceError] = asyncio.get_running_loop().create_future()
        self._publisher.write(target, [message], lambda result: None if written.done() else written.set_result(result))
        result = await written
        if isinstance(result, SourceError):
            raise result
        return result[0]

    def subscribe(self, channel: str, *, since: str | None = None) -> Subscription:
        """The channel's messages from now on, or those after the position `since` of an earlier message.

        Raises ClientError 40010 for an impossible channel. See `Subscription` for what the iterator promises.
        """
        self._check_running()
        return self._subscriptions.open(self._channel(channel), since)

    def position(self, channel: str) -> str:
        """Where the channel stands now, to give as `since` later, on any node of this log."""
        self._check_running()
        return self._engine.position(self._channel(channel))

    def stats(self) -> dict[str, int]:
        """Counters and gauges by name; `/metrics` has the same with explanations."""
        self._check_running()
        return {**self._engine.stats(), **self._publisher.counts, "connections": len(self._connections)}

    async def _caught_up(self) -> None:
        try:
            async with asyncio.timeout(PUBLISH_HOLD_S):
                await self.ready()
        except TimeoutError:
            raise SourceBusy(f"nothing can be published yet: {self.health().reason}") from None
        self._check_running()  # leaving ends the wait too

    def _check_running(self) -> None:
        if not self._is_running:
            raise RuntimeError("the server is not running: use it inside `async with`")

    def _channel(self, name: str) -> str:
        if not isinstance(name, str):
            raise TypeError(f"channel is text, not {type(name).__name__}")
        return parse_name(name, self._session_settings.limits.channel_bytes).channel

    # -- starting and stopping --

    async def _start(self, stack: AsyncExitStack) -> None:
        """Starts part after part; `stack` stops, in reverse, those that were started."""
        loop = asyncio.get_running_loop()
        access = await asyncio.to_thread(grant_access, self.config, self._authorize)
        self.key = access.key

        engine = self._engine = Engine(
            io_threads=self.config.io_threads,
            history_ms=self.config.history_ms,
            secret=access.secret,
            max_idle_ms=self._session_settings.max_idle_ms,
            history_bytes=self.config.history_bytes,
        )
        stack.callback(engine.close)
        try:
            engine.rules(self._routing.rules)
        except ValueError as problem:
            raise ConfigError(f"route: {problem}") from problem
        engine.linger(self._routing.linger_ms)
        engine.router(guarded(self._route) if self._route else None)
        subscriptions = self._subscriptions = Subscriptions(engine)
        stack.callback(subscriptions.close)

        source = self._source = self._given_source or _source(self.config, self._routing)
        self._metrics = Metrics(
            Readings(
                engine=engine.stats,
                publisher=lambda: self._publisher.counts,
                lag=source.lag,
                connections=lambda: len(self._connections),
                opened=lambda: self._connections.opened,
                refused=lambda: self._listener.refused,
                ready=lambda: self.health().ok,
            )
        )
        self._publisher = Publisher(
            engine, source, self._routing.publish_topic, took=self._metrics.publish_seconds.observe
        )
        self._connect_parts(access)
        self._is_running = True
        stack.callback(setattr, self, "_is_running", False)  # just before the subscriptions end
        self._watch(stack, engine.event_fd, self._on_events)
        if engine.shard_fd >= 0:
            self._watch(stack, engine.shard_fd, engine.run_shards)
        stack.push_async_callback(source.stop)
        # Which of the oldest records are repeats is only known from those before them.
        read_back_ms = self.config.history_ms + DEDUP_WINDOW_MS
        await source.start(_Sink(engine, loop, subscriptions.caught_up), self._routing.topics, read_back_ms)

        watching = loop.create_task(self._metrics.watch_loop())
        stack.callback(watching.cancel)
        stack.callback(self._connections.abort_all)
        self.port = await self._listen()
        stack.push_async_callback(self.drain, 0)

    def _connect_parts(self, access: Access) -> None:
        """Makes what clients meet, none of which does anything yet."""
        settings = self._session_settings
        table = ConnectionTable(ttl_ms=settings.connection_state_ttl_ms, now=_now_ms, limits=settings.limits)
        connection_keys = ConnectionKeys(access.secret)

        def opener(query: Any, authorization: str | None, now_ms: int) -> Session:
            return open_session(
                query,
                authorization=authorization,
                keys=access.keys,
                table=table,
                connection_keys=connection_keys,
                channels=self._engine,
                settings=settings,
                now_ms=now_ms,
            )

        self._connections = Connections(
            engine=self._engine,
            publisher=self._publisher,
            open_session=opener,
            ready=self._subscriptions.ready,
            clock=_now_ms,
        )
        api = Api(access.keys, self._engine, self._publisher, _now_ms, settings.limits)
        # The made key is shown on the page of a node that only this machine can reach.
        demo_key = access.key if access.made and _is_loopback(self.config.host) else None
        router = Router([*probes(self.health, self._metrics.render), *rest(api), *comet(), *pages(demo_key)])
        self._front = Front(router, self._connections.accept)
        most = connection_limit()
        if self.config.max_connections is not None:
            most = min(most, self.config.max_connections)
        self._listener = Listener(self._front.take, lambda: self._front.open_connections, most)

    async def _listen(self) -> int:
        """Opens the port; says in the option's words what stands against it."""
        host, port = self.config.host, self.config.port
        try:
            return await self._listener.start(host, port)
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

    async def _drain(self, window_s: float) -> None:
        self._listener.stop()
        await asyncio.gather(self._connections.drain(window_s), self._front.drain(HTTP_DRAIN_S))

    @staticmethod
    def _watch(stack: AsyncExitStack, descriptor: int, act: Callable[[], None]) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(descriptor, act)
        stack.callback(loop.remove_reader, descriptor)

    def _on_events(self) -> None:
        """Hands the engine's events to those they are about."""
        for kind, number, argument in self._engine.events():
            if kind == "wake":
                self._subscriptions.wake(number)
            else:
                self._connections.event(kind, number, argument)


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


def _source(config: Config, routes: Routing) -> Source:
    """The log that the configuration names. confluent-kafka is loaded only for Kafka."""
    if config.kafka is None:
        from fanout.sources.embedded import EmbeddedSource

        return EmbeddedSource(config.data)
    from fanout.sources.kafka import KafkaSource

    return KafkaSource(config.kafka_settings, kept=routes.kept)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _check_text(**given: object) -> None:
    for option, value in given.items():
        if not isinstance(value, str | None):
            raise TypeError(f"{option} is text or None, not {type(value).__name__}")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
