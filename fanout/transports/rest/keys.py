"""What an API key's owner may ask for: tokens, and that tokens count no more (Ably protocol, "REST").

`POST /keys/{key}/requestToken` needs no other credential when the request is signed, else the key itself, as
`POST /keys/{key}/revokeTokens` does.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol

import msgspec

from fanout.auth.keys import Key
from fanout.auth.token_requests import TokenRequest, TokenRequests
from fanout.errors import ClientError, error
from fanout.transports.http import Request, Response
from fanout.transports.replies import reply
from fanout.transports.rest.common import Api, batch_result, decoded_body
from fanout.transports.router import Route
from fanout.wire import JSON, MSGPACK

__all__ = ["TARGETS_MAX", "Revoker", "keys"]

TARGETS_MAX: Final = 100
"""Targets of one request; the protocol's number."""


class _Revocation(msgspec.Struct, rename="camel", frozen=True):
    targets: list[str]
    issued_before: int | None = None
    allow_reauth_margin: bool = False


class Revoker(Protocol):
    """Takes tokens back; `fanout.revocations.Revocations` answers this."""

    async def revoke(
        self, key: Key, targets: Sequence[str], issued_before: int | None, *, margin: bool
    ) -> list[dict[str, Any]]:
        """What became of each target. Raises ClientError."""
        ...


_REVOCATION: Final[Mapping[int, Any]] = {
    JSON: msgspec.json.Decoder(_Revocation),
    MSGPACK: msgspec.msgpack.Decoder(_Revocation),
}
_REQUEST: Final[Mapping[int, Any]] = {
    JSON: msgspec.json.Decoder(TokenRequest),
    MSGPACK: msgspec.msgpack.Decoder(TokenRequest),
}


def keys(api: Api, requests: TokenRequests, revoker: Revoker) -> Sequence[Route]:
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

    async def revoke_tokens(request: Request) -> Response:
        """Takes tokens of the key back, on every node."""
        key = requests.find(request.variables["key"])
        _check_owner(api, request, key)
        if not key.revocable_tokens:
            raise ClientError(error(40163))
        wanted: _Revocation = decoded_body(request, _REVOCATION)
        if not 1 <= len(wanted.targets) <= TARGETS_MAX:
            raise ClientError(error(40003, f"a request names from 1 to {TARGETS_MAX} targets"))
        margin = wanted.allow_reauth_margin
        results = await revoker.revoke(key, wanted.targets, wanted.issued_before, margin=margin)
        return reply(request, batch_result(results), 201)

    return [
        ("POST", "/keys/{key}/requestToken", request_token),
        ("POST", "/keys/{key}/revokeTokens", revoke_tokens),
    ]


def _check_owner(api: Api, request: Request, key: Key) -> None:
    """Raises ClientError unless the request shows the key itself: 40162 for a token, 40102 for another key."""
    identity = api.identified(request)
    if identity.issued is not None:
        raise ClientError(error(40162, "a token is no key"))
    if identity.key_name != key.name:
        raise ClientError(error(40102, "the request shows another key"))
