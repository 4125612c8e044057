"""API keys: `appId.keyId:secret`, optionally followed by `=` and a capability in JSON (Ably protocol, "Credentials").

What is wrong with a configured key is a `ConfigError`, told to the operator. What is wrong with a presented one is
40101 and says no more than that: whether the key exists is nobody's business. Secrets are compared in constant time,
and kept as digests of equal length so that the comparison has nothing to leak. Pure; any thread.
"""

import base64
import binascii
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from hmac import compare_digest
from typing import Final

from fanout.auth.capabilities import EVERYTHING, parse_capability
from fanout.errors import ClientError, ConfigError, error
from fanout.types import Identity

__all__ = ["CLIENT_ID_BYTES", "Key", "Keys", "basic_credentials", "check_client_id", "generate_key"]

CLIENT_ID_BYTES: Final = 256
"""The longest client id: it travels in every message of that client."""

_KEY = re.compile(
    r"(?P<name>[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}):(?P<secret>[^\s:=]{1,256})(?:=(?P<rights>.+))?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Key:
    """A configured key. `digest` is the secret's SHA-256; the secret itself is not kept."""

    name: str
    digest: bytes
    capability: dict[str, frozenset[str]]

    @classmethod
    def parse(cls, text: str) -> "Key":
        """Reads `appId.keyId:secret[=capability]`. Raises ConfigError, without showing the secret."""
        found = _KEY.fullmatch(text.strip())
        if found is None:
            raise ConfigError(
                "a key reads appId.keyId:secret, optionally followed by a capability: "
                'app.reader:SECRET={"*":["subscribe"]}; ids are letters, digits, - and _; '
                "the secret has no space, colon or equals sign"
            )
        try:
            capability = parse_capability(found["rights"]) if found["rights"] else dict(EVERYTHING)
        except ValueError as reason:
            raise ConfigError(f"the capability of key {found['name']}: {reason}") from None
        return cls(found["name"], _digest(found["secret"]), capability)


class Keys:
    """The table of keys that a node accepts."""

    def __init__(self, keys: Iterable[Key]) -> None:
        """Raises ConfigError if two keys share a name."""
        self._keys: dict[str, Key] = {}
        for key in keys:
            if key.name in self._keys:
                raise ConfigError(f"key {key.name} is configured twice")
            self._keys[key.name] = key
        self._anybody = {key.name: Identity(key.name, "*", key.capability) for key in self._keys.values()}

    def authenticate(self, key: str, client_id: str | None = None) -> Identity:
        """The identity of whoever presents `key`, as `client_id` if that is given and as anybody (`*`) if not.

        Raises ClientError: 40101 for a key that is not in the table, 40012 for a client id that cannot be one.
        """
        name, _, secret = key.partition(":")
        known = self._keys.get(name)
        # An unknown name costs a comparison too, so that the time taken does not tell which names exist.
        matches = compare_digest(_digest(secret), known.digest if known else _digest(""))
        if known is None or not matches:
            raise ClientError(error(40101, "no such key"))
        if client_id is None or client_id == "*":
            return self._anybody[known.name]
        return Identity(known.name, check_client_id(client_id), known.capability)


def check_client_id(client_id: object) -> str:
    """`client_id`, if it names one client. Raises ClientError 40012 for empty, `*`, too long, or not text."""
    if not isinstance(client_id, str) or client_id in ("", "*"):
        raise ClientError(error(40012, "it is a non-empty string other than '*'"))
    if len(client_id.encode()) > CLIENT_ID_BYTES:
        raise ClientError(error(40012, f"longer than {CLIENT_ID_BYTES} bytes"))
    return client_id


def basic_credentials(authorization: str) -> str:
    """The key text in an `Authorization` header. Raises ClientError 40101 for any other scheme and what is broken."""
    scheme, _, credentials = authorization.strip().partition(" ")
    if scheme.lower() != "basic":
        raise ClientError(error(40101, "only keys are accepted: Authorization: Basic, or the query parameter key"))
    try:
        return base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        raise ClientError(error(40101, "the Authorization header does not hold the base64 of a key")) from None


def generate_key(app: str = "fanout") -> str:
    """A new key text with 256 random bits in its secret and every right."""
    return f"{app}.{secrets.token_hex(4)}:{secrets.token_urlsafe(32)}"


def _digest(secret: str) -> bytes:
    # A plain hash is enough: secrets are random, not passwords that a dictionary holds.
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
