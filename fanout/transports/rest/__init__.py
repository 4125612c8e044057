"""REST: what a client may do without a connection (Ably protocol, "REST"). One file for each kind of thing.

`routes` gathers them. Every route but `/time` needs a credential, and the capability for what it does.
"""

import asyncio
from collections.abc import Sequence

from fanout.auth.credentials import KeysAwaited
from fanout.transports.http import Handler, Request, Response
from fanout.transports.replies import preflight
from fanout.transports.rest.batch import batch
from fanout.transports.rest.channels import channels
from fanout.transports.rest.common import Api
from fanout.transports.rest.messages import messages
from fanout.transports.rest.presence import presence
from fanout.transports.rest.publish import publish
from fanout.transports.rest.stats import stats
from fanout.transports.router import Route

__all__ = ["Api", "rest"]


def rest(api: Api, more: Sequence[Route] = ()) -> Sequence[Route]:
    """Method, path and handler of each route and of `more`; a browser may ask about each what it may ask."""
    offered = [*more, *batch(api), *channels(api), *messages(api), *presence(api), *publish(api), *stats(api)]
    paths = dict.fromkeys(path for _, path, _ in offered)
    patient = [(method, path, _patient(handler)) for method, path, handler in offered]
    return [*patient, *(("OPTIONS", path, _preflight) for path in paths)]


def _patient(handler: Handler) -> Handler:
    """Asks once more when it can be said whose credential a request shows: nothing is done before that."""

    async def ask(request: Request) -> Response:
        try:
            return await handler(request)
        except KeysAwaited as awaited:
            await asyncio.wait([awaited.done])
        return await handler(request)

    return ask


async def _preflight(request: Request) -> Response:
    return preflight(request)
