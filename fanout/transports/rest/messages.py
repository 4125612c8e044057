"""Looking back at a channel's messages, as far as the log does."""

from collections.abc import Sequence
from typing import Any

from fanout.errors import ClientError, error
from fanout.transports.http import Request, Response
from fanout.transports.replies import accepted_wire, reply
from fanout.transports.rest.common import Api, data_to_wire
from fanout.transports.rest.paging import is_forwards, page_limit, page_links, time_range
from fanout.transports.router import Route
from fanout.types import HistoryQuery, Message

__all__ = ["message_to_wire", "messages"]


def messages(api: Api) -> Sequence[Route]:
    """The routes: method, path, handler."""
    return [("GET", "/channels/{channel}/messages", _Messages(api).history)]


class _Messages:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def history(self, request: Request) -> Response:
        """A page of the channel's messages."""
        channel, identity = self._api.authorized(request, "history")
        query = request.query
        until = query.get("from_serial") or query.get("fromSerial")
        forwards = is_forwards(query)
        if until and forwards:
            raise ClientError(error(40003, "direction is backwards or forwards, and backwards from a serial"))
        limit, (start, end), cursor = page_limit(query), time_range(query), query.get("cursor")
        asked_for = HistoryQuery(start, end, forwards, limit, cursor, until)
        found = await self._api.history.page(channel, asked_for, identity.who)
        wire = accepted_wire(request)
        asked = {"start": start, "end": end, "direction": "forwards" if forwards else "backwards", "limit": limit}
        links = page_links("messages", asked | ({"fromSerial": until} if until else {}), cursor, found.cursor)
        return reply(request, [message_to_wire(message, wire) for message in found.messages], 200, *links)


def message_to_wire(message: Message, wire: int) -> dict[str, Any]:
    """A message as history shows it; absent fields are left out (Ably protocol, "Wire message")."""
    data, encoding = data_to_wire(message.data, message.encoding, wire)
    fields = {
        "id": message.id,
        "name": message.name,
        "data": data,
        "encoding": encoding,
        "clientId": message.client_id,
        "connectionId": message.connection_id,
        "timestamp": message.timestamp,
        "extras": message.extras,
        "action": message.action,
        "serial": message.serial,
        "version": message.version or {"serial": message.serial, "timestamp": message.timestamp},
        "annotations": message.annotations,
    }
    return {name: value for name, value in fields.items() if value is not None}
