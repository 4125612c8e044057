"""JWTs: tokens that others than this node make and sign (RFC 7519; Ably protocol, "Credentials").

The claims that count are `iat` and `exp`, in seconds, and if wanted `nbf`, `x-ably-capability` (JSON text),
`x-ably-clientId` and `x-ably-revocation-key`. Others are ignored.

One that holds `x-ably-token`, in its header or its claims, only wraps that token, which speaks for itself: who made
the wrapping, and whether it is encrypted, is of no interest.

The algorithm is never the JWT's to choose: it has to be the one that the key is for. Signatures are PyJWT's business.
Pure; any thread. Importing PyJWT takes 50 ms, so nothing that a program imports by itself imports this module.
"""

import base64
import binascii
from typing import Annotated, Final, TypeVar

import msgspec
from jwt import PyJWK, PyJWTError
from jwt.algorithms import HMACAlgorithm
from jwt.api_jws import PyJWS

from fanout.errors import ClientError, error

__all__ = ["SHARED_SECRET", "SKEW_S", "Claims", "Header", "read_header", "verify", "wrapped_token"]

SHARED_SECRET: Final = "HS256"
"""The algorithm of JWTs that are signed with a key's secret."""

SKEW_S: Final = 60
"""How far the clock of whoever made a JWT may be ahead."""


T = TypeVar("T")
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]


class Header(msgspec.Struct, frozen=True):
    """What a JWT's header says, unchecked, as far as it counts here."""

    alg: str
    kid: str


class Claims(msgspec.Struct, frozen=True):
    """What a JWT says. Times are in s."""

    iat: Seconds
    exp: Seconds
    nbf: Seconds = 0
    capability: str | None = msgspec.field(default=None, name="x-ably-capability")
    client_id: str | None = msgspec.field(default=None, name="x-ably-clientId")
    revocation_key: str | None = msgspec.field(default=None, name="x-ably-revocation-key")


class _Wrapping(msgspec.Struct, frozen=True):
    token: str | None = msgspec.field(default=None, name="x-ably-token")


class _AnySecret(HMACAlgorithm):
    """HS256 with secrets of any length: how long they are is whoever made the keys to decide."""

    def check_key_length(self, key: bytes) -> None:
        """Finds nothing wrong."""


_signatures = PyJWS()
_signatures.unregister_algorithm(SHARED_SECRET)
_signatures.register_algorithm(SHARED_SECRET, _AnySecret(HMACAlgorithm.SHA256))


def wrapped_token(text: str) -> str | None:
    """The token that a JWT or an encrypted one (RFC 7516) wraps, if any."""
    parts = text.split(".")
    if len(parts) not in (3, 5):
        raise _malformed("it has three parts")
    header = _read(parts[0], _Wrapping)
    if header.token is not None or len(parts) == 5:
        return header.token
    return _read(parts[1], _Wrapping).token


def read_header(text: str) -> Header:
    """What the header says. Raises ClientError 40144."""
    return _read(text.partition(".")[0], Header)


def verify(text: str, key: str | PyJWK, now_ms: int) -> Claims:
    """What a JWT says, if `key` signed it: a secret for HS256, or a public key that knows its algorithm.

    Raises ClientError: 40142 for one that is over, 40144 for anything else that is wrong.
    """
    try:
        if isinstance(key, PyJWK):
            payload = _signatures.decode(text, key, algorithms=[key.algorithm_name])
        else:
            payload = _signatures.decode(text, key, algorithms=[SHARED_SECRET])
    except (PyJWTError, ValueError, TypeError, RecursionError) as reason:  # the library lets some through
        raise _malformed(str(reason)) from None
    claims = _decode(payload, Claims)
    if now_ms >= claims.exp * 1_000:
        raise ClientError(error(40142))
    if max(claims.nbf, claims.iat) > now_ms / 1_000 + SKEW_S:
        raise _malformed("its time has not come")
    return claims


def _read(part: str, kind: type[T]) -> T:
    try:
        data = base64.b64decode(part + "=" * (-len(part) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("it is not base64url") from None
    return _decode(data, kind)


def _decode(data: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(data, type=kind)
    except RecursionError:
        raise _malformed("it is nested too deeply") from None
    except ValueError as reason:  # msgspec's own errors and broken UTF-8
        raise _malformed(str(reason)) from None


def _malformed(reason: str) -> ClientError:
    return ClientError(error(40144, reason))
