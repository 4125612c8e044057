"""Where clients of a node come in: its port, TLS before it, and what HTTP leads to.

Nobody is let in before `listen`.
"""

import errno
import socket
from collections.abc import Callable, Mapping, Sequence

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
from fanout.transports.pages import pages
from fanout.transports.rest import Api, rest
from fanout.transports.rest.apps import apps
from fanout.transports.rest.changes import changes
from fanout.transports.rest.keys import keys
from fanout.transports.streams import streams
from fanout.transports.tls import TlsDoor, server_context
from fanout.transports.websocket import websockets

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
        self.front = Front(router.Router([*probes, *self._routes()]), websockets(self.connections))
        self.door = _door(config, self.front)
        self.listener = Listener(self.door.take if self.door else self.front.take, self._open_connections, most)

    async def listen(self) -> None:
        """Opens the port; `port` is the real one from now on. Raises ConfigError, in the option's words."""
        host, port = self._config.host, self._config.port
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

    def close(self) -> None:
        """Lets nobody in any more; those who are in stay."""
        self.listener.stop()
        if self.door is not None:
            self.door.close()

    def reload_certificate(self) -> None:
        """Reads the files again, for the handshakes to come. Raises ConfigError: then nothing changes."""
        if self.door is not None:
            assert self._config.tls_cert is not None
            assert self._config.tls_key is not None
            self.door.context = server_context(self._config.tls_cert, self._config.tls_key)

    def _open_connections(self) -> int:
        at_the_door = self.door.waiting if self.door is not None else 0
        return self.front.open_connections + at_the_door + len(self.comet)

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


def _door(config: Config, front: Front) -> TlsDoor | None:
    """What stands before the front of a node that speaks TLS. Raises ConfigError for a certificate of no use."""
    if config.tls_cert is None or config.tls_key is None:
        return None
    return TlsDoor(server_context(config.tls_cert, config.tls_key), front.adopt)
