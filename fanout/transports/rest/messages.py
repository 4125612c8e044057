"""Looking back at a channel's messages, as far as the log does."""

from collections.abc import Sequence
from typing import Any

from fanout.errors import ClientError, error
from fanout.transports.http import Request, Response
from fanout.transports.replies import accepted_wire, reply
from fanout.transports.rest.common import Api, data_to_wire, link, page_limit, whole_number
from fanout.transports.router import Route
from fanout.types import END_OF_TIME, HistoryQuery, Message

__all__ = ["message_to_wire", "messages"]


def messages(api: Api) -> Sequence[Route]:
    """The routes: method, path, handler."""
    return [("GET", "/channels/{channel}/messages", _Messages(api).history)]


class _Messages:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def history(self, request: Request) -> Response:
        """A page of the channel's messages."""
        channel, _ = self._api.authorized(request, "history")
        query = request.query
        until = query.get("from_serial") or query.get("fromSerial")
        direction = query.get("direction", "backwards")
        if direction not in ("backwards", "forwards") or (until and direction == "forwards"):
            raise ClientError(error(40003, "direction is backwards or forwards, and backwards from a serial"))
        limit = page_limit(query)
        start, end = whole_number(query, "start", 0), whole_number(query, "end", END_OF_TIME)
        if start > end:
            raise ClientError(error(40003, "start is after end"))
        cursor = query.get("cursor")
        asked = HistoryQuery(start, end, direction == "forwards", limit, cursor, until)
        found = await self._api.history.page(channel, asked)
        wire = accepted_wire(request)
        page = {"start": start, "end": end, "direction": direction, "limit": limit}
        if until:
            page["fromSerial"] = until
        current = page | ({"cursor": cursor} if cursor else {})
        links = [link("messages", "first", page), link("messages", "current", current)]
        if found.cursor is not None:
            links.append(link("messages", "next", page | {"cursor": found.cursor}))
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
