"""The node's time, and the state of channels as this node sees it."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from fanout.auth.realms import bare, realm_of
from fanout.errors import ClientError, error
from fanout.session.modes import METRICS
from fanout.transports.http import Request, Response
from fanout.transports.replies import reply
from fanout.transports.rest.common import Api, protocol_version
from fanout.transports.rest.paging import page_limit, page_links
from fanout.transports.router import Route

__all__ = ["channels"]

_FORMS = ("id", "value")


def channels(api: Api) -> Sequence[Route]:
    """The routes: method, path, handler."""
    offered = _Channels(api)
    return [
        ("GET", "/time", offered.time),
        ("GET", "/channels", offered.listed),
        ("GET", "/channels/{channel}", offered.status),
    ]


class _Channels:
    def __init__(self, api: Api) -> None:
        self._api = api
        self._listing = False

    async def time(self, request: Request) -> Response:
        """The node's time."""
        return reply(request, [self._api.clock()])

    async def status(self, request: Request) -> Response:
        """By how many a channel is used on this node."""
        channel, _ = self._api.authorized(request, "channel-metadata")
        return reply(request, self._details(channel))

    async def listed(self, request: Request) -> Response:
        """A page of the channels in use on this node, by name. One list is made at a time: it looks at all of them."""
        identity = self._api.authorized_everywhere(request, "channel-metadata")
        query = request.query
        form = query.get("by") or ("id" if protocol_version(request) > 2 else "value")
        if form not in _FORMS:
            raise ClientError(error(40003, f"by is one of {', '.join(_FORMS)}"))
        limit, prefix, cursor = page_limit(query), query.get("prefix", ""), query.get("cursor", "")
        realm = realm_of(identity.key_name)
        found = await self._names(realm, prefix, cursor, limit + 1)
        page, more = found[:limit], len(found) > limit
        items = [bare(name) if form == "id" else self._details(name) for name in page]
        asked = {"limit": str(limit), "by": form} | ({"prefix": prefix} if prefix else {})
        links = page_links("channels", asked, cursor, bare(page[-1]) if more else None)
        return reply(request, items, 200, *links)

    async def _names(self, realm: str, prefix: str, after: str, limit: int) -> list[str]:
        if self._listing:
            raise ClientError(error(42912))
        self._listing = True
        try:
            names: list[str] = await asyncio.to_thread(self._api.engine.names, realm, prefix, after, limit)
        finally:
            self._listing = False
        return names

    def _details(self, channel: str) -> Mapping[str, Any]:
        counts = self._api.engine.occupancy(channel)
        metrics = {name: counts.get(name, 0) for name in METRICS}
        # A channel is there by being used, and to be asked about is a use.
        return {"channelId": bare(channel), "status": {"isActive": True, "occupancy": {"metrics": metrics}}}
