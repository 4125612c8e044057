"""API keys: `appId.keyId:secret`, optionally followed by `=` and a capability in JSON (Ably protocol, "Credentials").

What is wrong with a configured key is a `ConfigError`, told to the operator. What is wrong with a presented one is
40101 and says no more than that: whether the key exists is nobody's business. Secrets are compared in constant time,
as digests of equal length so that the comparison has nothing to leak. No I/O; belongs to the event loop.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import sha256
from hmac import compare_digest
from typing import Final, NamedTuple

from fanout.auth.capabilities import EVERYTHING, canonical, parse_capability
from fanout.errors import ClientError, ConfigError, error
from fanout.types import Identity

__all__ = ["CLIENT_ID_BYTES", "Key", "Keys", "app_of", "check_client_id", "generate_key"]

CLIENT_ID_BYTES: Final = 256
"""The longest client id: it travels in every message of that client."""

_KEY = re.compile(
    r"(?P<name>[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}):(?P<secret>[^\s:=]{1,256})(?:=(?P<rights>.+))?", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Key:
    """A key that is accepted here. `secret` also signs: token requests and JWTs are checked with it."""

    name: str
    secret: str = field(repr=False)
    capability: dict[str, frozenset[str]] = field(default_factory=lambda: dict(EVERYTHING))
    revocable_tokens: bool = False
    """Whether tokens made with this key can be revoked. Such tokens live for an hour at most."""
    capability_text: str = field(init=False)
    """The capability, as everybody is told it."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "capability_text", canonical(self.capability))

    @property
    def app(self) -> str:
        """The part of the name before the dot."""
        return app_of(self.name)

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
        return cls(found["name"], found["secret"], capability)


class _Entry(NamedTuple):
    """What the table keeps of a key: `anybody` is shared by all who present it without a client id."""

    key: Key
    digest: bytes
    anybody: Identity


class Keys:
    """The table of keys that a node accepts. It may change while the node runs."""

    def __init__(self, keys: Iterable[Key] = ()) -> None:
        """Raises ConfigError if two keys share a name."""
        self._entries: dict[str, _Entry] = {}
        for key in keys:
            self.add(key)

    def add(self, key: Key) -> None:
        """Accepts `key` from now on. Raises ConfigError if there is one of that name."""
        if key.name in self._entries:
            raise ConfigError(f"key {key.name} is configured twice")
        self._entries[key.name] = _Entry(key, _digest(key.secret), Identity(key.name, "*", key.capability))

    def remove(self, name: str) -> None:
        """Accepts the key no more, nor what it signed; nothing happens if there is none.

        Who is connected stays so until its identity is looked at again.
        """
        self._entries.pop(name, None)

    def find(self, name: str) -> Key | None:
        """The key of that name."""
        entry = self._entries.get(name)
        return entry and entry.key

    def has_app(self, app: str) -> bool:
        """Whether any key belongs to `app`."""
        return any(entry.key.app == app for entry in self._entries.values())

    def authenticate(self, key: str, client_id: str | None = None) -> Identity:
        """The identity of whoever presents `key`, as `client_id` if that is given and as anybody (`*`) if not.

        Raises ClientError: 40101 for a key that is not in the table, 40012 for a client id that cannot be one.
        """
        name, _, secret = key.partition(":")
        known = self._entries.get(name)
        # An unknown name costs a comparison too, so that the time taken does not tell which names exist.
        matches = compare_digest(_digest(secret), known.digest if known else _digest(""))
        if known is None or not matches:
            raise ClientError(error(40101, "no such key"))
        if client_id is None or client_id == "*":
            return known.anybody
        return Identity(known.key.name, check_client_id(client_id), known.key.capability)


def app_of(key_name: str) -> str:
    """The application that a key belongs to: the part of its name before the dot."""
    return key_name.partition(".")[0]


def check_client_id(client_id: object) -> str:
    """`client_id`, if it names one client. Raises ClientError 40012 for empty, `*`, too long, or not text."""
    if not isinstance(client_id, str) or client_id in ("", "*"):
        raise ClientError(error(40012, "it is a non-empty string other than '*'"))
    if len(client_id.encode()) > CLIENT_ID_BYTES:
        raise ClientError(error(40012, f"longer than {CLIENT_ID_BYTES} bytes"))
    return client_id


def generate_key(app: str = "fanout") -> str:
    """A new key text with 256 random bits in its secret and every right."""
    return f"{app}.{secrets.token_hex(4)}:{secrets.token_urlsafe(32)}"


def _digest(secret: str) -> bytes:
    # A plain hash is enough: secrets are random, not passwords that a dictionary holds.
    return sha256(secret.encode("utf-8", "surrogatepass")).digest()
