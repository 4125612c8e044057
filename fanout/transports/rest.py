"""REST: publishing, history and channel status without a connection (Ably protocol, "REST").

Every route but `/time` needs an API key, in `Authorization: Basic` or `?key=`, and the capability for what it does. A
publish is answered once the log has it. History is what the node holds in memory.
"""

import asyncio
import base64
import binascii
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import msgspec

from fanout.auth.capabilities import allows
from fanout.auth.keys import Keys
from fanout.errors import ClientError, ErrorInfo, error
from fanout.session.limits import Limits
from fanout.session.messages import check_messages
from fanout.session.names import parse_name
from fanout.session.opening import authenticate
from fanout.transports.http import Request, Response
from fanout.transports.replies import MEDIA_TYPES, accepted_wire, preflight, reply
from fanout.transports.router import Route
from fanout.transports.websocket import Publisher
from fanout.types import Identity, Message
from fanout.wire import JSON, MSGPACK, ClientMessage

__all__ = ["Rest", "message_to_wire"]

_PAGE: Final = 100
_PAGE_MAX: Final = 1_000
_END_OF_TIME: Final = (1 << 53) - 1  # the largest number that JSON readers keep

_Body = ClientMessage | list[ClientMessage]
_DECODERS: Final[Mapping[int, Any]] = {JSON: msgspec.json.Decoder(_Body), MSGPACK: msgspec.msgpack.Decoder(_Body)}


@dataclass(frozen=True, slots=True)
class Rest:
    """The routes, and what they need. `clock` reads the time in ms; `engine` is a `fanout._core.Engine`."""

    keys: Keys
    engine: Any
    publisher: Publisher
    clock: Callable[[], int]
    limits: Limits

    def routes(self) -> Sequence[Route]:
        """Method, path and handler of each route, for a `Router`."""
        offered: list[Route] = [
            ("GET", "/time", self.time),
            ("GET", "/channels/{channel}", self.status),
            ("GET", "/channels/{channel}/messages", self.history),
            ("POST", "/channels/{channel}/messages", self.publish),
        ]
        paths = dict.fromkeys(path for _, path, _ in offered)
        return [*offered, *(("OPTIONS", path, _preflight) for path in paths)]

    async def time(self, request: Request) -> Response:
        """The node's time."""
        return reply(request, [self.clock()])

    async def status(self, request: Request) -> Response:
        """Whether a channel is in use on this node, and by how many."""
        channel, _ = self._authorized(request, "channel-metadata")
        count = self.engine.occupancy(channel)
        metrics = {
            "connections": count["subscribers"],
            "publishers": count["subscribers"],  # who of them will publish nobody knows
            "subscribers": count["subscribers"],
            "presenceConnections": 0,
            "presenceMembers": 0,
            "presenceSubscribers": 0,
            "objectPublishers": 0,
            "objectSubscribers": 0,
        }
        active = count["subscribers"] > 0 or count["messages"] > 0
        return reply(request, {"channelId": channel, "status": {"isActive": active, "occupancy": {"metrics": metrics}}})

    async def publish(self, request: Request) -> Response:
        """Writes one message, or an array of them next to each other."""
        channel, identity = self._authorized(request, "publish")
        if request.query.get("_forceNack") == "true":
            raise ClientError(error(40099))
        wire = _body_wire(request)
        checked = check_messages(
            _body(request, wire),
            wire=wire,
            identity=identity,
            connection_id=None,
            id_base=secrets.token_urlsafe(12),
            limits=self.limits,
        )
        written: asyncio.Future[list[str] | ErrorInfo] = asyncio.get_running_loop().create_future()
        self.publisher.publish(
            channel, checked.messages, lambda result: None if written.done() else written.set_result(result)
        )
        result = await written
        if isinstance(result, ErrorInfo):
            raise ClientError(result)
        first = checked.messages[0].id
        message_id = first.removesuffix(":0")  # of several the ids' common base
        return reply(request, {"channel": channel, "messageId": message_id, "serials": result}, 201)

    async def history(self, request: Request) -> Response:
        """A page of the messages that are held."""
        channel, _ = self._authorized(request, "history")
        query = request.query
        until = query.get("from_serial") or query.get("fromSerial")
        direction = query.get("direction", "backwards")
        if direction not in ("backwards", "forwards") or (until and direction == "forwards"):
            raise ClientError(error(40003, "direction is backwards or forwards, and backwards from a serial"))
        limit = _number(query, "limit", _PAGE)
        if not 1 <= limit <= _PAGE_MAX:
            raise ClientError(error(40003, f"limit is from 1 to {_PAGE_MAX}"))
        start, end = _number(query, "start", 0), _number(query, "end", _END_OF_TIME)
        if start > end:
            raise ClientError(error(40003, "start is after end"))
        cursor = query.get("cursor")
        try:
            messages, following = self.engine.history(
                channel, start, end, direction == "forwards", limit, cursor, until
            )
        except ValueError:
            raise ClientError(error(90008 if until and not cursor else 40011)) from None
        wire = accepted_wire(request)
        page = {"start": start, "end": end, "direction": direction, "limit": limit}
        if until:
            page["fromSerial"] = until
        links = [_link("first", page), _link("current", page | ({"cursor": cursor} if cursor else {}))]
        if following is not None:
            links.append(_link("next", page | {"cursor": following}))
        return reply(request, [message_to_wire(message, wire) for message in messages], 200, *links)

    def _authorized(self, request: Request, operation: str) -> tuple[str, Identity]:
        """The channel of the path and who asks. Raises ClientError for credentials, capability, name or version."""
        _check_version(request.query.get("v") or request.headers.get("x-ably-version"))
        query = request.query
        identity = authenticate(
            query.get("key"),
            query.get("access_token") or query.get("accessToken"),
            request.headers.get("authorization"),
            _client_id(request),
            self.keys,
        )
        channel = parse_name(request.variables["channel"], self.limits.channel_bytes).channel
        if not allows(identity.capability, channel, operation):
            raise ClientError(error(40160, f"this credential does not allow {operation} on this channel"))
        return channel, identity


