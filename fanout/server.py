"""One node, run by the command line or inside another program.

    async with Server(Config()) as server:
        serial = await server.publish("chat", "hello")
        async for message in server.subscribe("chat"):
            ...

The parts of a node are `fanout.node`'s business. Everything belongs to the event loop that entered the server,
asyncio's or uvloop's. Nodes in one process share nothing.
"""

import asyncio
import ipaddress
import logging
import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import orjson

from fanout.callbacks import outcome
from fanout.config import Config
from fanout.credentials import Authorize, configured_keys, grant_access
from fanout.errors import ConfigError, SourceBusy, SourceError
from fanout.node import Node
from fanout.presence.listing import everybody
from fanout.routing import Route, configured_routing
from fanout.session.extras import extras_bytes
from fanout.session.limits import SessionSettings
from fanout.session.names import parse_name
from fanout.sources.base import Health, Source
from fanout.subscribe import Subscription
from fanout.types import OutMessage, PresenceMessage

__all__ = ["Authorize", "Data", "Server", "Subscription"]

log = logging.getLogger(__name__)

Data = str | bytes | dict[str, Any] | list[Any] | None

PUBLISH_HOLD_S: Final = 10.0  # for a node that is about to be ready


class Server:
    """A node. Enter it once, to start it; leaving stops it, draining first over no time at all.

    Before it is entered and after it is left, what needs a running node raises RuntimeError. Iterations over its
    subscriptions end when it is left.

    `route`, if given, takes the place of the routes' templates: it is called for each record of the topics that the
    node reads, on the source's thread, and returns a channel, several, or None to skip the record. For records that are
    read back from the log for history it is called again, on the event loop's thread. It must not block,
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
        if authorize is not None and self.config.sandbox:
            raise ConfigError("sandbox is given, and so is authorize: provisioned apps have keys, and it knows none")
        self.key: str | None = None
        """An API key for clients: the first one configured, or the one that was made; None with `authorize`."""
        self.port = self.config.port
        """The port listened on; once entered, the real one also for port 0."""
        self.mqtt_port = self.config.mqtt_port
        """Likewise, of MQTT's; None without one."""
        self._routing = configured_routing(self.config)
        if self.config.key:
            configured_keys(self.config.key, self.config.revocable)  # refuses wrong ones now
        self._route = route
        self._authorize = authorize
        self._given_source = source
        self._running = AsyncExitStack()
        self._entered = False
        self._is_running = False
        self._draining: asyncio.Task[None] | None = None
        self._session_settings = SessionSettings(server_id=secrets.token_urlsafe(9))
        # Made when entered, since it belongs to a loop:
        self._node: Node

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
            self._draining = asyncio.create_task(self._node.drain(window))
        await asyncio.shield(self._draining)

    async def ready(self) -> None:
        """Waits until the node has read the log as far as it was when it started."""
        self._check_running()
        await self._node.messages.subscriptions.ready.wait()

    def health(self) -> Health:
        """Whether clients are well served here, and if not why not: what `/ready` answers."""
        self._check_running()
        return self._node.health()

    @property
    def url(self) -> str:
        """Where this machine's clients find the node."""
        host, scheme = self.config.host, "http" if self.config.tls_cert is None else "https"
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return f"{scheme}://{host}:{self.port}"
        if address.is_unspecified:
            host = "::1" if address.version == 6 else "127.0.0.1"
        return f"{scheme}://[{host}]:{self.port}" if address.version == 6 else f"{scheme}://{host}:{self.port}"

    def reload_certificate(self) -> None:
        """Reads the certificate and its key again, for the connections that come from now on; without TLS does nothing.

        Raises ConfigError for files that cannot be used; then the former ones stay in use.
        """
        self._check_running()
        self._node.doors.reload_certificate()

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
        written: asyncio.Future[list[str] | SourceError] = outcome(
            partial(self._node.messages.publisher.write, target, [message])
        )
        result = await written
        if isinstance(result, SourceError):
            raise result
        return result[0]

    def subscribe(self, channel: str, *, since: str | None = None) -> Subscription:
        """The channel's messages from now on, or those after the position `since` of an earlier message, as far back as
        the log has them.

        Raises ClientError 40010 for an impossible channel. See `Subscription` for what the iterator promises.
        """
        self._check_running()
        return self._node.messages.subscriptions.open(self._channel(channel), since)

    def position(self, channel: str) -> str:
        """Where the channel stands now, to give as `since` later, on any node of this log.

        Raises SourceError for one that this node does not read yet: it will in a moment.
        """
        self._check_running()
        name = self._channel(channel)
        if not self._node.messages.interest.has(name):
            raise SourceError("the channel is not read here yet; try again")
        return self._node.messages.engine.position(name)

    def presence(self, channel: str) -> AsyncIterator[PresenceMessage]:
        """Everyone present on the channel, as far as this node has read the log.

        Who comes or goes while this is iterated may be among them or not. Raises ClientError 40010 for an impossible
        channel.
        """
        self._check_running()
        return everybody(self._node.messages.engine, self._channel(channel))

    def stats(self) -> dict[str, int]:
        """Counters and gauges by name; `/metrics` has the same with explanations."""
        self._check_running()
        return {
            **self._node.messages.engine.stats(),
            **self._node.messages.publisher.counts,
            "connections": len(self._node.doors.connections),
        }

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

    # -- starting --

    async def _start(self, stack: AsyncExitStack) -> None:
        """Starts part after part; `stack` stops, in reverse, those that were started."""
        access = await asyncio.to_thread(grant_access, self.config, self._authorize)
        self.key = access.key
        node = self._node = Node(
            stack,
            self.config,
            self._routing,
            access,
            self._session_settings,
            route=self._route,
            source=self._given_source,
        )
        self._is_running = True
        stack.callback(setattr, self, "_is_running", False)  # just before the subscriptions end
        await node.start(stack)
        await node.doors.listen()
        self.port, self.mqtt_port = node.doors.port, node.doors.mqtt_port
        stack.push_async_callback(self.drain, 0)


def _check_text(**given: object) -> None:
    for option, value in given.items():
        if not isinstance(value, str | None):
            raise TypeError(f"{option} is text or None, not {type(value).__name__}")
