"""Who is present on a channel, and who came and went (Ably protocol, "Presence").

Both are what this node has read: the set whole, of the past what memory holds. Members come in the order of their
connections and clients, so that a page begins where the one before ended, whoever comes and goes meanwhile.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from fanout.errors import ClientError, error
from fanout.transports.http import Request, Response
from fanout.transports.replies import accepted_wire, reply
from fanout.transports.rest.common import Api, data_to_wire
from fanout.transports.rest.paging import is_forwards, page_limit, page_links, time_range
from fanout.transports.router import Route
from fanout.types import PresenceMessage

__all__ = ["presence", "presence_to_wire"]


def presence(api: Api) -> Sequence[Route]:
    """The routes: method, path, handler."""
    offered = _Presence(api)
    path = "/channels/{channel}/presence"
    return [("GET", path, offered.members), ("GET", path + "/history", offered.history)]


class _Presence:
    def __init__(self, api: Api) -> None:
        self._api = api

    async def members(self, request: Request) -> Response:
        """A page of those present; of one client or connection alone, if the query names one."""
        identity = self._api.identified(request)
        channel = self._api.visible(request.variables["channel"], identity)
        query = request.query
        limit, cursor = page_limit(query), query.get("cursor")
        wanted = {name: query[name] for name in ("clientId", "connectionId") if name in query}
        try:
            found, following = self._page(channel, wanted, cursor, limit)
            while following is not None and not found:  # a page looks at a bounded number of members
                await asyncio.sleep(0)
                found, following = self._page(channel, wanted, following, limit)
        except ValueError:
            raise ClientError(error(40011)) from None
        return _paged(request, "presence", wanted | {"limit": limit}, found, following)

    async def history(self, request: Request) -> Response:
        """A page of the presence events that are held."""
        channel, _ = self._api.authorized(request, "history")
        query = request.query
        forwards = is_forwards(query)
        if "from_serial" in query or "fromSerial" in query:
            raise ClientError(error(40003, "a serial says nothing about presence; use start and end"))
        limit, (start, end) = page_limit(query), time_range(query)
        try:
            held, following = self._api.engine.presence_history(
                channel, start, end, forwards, limit, query.get("cursor")
            )
        except ValueError:
            raise ClientError(error(40011)) from None
        page = {"start": start, "end": end, "direction": "forwards" if forwards else "backwards", "limit": limit}
        return _paged(request, "history", page, held, following)

    def _page(
        self, channel: str, wanted: dict[str, str], cursor: str | None, limit: int
    ) -> tuple[list[PresenceMessage], str | None]:
        found: tuple[list[PresenceMessage], str | None] = self._api.engine.members(
            channel, wanted.get("clientId"), wanted.get("connectionId"), cursor, limit
        )
        return found


def presence_to_wire(message: PresenceMessage, wire: int) -> dict[str, Any]:
    """A member or an event as REST shows it; absent fields are left out."""
    data, encoding = data_to_wire(message.data, message.encoding, wire)
    fields = {
        "action": message.action,
        "id": message.id,
        "clientId": message.client_id,
        "connectionId": message.connection_id,
        "timestamp": message.timestamp,
        "data": data,
        "encoding": encoding,
        "extras": message.extras,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _paged(
    request: Request, path: str, page: dict[str, Any], found: Sequence[PresenceMessage], following: str | None
) -> Response:
    links = page_links(path, page, request.query.get("cursor"), following)
    wire = accepted_wire(request)
    return reply(request, [presence_to_wire(message, wire) for message in found], 200, *links)
