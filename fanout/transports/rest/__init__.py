"""REST: what a client may do without a connection (Ably protocol, "REST"). One file for each kind of thing.

`routes` gathers them. Every route but `/time` needs a credential, and the capability for what it does.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from fanout.auth.credentials import KeysAwaited
from fanout.errors import ClientError, error
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

__all__ = ["WAITS_MAX", "Api", "patient", "rest"]

WAITS_MAX: Final = 5
"""How often a request waits for keys before it is refused, each time as long as a fetch may take."""


def rest(api: Api, more: Sequence[Route] = ()) -> Sequence[Route]:
    """Method, path and handler of each route and of `more`; a browser may ask about each what it may ask."""
    offered = [*more, *batch(api), *channels(api), *messages(api), *presence(api), *publish(api), *stats(api)]
    paths = dict.fromkeys(path for _, path, _ in offered)
    offers = [(method, path, patient(handler)) for method, path, handler in offered]
    return [*offers, *(("OPTIONS", path, _preflight) for path in paths)]


def patient(handler: Handler) -> Handler:
    """Asks again when it can be said whose credential a request shows: nothing is done before that.

    While keys are fetched those of another document may become due; a request waits `WAITS_MAX` times and no more.
    """

    async def ask(request: Request) -> Response:
        for _ in range(WAITS_MAX):
            try:
                return await handler(request)
            except KeysAwaited as awaited:
                done = awaited.done
            await asyncio.wait([done])
        raise ClientError(error(50000, "the keys of JWTs cannot be fetched now"))

    return ask


async def _preflight(request: Request) -> Response:
    return preflight(request)
