"""What all routes share: who asks, for which channel and with what right; the body, and results of several parts.

Each of these raises ClientError for what is wrong with it; the router makes the answer.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from fanout.auth.capabilities import allows
from fanout.auth.credentials import Presented
from fanout.auth.realms import realm_of
from fanout.callbacks import outcome
from fanout.errors import ClientError, ErrorInfo, error
from fanout.session.behalf import Behalf
from fanout.session.limits import Limits
from fanout.session.names import parse_name
from fanout.session.params import VERSIONS
from fanout.session.ports import Authenticator
from fanout.stats import Stats
from fanout.transports.http import Request
from fanout.transports.ports import Publisher
from fanout.transports.replies import MEDIA_TYPES
from fanout.types import HistoryPage, HistoryQuery, Identity
from fanout.wire import JSON, MSGPACK, ClientMessage

__all__ = [
    "Api",
    "BodyMessage",
    "batch_result",
    "body_wire",
    "data_to_wire",
    "decoded_body",
    "protocol_version",
    "written",
]


class Past(Protocol):
    """A node's channels as they were; `fanout.history.History` answers this."""

    async def page(self, channel: str, query: HistoryQuery, who: str) -> HistoryPage:
        """A page of a channel's messages. Raises ClientError."""


class BodyMessage(ClientMessage, rename="camel", frozen=True, gc=False):
    """A message of a body, which may speak for a connection: by its key."""

    connection_key: str | None = None


@dataclass(frozen=True, slots=True)
class Api:
    """What the routes need. `clock` reads the time in ms; `engine` is a `fanout._core.Engine`."""

    authenticator: Authenticator
    engine: Any
    publisher: Publisher
    history: Past
    behalf: Behalf
    stats: Stats
    clock: Callable[[], int]
    limits: Limits

    def identified(self, request: Request) -> Identity:
        """Who asks. Raises ClientError for the credentials or the protocol's version."""
        protocol_version(request)
        shown = Presented.read(request.query, request.headers.get("authorization"), _client_id(request))
        return self.authenticator.identify(shown, self.clock())

    def channel(self, spelling: str, identity: Identity) -> str:
        """The channel that this client's spelling leads to. Raises ClientError 40010."""
        return parse_name(spelling, self.limits.channel_bytes, realm_of(identity.key_name)).channel

    def permitted(self, spelling: str, identity: Identity, operation: str) -> str:
        """As `channel`, if this client may do that on it. Raises ClientError 40160 otherwise."""
        channel = self.channel(spelling, identity)
        if not allows(identity.capability, channel, operation):
            raise ClientError(error(40160, f"this credential does not allow {operation} on this channel"))
        return channel

    def visible(self, spelling: str, identity: Identity) -> str:
        """As `channel`, if this client may see who is present there. Raises ClientError 40160 otherwise."""
        channel = self.channel(spelling, identity)
        if not any(allows(identity.capability, channel, operation) for operation in ("presence", "subscribe")):
            raise ClientError(error(40160, "this credential allows neither presence nor subscribe on this channel"))
        return channel

    def authorized(self, request: Request, operation: str) -> tuple[str, Identity]:
        """The channel of the path and who asks. Raises ClientError for the capability or the name too."""
        identity = self.identified(request)
        return self.permitted(request.variables["channel"], identity, operation), identity

    def authorized_everywhere(self, request: Request, operation: str) -> Identity:
        """Who asks, with a right on every channel. Raises ClientError for the capability too."""
        identity = self.identified(request)
        if not allows(identity.capability, "*", operation):
            raise ClientError(error(40160, f"this credential does not allow {operation} on every channel"))
        return identity


async def written(begin: Callable[[Callable[[list[str] | ErrorInfo], None]], None]) -> list[str]:
    """The serials that a call answers with which writes to the log (`fanout.callbacks.outcome`). Raises ClientError."""
    result = await outcome(begin)
    if isinstance(result, ErrorInfo):
        raise ClientError(result)
    return result


def batch_result(results: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """What became of several things asked for at once: those with an `error` have failed."""
    failures = sum("error" in result for result in results)
    return {"successCount": len(results) - failures, "failureCount": failures, "results": results}


def data_to_wire(data: str | bytes | None, encoding: str | None, wire: int) -> tuple[str | bytes | None, str | None]:
    """Data and encoding as a body of that wire can hold them: JSON has no binary."""
    if isinstance(data, bytes) and wire == JSON:
        return base64.b64encode(data).decode(), f"{encoding}/base64" if encoding else "base64"
    return data, encoding


def body_wire(request: Request) -> int:
    """The encoding of the body: by its media type, else by the query's `format`, else JSON."""
    media_type = request.header("content-type").partition(";")[0].strip().lower()
    if not media_type:
        return MSGPACK if request.query.get("format") == "msgpack" else JSON
    if media_type not in MEDIA_TYPES:
        raise ClientError(error(40001, "content-type is application/json or application/x-msgpack"))
    return MEDIA_TYPES[media_type]


def decoded_body(request: Request, decoders: Mapping[int, Any]) -> Any:
    """The body as the msgspec decoder of its encoding reads it."""
    try:
        return decoders[body_wire(request)].decode(request.body)
    except RecursionError:
        raise ClientError(error(40001, "it is nested too deeply")) from None
    except ValueError as reason:  # msgspec's own errors and broken UTF-8
        raise ClientError(error(40001, str(reason))) from None


def protocol_version(request: Request) -> int:
    """The protocol's version that the client speaks, without what stands behind a dot; the newest if it says none."""
    text = request.query.get("v") or request.headers.get("x-ably-version")
    if text is None:
        return VERSIONS[-1]
    if not re.fullmatch(r"[1-9][0-9]{0,8}(\.[0-9]{1,9})?", text):
        raise ClientError(error(40017))
    return int(text.partition(".")[0])


def _client_id(request: Request) -> str | None:
    """The identity that the client asks for, in the query or, as base64, in a header."""
    encoded = request.headers.get("x-ably-clientid")
    if encoded is None:
        return request.query.get("clientId")
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, ValueError):
        raise ClientError(error(40004, "x-ably-clientid is the base64 of UTF-8 text")) from None
