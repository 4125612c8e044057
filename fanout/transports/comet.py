"""What a browser's SDK hears when it tries HTTP polling: that it should come back, over a WebSocket.

An SDK turns to polling when its WebSocket attempts fail, for example while a server restarts. Polling is not offered,
but it must be said in the protocol's own words (Ably protocol, "Comet"): a plain 404 would make the client give up for
good, though the next WebSocket would open.
"""

from collections.abc import Sequence

from fanout.errors import error
from fanout.transports.http import Request, Response
from fanout.transports.replies import reply
from fanout.transports.router import Route
from fanout.wire import Action

__all__ = ["comet"]


def comet() -> Sequence[Route]:
    """The routes: method, path, handler."""
    return [("GET", "/comet/connect", _connect)]


async def _connect(request: Request) -> Response:
    """A list of protocol messages, as polling has them: DISCONNECTED."""
    return reply(request, [{"action": Action.DISCONNECTED, "error": error(80003, "over a WebSocket").to_wire()}])