def message_to_wire(message: Message, wire: int) -> dict[str, Any]:
    """A message as history shows it; absent fields are left out (Ably protocol, "Wire message")."""
    data, encoding = message.data, message.encoding
    if isinstance(data, bytes) and wire == JSON:
        data = base64.b64encode(data).decode()
        encoding = f"{encoding}/base64" if encoding else "base64"
    fields = {
        "id": message.id,
        "name": message.name,
        "data": data,
        "encoding": encoding,
        "clientId": message.client_id,
        "connectionId": message.connection_id,
        "timestamp": message.timestamp,
        "extras": message.extras,
        "action": 0,
        "serial": message.serial,
        "version": {"serial": message.serial, "timestamp": message.timestamp},
    }
    return {name: value for name, value in fields.items() if value is not None}


async def _preflight(request: Request) -> Response:
    return preflight(request)


def _body_wire(request: Request) -> int:
    media_type = request.header("content-type").partition(";")[0].strip().lower()
    if not media_type:
        return MSGPACK if request.query.get("format") == "msgpack" else JSON
    if media_type not in MEDIA_TYPES:
        raise ClientError(error(40001, "content-type is application/json or application/x-msgpack"))
    return MEDIA_TYPES[media_type]


def _body(request: Request, wire: int) -> list[ClientMessage]:
    try:
        body = _DECODERS[wire].decode(request.body)
    except RecursionError:
        raise ClientError(error(40001, "it is nested too deeply")) from None
    except ValueError as reason:  # msgspec's own errors and broken UTF-8
        raise ClientError(error(40001, str(reason))) from None
    return body if isinstance(body, list) else [body]


def _client_id(request: Request) -> str | None:
    """The identity that the client asks for, in the query or, as base64, in a header."""
    encoded = request.headers.get("x-ably-clientid")
    if encoded is None:
        return request.query.get("clientId")
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        raise ClientError(error(40004, "x-ably-clientid is the base64 of UTF-8 text")) from None


def _check_version(text: str | None) -> None:
    if text is not None and not re.fullmatch(r"[1-9][0-9]{0,8}(\.[0-9]{1,9})?", text):
        raise ClientError(error(40017))


def _number(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise ClientError(error(40003, f"{name} is a whole number"))
    return int(text)


def _link(relation: str, query: Mapping[str, Any]) -> tuple[str, str]:
    """One page of the list. SDKs take the query alone, and split the field at commas: `urlencode` leaves none."""
    return "link", f'<./messages?{urlencode(query)}>; rel="{relation}"'
