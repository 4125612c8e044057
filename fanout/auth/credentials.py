"""How credentials are written into a request, and who may ask to be whom (Ably protocol, "Credentials").

A request shows one credential, a key or a token, wherever a client can write it:

=============================  ========================================
``?key=``                      the key
``?access_token=``             the token; some SDKs write ``accessToken``
``Authorization: Basic``       base64 of the key
``Authorization: Bearer``      a token or JWT as it is, or base64 of it
=============================  ========================================

Pure; any thread.
"""

import asyncio
import base64
import binascii
from collections.abc import Mapping

import msgspec

from fanout.auth.keys import check_client_id
from fanout.errors import ClientError, error

__all__ = ["KeysAwaited", "Presented", "agreed_client_id"]


class Presented(msgspec.Struct, frozen=True, gc=False):
    """What a client shows, unchecked: a key or, if `is_token`, a token of whatever kind; and who it says it is."""

    text: str
    is_token: bool
    client_id: str | None

    @classmethod
    def read(cls, query: Mapping[str, str], authorization: str | None, client_id: str | None) -> "Presented":
        """Takes the credential from a query or an `Authorization` header. Raises ClientError 40101 if there is none."""
        key = query.get("key")
        if key is not None:
            return cls(key, is_token=False, client_id=client_id)
        token = query.get("access_token") or query.get("accessToken")
        if token is not None:
            return cls(token, is_token=True, client_id=client_id)
        if authorization is not None:
            return cls(*_authorization(authorization), client_id)
        raise ClientError(error(40101, "there are none; give a key or a token"))


class KeysAwaited(Exception):
    """Whose credential this is can be said once the keys are there: ask again when `done` is."""

    def __init__(self, done: "asyncio.Future[None]") -> None:
        super().__init__("the keys are being fetched")
        self.done = done


def _authorization(header: str) -> tuple[str, bool]:
    scheme, _, text = header.strip().partition(" ")
    text = text.strip()
    if scheme.lower() == "bearer":
        return (text if "." in text else _base64(text)), True  # no base64 has a dot
    if scheme.lower() == "basic":
        return _base64(text), False
    raise ClientError(error(40101, "the Authorization header is Basic or Bearer"))


def _base64(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        raise ClientError(error(40101, "the Authorization header does not hold base64")) from None


def agreed_client_id(token_client_id: str | None, asked: str | None) -> str | None:
    """Who somebody is that shows a token and, perhaps, asks for a client id (Ably protocol, "Identity rules").

    Raises ClientError: 40102 where the two do not agree, 40012 for a client id that cannot be one.
    """
    if asked is None or asked == token_client_id:
        return token_client_id
    if token_client_id == "*":
        return check_client_id(asked)
    if token_client_id is None:
        raise ClientError(error(40102, "a client id is asked for, and the token has none"))
    raise ClientError(error(40102, "the token is for another client id"))
