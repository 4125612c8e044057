"""What a node accepts, for tests that make a part of one: keys as they are configured, and tokens under `SECRET`."""

import base64
import hmac
from typing import Any

import jwt
import msgspec

from fanout.auth.keys import Key, Keys
from fanout.auth.known import KnownCredentials
from fanout.auth.revoked import Revoked
from fanout.auth.tokens import Tokens

__all__ = ["SECRET", "accepting", "made_jwt", "signed_jwt"]

SECRET = b"a secret of all nodes"


def accepting(*keys: str, revoked: Revoked | None = None) -> KnownCredentials:
    """What a node with these keys accepts, less what is revoked."""
    return KnownCredentials(Keys(map(Key.parse, keys)), Tokens(SECRET), Revoked() if revoked is None else revoked)


def made_jwt(key: str, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """A JWT by RFC 7519 and 7515, made here so that no library of ours decides what it looks like.

    `key` is `name:secret`. Claims are written with underscores for hyphens.
    """
    name, _, secret = key.partition(":")
    parts = [
        {"alg": "HS256", "typ": "JWT", "kid": name} | (header or {}),
        {claim.replace("_", "-"): value for claim, value in claims.items()},
    ]
    signed = b".".join(_base64url(msgspec.json.encode(part)) for part in parts)
    return (signed + b"." + _base64url(hmac.digest(secret.encode(), signed, "sha256"))).decode()


def _base64url(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


def signed_jwt(claims: dict[str, Any], key: Any, alg: str, kid: str) -> str:
    """A JWT of an identity provider, by its private key."""
    present = {name: value for name, value in claims.items() if value is not None}
    return jwt.encode(present, key, algorithm=alg, headers={"kid": kid})
