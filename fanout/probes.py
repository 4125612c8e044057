"""What orchestrators and Prometheus ask a node: `/health`, `/ready`, `/metrics`. No key is needed.

`/health` answers while the event loop turns: when it does not, restarting helps. `/ready` answers 503 with the reason
while clients are better sent elsewhere: the log is away, the node still reads it back, or it drains.
"""

from collections.abc import Callable, Sequence

import orjson

from fanout.observe.metrics import CONTENT_TYPE
from fanout.sources.base import Health
from fanout.transports.http import Request, Response
from fanout.transports.router import Route

__all__ = ["probes"]


def probes(readiness: Callable[[], Health], metrics: Callable[[], bytes]) -> Sequence[Route]:
    """The routes: method, path, handler."""

    async def health(_request: Request) -> Response:
        return _json(200, {"status": "ok"})

    async def ready(_request: Request) -> Response:
        state = readiness()
        return _json(200, {"ready": True}) if state.ok else _json(503, {"ready": False, "reason": state.reason})

    async def scrape(_request: Request) -> Response:
        return Response(200, metrics(), CONTENT_TYPE)

    return [("GET", "/health", health), ("GET", "/ready", ready), ("GET", "/metrics", scrape)]


def _json(status: int, body: dict[str, object]) -> Response:
    return Response(status, orjson.dumps(body), "application/json", (("cache-control", "no-store"),))
