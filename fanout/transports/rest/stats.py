"""Statistics of the node, by minute, hour, day or month."""

from collections.abc import Mapping, Sequence

from fanout.errors import ClientError, error
from fanout.stats import UNITS, bounds_of
from fanout.transports.http import Request, Response
from fanout.transports.replies import reply
from fanout.transports.rest.common import Api
from fanout.transports.rest.paging import check_times, is_forwards, page_limit, page_links
from fanout.transports.router import Route
from fanout.types import END_OF_TIME

__all__ = ["stats"]


def stats(api: Api) -> Sequence[Route]:
    """The routes: method, path, handler."""

    async def listed(request: Request) -> Response:
        """A page of intervals."""
        identity = api.authorized_everywhere(request, "stats")
        query = request.query
        unit = query.get("unit") or query.get("by") or "minute"
        if unit not in UNITS:
            raise ClientError(error(40003, f"unit is one of {', '.join(UNITS)}"))
        forwards, limit = is_forwards(query), page_limit(query)
        start, end = _time(query, "start", 0)[0], _time(query, "end", END_OF_TIME)[1]
        check_times(start, end)
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
        direction = "forwards" if forwards else "backwards"
        asked = {"start": start, "end": end, "unit": unit, "direction": direction, "limit": limit}
        links = page_links("stats", asked, cursor if "cursor" in query else None, page.following)
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
