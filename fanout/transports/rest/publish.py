"""Publishing to a channel: answered once the log has it.

- A body is one message or an array of them, in the protocol's form.
- With `enveloped=false` it is the payload alone, for who can do no more than send one; what else a message has is in
  header fields, or in the query under the names of a message's fields.
- A message with a connection key is published on behalf of that connection. All of one publish speak for the same one.
"""

import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from fanout.auth.realms import bare
from fanout.errors import ClientError, error
from fanout.session.messages import check_messages
from fanout.transports.http import Request, Response
from fanout.transports.replies import reply
from fanout.transports.rest.common import Api, BodyMessage, body_wire, decoded_body, written
from fanout.transports.router import Route
from fanout.wire import JSON, MSGPACK

__all__ = ["publish"]


_Body = BodyMessage | list[BodyMessage]
_DECODERS: Final[Mapping[int, Any]] = {JSON: msgspec.json.Decoder(_Body), MSGPACK: msgspec.msgpack.Decoder(_Body)}
_FIELDS: Final = {
    "id": "x-ably-messageid",
    "name": "x-ably-name",
    "encoding": "x-ably-encoding",
    "connectionKey": "x-ably-connectionkey",
}
"""What a bare payload's message may have besides: its field, and the header that says it. Whom it is from, the request
says (`Api.identified`)."""


def publish(api: Api) -> Sequence[Route]:
    """The routes: method, path, handler."""

    async def published(request: Request) -> Response:
        """Writes one message, or an array of them next to each other."""
        channel, identity = api.authorized(request, "publish")
        if request.query.get("_forceNack") == "true":
            raise ClientError(error(40099))
        messages, wire = _bare(request) if request.query.get("enveloped") == "false" else _enveloped(request)
        connection_id = None
        speakers = {message.connection_key for message in messages}
        if len(speakers) > 1:
            raise ClientError(error(40006, "one publish speaks for one connection"))
        if (speaker := next(iter(speakers), None)) is not None:
            identity, connection_id = api.behalf.speaker(speaker, identity, api.clock())
        checked = check_messages(
            messages,
            wire=wire,
            identity=identity,
            connection_id=connection_id,
            id_base=secrets.token_urlsafe(12),
            limits=api.limits,
        )
        serials = await written(partial(api.publisher.publish, channel, checked.messages))
        first = checked.messages[0].id
        message_id = first.removesuffix(":0")  # of several the ids' common base
        return reply(request, {"channel": bare(channel), "messageId": message_id, "serials": serials}, 201)

    return [("POST", "/channels/{channel}/messages", published)]


def _enveloped(request: Request) -> tuple[Sequence[BodyMessage], int]:
    body = decoded_body(request, _DECODERS)
    return body if isinstance(body, list) else [body], body_wire(request)


def _bare(request: Request) -> tuple[Sequence[BodyMessage], int]:
    """A message whose payload is the body: text and JSON by their media types, anything else as bytes."""
    said = {field: request.query.get(field) or request.headers.get(header) for field, header in _FIELDS.items()}
    media_type = request.header("content-type").partition(";")[0].strip().lower()
    data: str | bytes = request.body
    if media_type == "application/json" or media_type.startswith("text/"):
        try:
            data = request.body.decode()
        except UnicodeDecodeError:
            raise ClientError(error(40013, "the body is not UTF-8")) from None
    encoding = said["encoding"] or ("json" if media_type == "application/json" else None)
    message = BodyMessage(
        data=data, id=said["id"], name=said["name"], encoding=encoding, connection_key=said["connectionKey"]
    )
    return [message], JSON
