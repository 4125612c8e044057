"""HTTP polling, for browsers whose WebSockets do not come through: the same conversation in requests (Ably protocol,
"Comet").

=====================================  ================================================================
``GET /comet/connect?…``               begins a connection as ``GET /?…`` does over WebSocket; its first messages
``GET /comet/{key}/recv``              waits for more
``POST /comet/{key}/send``             takes some
``/comet/{key}/close, /disconnect``    say CLOSE and DISCONNECT; GET or POST
=====================================  ================================================================

- Messages go both ways as JSON lists, a line each. `key` is the connection key in CONNECTED; any that the connection
  was given does.
- Every request shows credentials again, of the app that the key belongs to.
- A client that is refused is told so in a list too where it begins; later by an error, with its number in the headers.
- A connection counts against the node's limit of connections, beside those that its requests come over.

Everything belongs to the event loop.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

from fanout.auth.connection_key import ConnectionKeys
from fanout.auth.credentials import Presented
from fanout.auth.keys import app_of
from fanout.errors import ClientError, error
from fanout.session.ports import Authenticator
from fanout.transports.connections import Connections
from fanout.transports.driver import Driver
from fanout.transports.http import Handler, Request, Response
from fanout.transports.polled import Polled
from fanout.transports.replies import preflight, with_cors
from fanout.transports.router import Route
from fanout.wire import JSON, Action, ClientFrame, decode_list, encode

__all__ = ["Comet"]


class Comet:
    """The connections of a node that are polled, and their routes."""

    def __init__(
        self,
        connections: Connections,
        authenticator: Authenticator,
        connection_keys: ConnectionKeys,
        *,
        has_room: Callable[[], bool],
        max_idle_ms: int,
    ) -> None:
        """`has_room` tells whether the node takes another connection; `max_idle_ms` is what CONNECTED promises."""
        self._connections = connections
        self._authenticator = authenticator
        self._connection_keys = connection_keys
        self._has_room = has_room
        self._idle_s = max_idle_ms / 1000
        self._all: set[Polled] = set()
        self._by_connection: dict[str, Polled] = {}
        self._ids: dict[Polled, str] = {}

    def __len__(self) -> int:
        """Connections, those that wait to be let in or to hear of their end among them."""
        return len(self._all)

    def routes(self) -> Sequence[Route]:
        """The routes: method, path, handler."""
        close, disconnect = self._say(Action.CLOSE), self._say(Action.DISCONNECT)
        routes: list[Route] = [
            ("GET", "/comet/connect", self._connect),
            ("GET", "/comet/{key}/recv", self._recv),
            ("POST", "/comet/{key}/send", self._send),
            ("GET", "/comet/{key}/close", close),
            ("POST", "/comet/{key}/close", close),
            ("GET", "/comet/{key}/disconnect", disconnect),
            ("POST", "/comet/{key}/disconnect", disconnect),
        ]
        return [*routes, *(("OPTIONS", path, _preflight) for path in {path for _, path, _ in routes})]

    async def _connect(self, request: Request) -> Response:
        if not self._has_room():
            full = error(80003, "this node has no room for another connection").to_wire()
            return _messages(request, b"[" + encode({"action": Action.DISCONNECTED, "error": full}, JSON) + b"]")
        polled = Polled(self._connections.engine, self._idle_s, self._entered, self._left)
        # Whatever was asked for, a list of text is what there is, and a page sees no pings.
        asked = replace(request, query={**request.query, "format": "json", "heartbeats": "true"})
        polled.driver = Driver(self._connections, asked, JSON)
        polled.driver.link = polled
        self._all.add(polled)
        try:
            polled.driver.connected()
        except Exception:
            polled.cut()
            raise
        return _messages(request, await polled.poll())

    async def _recv(self, request: Request) -> Response:
        return _messages(request, await self._polled(request).poll())

    async def _send(self, request: Request) -> Response:
        await self._polled(request).say(decode_list(request.body))
        return with_cors(request, Response(204))

    def _say(self, action: Action) -> Handler:
        async def handler(request: Request) -> Response:
            await self._polled(request).say([ClientFrame(action)])
            return with_cors(request, Response(204))

        return handler

    def _polled(self, request: Request) -> Polled:
        """The connection that a request is about. Raises ClientError: 80018, 80015, 80008, or for the credentials."""
        key = self._connection_keys.read(request.variables["key"])
        shown = Presented.read(request.query, request.headers.get("authorization"), None)
        identity = self._authenticator.identify(shown, self._connections.clock())
        if app_of(identity.key_name) != app_of(key.key_name):
            raise ClientError(error(80015))
        polled = self._by_connection.get(key.connection_id)
        if polled is None:
            raise ClientError(error(80008))
        return polled

    def _entered(self, connection_id: str, polled: Polled) -> None:
        self._by_connection[connection_id] = polled
        self._ids[polled] = connection_id

    def _left(self, polled: Polled) -> None:
        self._all.discard(polled)
        connection_id = self._ids.pop(polled, None)
        if connection_id is not None and self._by_connection.get(connection_id) is polled:
            del self._by_connection[connection_id]


async def _preflight(request: Request) -> Response:
    return preflight(request)


def _messages(request: Request, messages: bytes) -> Response:
    """A list and the end of its line, which a client that reads line by line waits for."""
    return with_cors(request, Response(200, messages + b"\n", "application/json"))
