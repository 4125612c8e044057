"""Publishing to a channel, and looking back.

A publish is answered once the log has it. History is what the node holds in memory.
"""

import asyncio
import base64
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from fanout.auth.realms import bare
from fanout.errors import ClientError, ErrorInfo, error
from fanout.session.messages import check_messages
from fanout.transports.http import Request, Response
from fanout.transports.replies import accepted_wire, reply
from fanout.transports.rest.common import Api, body_wire, decoded_body, link, page_limit, whole_number
from fanout.transports.router import Route
from fanout.types import Message
from fanout.wire import JSON, MSGPACK, ClientMessage

__all__ = ["message_to_wire", "messages"]

_END_OF_TIME: Final = (1 << 53) - 1  # the largest number that JSON readers keep

_Body = ClientMessage | list[ClientMessage]
_DECODERS: Final[Mapping[int, Any]] = {JSON: msgspec.json.Decoder(_Body), MSGPACK: msgspec.msgpack.Decoder(_Body)}


def messages(api: Api) -> Sequence[Route]:
    """The routes: method, path, handler."""
    offered = _Messages(api)
    path = "/channels/{channel}/messages"
    return [("GET", path, offered.history), ("POST", path, offered.publish)]


class _Messages:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def publish(self, request: Request) -> Response:
        """Writes one message, or an array of them next to each other."""
        channel, identity = self._api.authorized(request, "publish")
        if request.query.get("_forceNack") == "true":
            raise ClientError(error(40099))
        body = decoded_body(request, _DECODERS)
        checked = check_messages(
            body if isinstance(body, list) else [body],
            wire=body_wire(request),
            identity=identity,
            connection_id=None,
            id_base=secrets.token_urlsafe(12),
            limits=self._api.limits,
        )
        written: asyncio.Future[list[str] | ErrorInfo] = asyncio.get_running_loop().create_future()
        self._api.publisher.publish(
            channel, checked.messages, lambda result: None if written.done() else written.set_result(result)
        )
        result = await written
        if isinstance(result, ErrorInfo):
            raise ClientError(result)
        first = checked.messages[0].id
        message_id = first.removesuffix(":0")  # of several the ids' common base
        return reply(request, {"channel": bare(channel), "messageId": message_id, "serials": result}, 201)

    async def history(self, request: Request) -> Response:
        """A page of the messages that are held."""
        channel, _ = self._api.authorized(request, "history")
        query = request.query
        until = query.get("from_serial") or query.get("fromSerial")
        direction = query.get("direction", "backwards")
        if direction not in ("backwards", "forwards") or (until and direction == "forwards"):
            raise ClientError(error(40003, "direction is backwards or forwards, and backwards from a serial"))
        limit = page_limit(query)
        start, end = whole_number(query, "start", 0), whole_number(query, "end", _END_OF_TIME)
        if start > end:
            raise ClientError(error(40003, "start is after end"))
        cursor = query.get("cursor")
        try:
            held, following = self._api.engine.history(
                channel, start, end, direction == "forwards", limit, cursor, until
            )
        except ValueError:
            raise ClientError(error(90008 if until and not cursor else 40011)) from None
        wire = accepted_wire(request)
        page = {"start": start, "end": end, "direction": direction, "limit": limit}
        if until:
            page["fromSerial"] = until
        current = page | ({"cursor": cursor} if cursor else {})
        links = [link("messages", "first", page), link("messages", "current", current)]
        if following is not None:
            links.append(link("messages", "next", page | {"cursor": following}))
        return reply(request, [message_to_wire(message, wire) for message in held], 200, *links)


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
