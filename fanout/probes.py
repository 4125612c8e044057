"""What orchestrators and Prometheus ask a node: `/health`, `/ready`, `/metrics`. No key is needed.

`/health` answers while the event loop turns: when it does not, restarting helps. `/ready` answers 503 with the reason
while clients are better sent elsewhere: the log is away, the node still reads it back, it drains, or what looked after
something has ended, which a restart mends. Partitions that stand still though the log answers are told with the 200
(`held`): they do so on every node, and all others go on. So is what of the log is damaged (`reason`).
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
        body: dict[str, object] = {"ready": state.ok}
        if state.reason:
            body["reason"] = state.reason
        if state.held:
            body["held"] = [
                {"topic": topic, "partition": partition, "seconds": round(seconds), "reason": reason}
                for (topic, partition), (seconds, reason) in sorted(state.held.items())
            ]
        return _json(200 if state.ok else 503, body)

    async def scrape(_request: Request) -> Response:
        return Response(200, metrics(), CONTENT_TYPE)

    return [("GET", "/health", health), ("GET", "/ready", ready), ("GET", "/metrics", scrape)]


def _json(status: int, body: dict[str, object]) -> Response:
    return Response(status, orjson.dumps(body), "application/json", (("cache-control", "no-store"),))
