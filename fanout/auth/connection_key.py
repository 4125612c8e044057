"""Connection keys: what a client presents to continue its connection (Ably protocol, "Connection life").

A key says by itself which connection it continues, so that a node which never saw that connection, or was restarted
since, can honour it: no state is shared. Its bytes, printed in base64url::

    MessagePack array [connection id, key name, client id, issued ms, generation]
    ‖  keyed BLAKE2b over that, 16 bytes (RFC 7693)

Its key is derived from the secret that all nodes of one log share. Pure; any thread.
"""

import base64
import binascii
import hmac
import os
import re
from hashlib import blake2b
from typing import Final

import msgspec

from fanout.errors import ClientError, error

__all__ = ["CONNECTION_ID", "ConnectionKey", "ConnectionKeys", "new_connection_id"]

CONNECTION_ID: Final = re.compile(r"[A-Za-z0-9_-]{16}")
"""The form of a connection id. No colon: message ids are `connection id:msgSerial:index`."""

_MAC_BYTES = 16
_URL_SAFE = bytes.maketrans(b"+/", b"-_")


class ConnectionKey(msgspec.Struct, array_like=True, forbid_unknown_fields=True, frozen=True):
    """What a connection key says. `issued` is in ms; `generation` is how often the connection has been continued."""

    connection_id: str
    key_name: str
    client_id: str | None
    issued: int
    generation: int = 0


class ConnectionKeys:
    """Prints and reads connection keys under one node secret."""

    def __init__(self, secret: bytes) -> None:
        """`secret` has at least 16 bytes and is the same on every node of one log; ValueError if shorter."""
        if len(secret) < 16:
            raise ValueError("the node secret has at least 16 bytes")
        self._key = blake2b(secret, person=b"fanout-connect").digest()
        self._decoder = msgspec.msgpack.Decoder(ConnectionKey)

    def sign(self, key: ConnectionKey) -> str:
        """The text to hand to the client."""
        body = msgspec.msgpack.encode(key)
        return _base64url(body + self._mac(body))

    def read(self, text: str) -> ConnectionKey:
        """What a presented text says. Raises ClientError 80018 unless a node with this secret printed it."""
        try:
            token = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise ClientError(error(80018)) from None
        body, mac = token[:-_MAC_BYTES], token[-_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(body)):
            raise ClientError(error(80018))
        try:
            return self._decoder.decode(body)
        except msgspec.DecodeError:  # printed by a release that writes them in another way
            raise ClientError(error(80018)) from None

    def _mac(self, body: bytes) -> bytes:
        return blake2b(body, key=self._key, digest_size=_MAC_BYTES).digest()


def new_connection_id() -> str:
    """A new, unique connection id: 96 random bits."""
    return _base64url(os.urandom(12))


def _base64url(data: bytes) -> str:
    """RFC 4648 §5, without the padding."""
    return binascii.b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=").decode()
