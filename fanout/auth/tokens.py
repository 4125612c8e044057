"""Tokens: what a key's owner hands to a client in the key's place, for a while (Ably protocol, "Credentials").

A token says by itself whose it is and what it allows, so that any node can check it and none has to remember it. It
reads `appId.` and, in base64url::

    MessagePack array [key name, client id, capability, issued ms, expires ms, random]  ‖  keyed BLAKE2b, 16 bytes

Its key is derived from the secret that all nodes of one log share. Pure; any thread.
"""

import base64
import binascii
import hmac
import os
from hashlib import blake2b
from typing import Final

import msgspec

from fanout.auth.keys import app_of
from fanout.errors import ClientError, error

__all__ = ["TOKEN_CHARS", "Token", "Tokens"]

TOKEN_CHARS: Final = 8_192
"""The longest credential that is looked at, token or JWT. It travels in a URL, whose length is bounded as well."""

_MAC_BYTES = 16


class Token(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What a token says. `capability` is canonical JSON; None: whatever its key may do. Times are in ms."""

    key_name: str
    client_id: str | None
    capability: str | None
    issued: int
    expires: int
    random: bytes = b""
    """Tells two tokens apart that say the same."""


class Tokens:
    """Prints and reads tokens under one node secret."""

    def __init__(self, secret: bytes) -> None:
        """`secret` is the same on every node of one log."""
        self._key = blake2b(secret, person=b"fanout-token").digest()
        self._decoder = msgspec.msgpack.Decoder(Token)

    def sign(self, token: Token) -> str:
        """The text to hand to the client, another one at each call. ValueError if it would be too long to be read."""
        body = msgspec.msgpack.encode(msgspec.structs.replace(token, random=os.urandom(6)))
        signed = base64.urlsafe_b64encode(body + self._mac(body)).rstrip(b"=").decode()
        text = f"{app_of(token.key_name)}.{signed}"
        if len(text) > TOKEN_CHARS:
            raise ValueError(f"a token of {len(text)} characters, {TOKEN_CHARS} is the limit")
        return text

    def read(self, text: str) -> Token:
        """What a presented text says. Raises ClientError 40101 unless a node with this secret printed it."""
        app, _, signed = text.partition(".")
        try:
            data = base64.b64decode(signed + "=" * (-len(signed) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ClientError(error(40101, "no such token")) from None
        body, mac = data[:-_MAC_BYTES], data[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise ClientError(error(40101, "no such token"))
        try:
            token = self._decoder.decode(body)
        except msgspec.DecodeError:  # printed by a release that writes them in another way
            raise ClientError(error(40101, "no such token")) from None
        if app != app_of(token.key_name):
            raise ClientError(error(40101, "no such token"))
        return token

    def _mac(self, body: bytes) -> bytes:
        return blake2b(body, key=self._key, digest_size=_MAC_BYTES).digest()
