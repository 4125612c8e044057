"""Where clients of a node come in: its ports, TLS before them, and what HTTP leads to.

Nobody is let in before `listen`.
"""

import errno
import socket
import ssl
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fanout.auth.token_requests import TokenRequests
from fanout.config import Config, is_loopback
from fanout.credentials import Access
from fanout.errors import ConfigError
from fanout.node.messages import Messages
from fanout.node.people import People
from fanout.sandbox import Sandbox
from fanout.session.behalf import Behalf
from fanout.session.effects import Effect
from fanout.session.limits import SessionSettings
from fanout.session.opening import open_session, reauthenticate
from fanout.session.session import Session
from fanout.stats import Stats
from fanout.transports import router
from fanout.transports.comet import Comet
from fanout.transports.connections import Connections
from fanout.transports.front import Front
from fanout.transports.listener import Listener, connection_limit
from fanout.transports.mqtt import MqttClient
from fanout.transports.mqtt_driver import Shared
from fanout.transports.mqtt_keep_alive import KeepAlive
from fanout.transports.mqtt_port import SUBPROTOCOL, MqttPort, mqtt_websockets
from fanout.transports.mqtt_waiting import not_let_in
from fanout.transports.pages import pages
from fanout.transports.rest import Api, rest
from fanout.transports.rest.apps import apps
from fanout.transports.rest.changes import changes
from fanout.transports.rest.keys import keys
from fanout.transports.streams import streams
from fanout.transports.tls import TlsDoor, server_context
from fanout.transports.websocket import by_subprotocol, websockets

__all__ = ["Doors"]


