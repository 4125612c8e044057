"""The node's time, and the state of channels."""

from collections.abc import Sequence

from fanout.auth.realms import bare
from fanout.transports.http import Request, Response
from fanout.transports.replies import reply
from fanout.transports.rest.common import Api
from fanout.transports.router import Route

__all__ = ["channels"]


def channels(api: Api) -> Sequence[Route]:
    """The routes: method, path, handler."""

    async def time(request: Request) -> Response:
        """The node's time."""
        return reply(request, [api.clock()])

    async def status(request: Request) -> Response:
        """Whether a channel is in use on this node, and by how many."""
        channel, _ = api.authorized(request, "channel-metadata")
        count = api.engine.occupancy(channel)
        metrics = {
            "connections": count["subscribers"],
            "publishers": count["subscribers"],  # who of them will publish nobody knows
            "subscribers": count["subscribers"],
            "presenceConnections": 0,
            "presenceMembers": 0,
            "presenceSubscribers": 0,
            "objectPublishers": 0,
            "objectSubscribers": 0,
        }
        active = count["subscribers"] > 0 or count["messages"] > 0
        return reply(
            request, {"channelId": bare(channel), "status": {"isActive": active, "occupancy": {"metrics": metrics}}}
        )

    return [("GET", "/time", time), ("GET", "/channels/{channel}", status)]
