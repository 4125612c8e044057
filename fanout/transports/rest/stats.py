"""Statistics of the node, by minute, hour, day or month."""

from collections.abc import Mapping, Sequence
from typing import Final

from fanout.auth.capabilities import allows
from fanout.errors import ClientError, error
from fanout.stats import UNITS, bounds_of
from fanout.transports.http import Request, Response
from fanout.transports.replies import reply
from fanout.transports.rest.common import Api, link, page_limit
from fanout.transports.router import Route

__all__ = ["stats"]

_END_OF_TIME: Final = (1 << 53) - 1  # the largest number that JSON readers keep


def stats(api: Api) -> Sequence[Route]:
    """The routes: method, path, handler."""

    async def listed(request: Request) -> Response:
        """A page of intervals."""
        identity = api.identified(request)
        if not allows(identity.capability, "*", "stats"):
            raise ClientError(error(40160, "this credential does not allow stats on every channel"))
        query = request.query
        unit = query.get("unit") or query.get("by") or "minute"
        if unit not in UNITS:
            raise ClientError(error(40003, f"unit is one of {', '.join(UNITS)}"))
        direction = query.get("direction", "backwards")
        if direction not in ("backwards", "forwards"):
            raise ClientError(error(40003, "direction is backwards or forwards"))
        limit = page_limit(query)
        start, end = _time(query, "start", 0)[0], _time(query, "end", _END_OF_TIME)[1]
        if start > end:
            raise ClientError(error(40003, "start is after end"))
        forwards = direction == "forwards"
        cursor = _time(query, "cursor", start if forwards else end)[0]
        page = api.stats.page(
            identity.key_name.partition(".")[0],
            start_ms=max(start, cursor) if forwards else start,
            end_ms=end if forwards else min(end, cursor),
            unit=unit,
            forwards=forwards,
            limit=limit,
            now_ms=api.clock(),
        )
        asked = {"start": start, "end": end, "unit": unit, "direction": direction, "limit": limit}
        current = asked | ({"cursor": cursor} if "cursor" in query else {})
        links = [link("stats", "first", asked), link("stats", "current", current)]
        if page.following is not None:
            links.append(link("stats", "next", asked | {"cursor": page.following}))
        return reply(request, page.intervals, 200, *links)

    return [("GET", "/stats", listed)]


def _time(query: Mapping[str, str], name: str, default: int) -> tuple[int, int]:
    """A time of the query, as its first and last ms: it may be the name of an interval."""
    text = query.get(name)
    if text is None:
        return default, default
    if text.isascii() and text.isdigit() and len(text) <= 16:
        return int(text), int(text)
    return bounds_of(text)