class Doors:
    """The parts by their names. `probes` are routes that need no key, `clock` reads the time in ms.

    Raises ConfigError for a certificate that cannot be used. Belongs to the event loop.
    """

    def __init__(
        self,
        config: Config,
        access: Access,
        settings: SessionSettings,
        messages: Messages,
        people: People,
        *,
        stats: Stats,
        probes: Sequence[router.Route],
        clock: Callable[[], int],
    ) -> None:
        self._config = config
        self._access = access
        self._settings = settings
        self._messages = messages
        self._people = people
        self._stats = stats
        self._clock = clock
        self.port = config.port
        self.connections = self._connections()
        most = min(connection_limit(), config.max_connections or connection_limit())
        self.comet = Comet(
            self.connections,
            access.authenticator,
            people.connection_keys,
            has_room=lambda: self._open_connections() < most,
            max_idle_ms=settings.max_idle_ms,
        )
        self.mqtt_shared = Shared(
            self.connections,
            people.mqtt,
            people.topics,
            settings.limits,
            not_let_in(),
            KeepAlive(self._mqtt_client),
            config.mqtt_server_reference,
        )
        upgrade = by_subprotocol({SUBPROTOCOL: mqtt_websockets(self.mqtt_shared)}, websockets(self.connections))
        turns = self.connections.turns
        self.front = Front(router.Router([*probes, *self._routes()]), upgrade, turns)
        self.door = _door(config, self.front.adopt)
        take = self.door.take if self.door else self.front.take
        self.listener = Listener(take, self._open_connections, turns, most)
        self.mqtt = MqttPort(self.mqtt_shared)
        self.mqtt_door = _door(config, self.mqtt.adopt)
        self.mqtt_port = config.mqtt_port
        take = self.mqtt_door.take if self.mqtt_door else self.mqtt.take
        self.mqtt_listener = Listener(take, self._open_connections, turns, most, speaks_http=False)

    async def listen(self) -> None:
        """Opens the ports; `port` and `mqtt_port` are the real ones from now on. Raises ConfigError, in the option's
        words.
        """
        self.port = await self._listen(self.listener, "port", self._config.port)
        if self._config.mqtt_port is not None:
            self.mqtt_port = await self._listen(self.mqtt_listener, "mqtt-port", self._config.mqtt_port)

    async def _listen(self, listener: Listener, option: str, port: int) -> int:
        host = self._config.host
        try:
            return await listener.start(host, port)
        except socket.gaierror as problem:
            raise ConfigError(f"host: '{host}' is not known; give an address of this machine") from problem
        except OSError as problem:
            if problem.errno == errno.EADDRINUSE:
                text = (
                    f"{option}: {port} on {host} is taken by another program; give another one, or 0 for any that is"
                    " free"
                )
            elif problem.errno == errno.EACCES:
                text = f"{option}: {port} on {host} is for privileged programs; give one above 1023"
            else:
                text = f"host: cannot listen on {host} ({problem.strerror}); give an address of this machine"
            raise ConfigError(text) from problem

    def close(self) -> None:
        """Lets nobody in any more; those who are in stay."""
        for listener, door in ((self.listener, self.door), (self.mqtt_listener, self.mqtt_door)):
            listener.stop()
            if door is not None:
                door.close()
        self.mqtt_shared.waiting.close()

    def reload_certificate(self) -> None:
        """Reads the files again, for the handshakes to come. Raises ConfigError: then nothing changes."""
        for door in (self.door, self.mqtt_door):
            if door is not None:
                assert self._config.tls_cert is not None
                assert self._config.tls_key is not None
                door.context = server_context(self._config.tls_cert, self._config.tls_key)

    @property
    def refused(self) -> int:
        """Connections above the limit, ever."""
        return self.listener.refused + self.mqtt_listener.refused

    def _mqtt_client(self, handle: int) -> MqttClient | None:
        client = self.connections.find(handle)
        return client if isinstance(client, MqttClient) else None

    def _open_connections(self) -> int:
        at_the_doors = sum(door.waiting for door in (self.door, self.mqtt_door) if door is not None)
        return self.front.open_connections + self.mqtt.open_connections + at_the_doors + len(self.comet)

    def _connections(self) -> Connections:
        settings, people, messages = self._settings, self._people, self._messages
        authenticator = self._access.authenticator

        def opener(query: Mapping[str, str], authorization: str | None, now_ms: int) -> Session:
            return open_session(
                query,
                authorization=authorization,
                authenticator=authenticator,
                table=people.table,
                connection_keys=people.connection_keys,
                channels=messages.channels,
                settings=settings,
                now_ms=now_ms,
            )

        def renewer(session: Session, token: str, now_ms: int) -> list[Effect]:
            return reauthenticate(
                session,
                token,
                authenticator=authenticator,
                connection_keys=people.connection_keys,
                settings=settings,
                now_ms=now_ms,
            )

        return Connections(
            engine=messages.engine,
            publisher=messages.publisher,
            presence=people.presence,
            mutator=messages.mutator,
            backlog=messages.backlog,
            replays=messages.replays,
            watch=people.occupancy.watch,
            open_session=opener,
            reauthenticate=renewer,
            terms=people.terms,
            ready=messages.subscriptions.ready,
            clock=self._clock,
        )

    def _routes(self) -> Sequence[router.Route]:
        access, messages, people = self._access, self._messages, self._people
        api = Api(
            authenticator=access.authenticator,
            engine=messages.engine,
            publisher=messages.publisher,
            history=messages.history,
            behalf=Behalf(people.connection_keys, people.table),
            stats=self._stats,
            clock=self._clock,
            limits=self._settings.limits,
        )
        requests = TokenRequests(access.keys, access.tokens)
        # The made key is shown on the page of a node that only this machine can reach.
        demo_key = access.key if access.made and is_loopback(self._config.host) else None
        return [
            *rest(
                api,
                [
                    *self._provisioning(api),
                    *changes(api, messages.lookup, messages.mutator),
                    *keys(api, requests, people.revocations),
                    *streams(self.connections),
                ],
            ),
            *self.comet.routes(),
            *pages(demo_key),
        ]

    def _provisioning(self, api: Api) -> Sequence[router.Route]:
        """The routes by which test suites make apps; none unless asked for."""
        if not self._config.sandbox:
            return ()
        sandbox = Sandbox(self._access.keys, self._messages.namespaces, self._people.presence, self._settings.limits)
        return apps(
            api,
            sandbox,
            self._config.host,
            lambda: self.port,
            tls=self._config.tls_cert is not None,
            dismiss=self.connections.dismiss,
        )


def _door(
    config: Config, adopt: Callable[[socket.socket, ssl.SSLContext], Coroutine[Any, Any, None]]
) -> TlsDoor | None:
    """What stands before a port of a node that speaks TLS. Raises ConfigError for a certificate of no use."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    return TlsDoor(server_context(config.tls_cert, config.tls_key), adopt)
