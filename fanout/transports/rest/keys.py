"""What an API key's owner may ask for: tokens (Ably protocol, "REST").

`POST /keys/{key}/requestToken` needs no other credential when the request is signed, else the key itself.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from fanout.auth.keys import Key
from fanout.auth.token_requests import TokenRequest, TokenRequests
from fanout.errors import ClientError, error
from fanout.transports.http import Request, Response
from fanout.transports.replies import reply
from fanout.transports.rest.common import Api, decoded_body
from fanout.transports.router import Route
from fanout.wire import JSON, MSGPACK

__all__ = ["keys"]

_REQUEST: Final[Mapping[int, Any]] = {
    JSON: msgspec.json.Decoder(TokenRequest),
    MSGPACK: msgspec.msgpack.Decoder(TokenRequest),
}


def keys(api: Api, requests: TokenRequests) -> Sequence[Route]:
    """The routes: method, path, handler."""

    async def request_token(request: Request) -> Response:
        """A token of the key."""
        key = requests.find(request.variables["key"])
        wanted: TokenRequest = decoded_body(request, _REQUEST)
        if wanted.key_name != key.name:
            raise ClientError(error(40102, "path and body name different keys"))
        if wanted.mac is None:
            _check_owner(api, request, key)
        return reply(request, requests.issue(key, wanted, api.clock()), 201)

    return [("POST", "/keys/{key}/requestToken", request_token)]


def _check_owner(api: Api, request: Request, key: Key) -> None:
    """Raises ClientError unless the request shows the key itself: 40162 for a token, 40102 for another key."""
    identity = api.identified(request)
    if identity.issued is not None:
        raise ClientError(error(40162, "a token cannot make tokens"))
    if identity.key_name != key.name:
        raise ClientError(error(40102, "the request shows another key"))
