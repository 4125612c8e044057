"""Apps that test suites make and delete, and the past they give them: offered by a node with `--sandbox` alone.

Anybody may make an app and gets its keys, so these routes are only for a node that no other machine can reach
(`fanout.config.Config.sandbox`).
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from fanout.auth.keys import app_of
from fanout.errors import ClientError, error
from fanout.stats import bounds_of, flattened
from fanout.transports.http import Request, Response
from fanout.transports.replies import reply, with_cors
from fanout.transports.rest.common import Api, decoded_body
from fanout.transports.router import Route
from fanout.wire import JSON, MSGPACK

__all__ = ["INTERVALS_MAX", "Apps", "apps"]

INTERVALS_MAX: Final = 1_000
"""Intervals of statistics in one request."""

_APP: Final[Mapping[int, Any]] = {
    JSON: msgspec.json.Decoder(dict[str, Any]),
    MSGPACK: msgspec.msgpack.Decoder(dict[str, Any]),
}
_INTERVALS: Final[Mapping[int, Any]] = {
    JSON: msgspec.json.Decoder(list[dict[str, Any]]),
    MSGPACK: msgspec.msgpack.Decoder(list[dict[str, Any]]),
}


class Apps(Protocol):
    """What makes and forgets apps; `fanout.sandbox.Sandbox` does."""

    def __contains__(self, app: str) -> bool: ...

    async def provision(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Makes an app. Raises ClientError."""
        ...

    def remove(self, app: str) -> None:
        """Forgets an app."""
        ...


def apps(
    api: Api,
    provisioned: Apps,
    host: str,
    port: Callable[[], int],
    *,
    tls: bool,
    dismiss: Callable[[str], None],
) -> Sequence[Route]:
    """The routes: method, path, handler. `host`, `port` and `tls` are how clients of the apps find this node; `dismiss`
    ends the connections of an app that is forgotten.
    """

    async def provision(request: Request) -> Response:
        """Makes an app and tells its keys."""
        app = await provisioned.provision(decoded_body(request, _APP))
        return reply(request, {**app, "endpoint": host, "port": port(), "tls": tls}, 201)

    async def remove(request: Request) -> Response:
        """Forgets the app and ends its connections; any of its own keys may ask for it."""
        app = request.variables["app"]
        asking = app_of(api.identified(request).key_name)
        if app not in provisioned:
            raise ClientError(error(40400, "no such app"))
        if asking != app:
            raise ClientError(error(40160, "this key belongs to another app"))
        provisioned.remove(app)
        dismiss(app)
        api.stats.forget(app)
        return with_cors(request, Response(204))

    async def remember(request: Request) -> Response:
        """Gives an app statistics that it could have had."""
        app = app_of(api.identified(request).key_name)
        if app not in provisioned:
            raise ClientError(error(40160, "this key belongs to no provisioned app"))
        intervals = decoded_body(request, _INTERVALS)
        if len(intervals) > INTERVALS_MAX:
            raise ClientError(error(40003, f"{INTERVALS_MAX} intervals are the limit"))
        given = [_interval(interval) for interval in intervals]
        for start_ms, figures in given:
            api.stats.give(app, start_ms, figures)
        return reply(request, {}, 201)

    return [("POST", "/apps", provision), ("DELETE", "/apps/{app}", remove), ("POST", "/stats", remember)]


def _interval(interval: Mapping[str, Any]) -> tuple[int, dict[str, float]]:
    """When it began, in ms, and its figures. Raises ClientError 40000, 40003."""
    start_ms, _ = bounds_of(str(interval.get("intervalId", "")))
    return start_ms, flattened({name: value for name, value in interval.items() if name != "intervalId"})
