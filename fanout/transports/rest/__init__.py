"""REST: what a client may do without a connection (Ably protocol, "REST"). One file for each kind of thing.

`routes` gathers them. Every route but `/time` needs a credential, and the capability for what it does.
"""

from collections.abc import Sequence

from fanout.transports.http import Request, Response
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
    return [*offered, *(("OPTIONS", path, _preflight) for path in paths)]


async def _preflight(request: Request) -> Response:
    return preflight(request)
