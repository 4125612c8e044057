"""Public keys of identity providers, by which JWTs that they signed are checked (RFC 7517): our extension.

Each URL is one document of keys, found by `kid`. It is fetched at the start and, when it has grown old, again; and when
a JWT names a key that is not known. All who wait for a fetch wait for the same one, and there is none sooner than
`PAUSE_S` after the last: whoever invents names costs nothing, and a key that was just published is known within that
time. A key that is gone from its document is good no more. While a document cannot be had, the keys of the last one
stay good for a day.

Which algorithm a key is for is its own to say: never a shared secret's, never none. Belongs to the event loop.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import msgspec
from jwt import PyJWK, PyJWTError

from fanout.auth.credentials import KeysAwaited
from fanout.config import masked_url
from fanout.errors import ClientError, error

__all__ = ["DOCUMENT_BYTES", "KEYS_MAX", "OLDEST_S", "OLD_S", "PAUSE_S", "KeySets", "read_keys"]

log = logging.getLogger(__name__)

DOCUMENT_BYTES: Final = 262_144
"""The longest document; providers have a few KiB."""

KEYS_MAX: Final = 100
"""Keys taken from one document, the first ones."""

OLD_S: Final = 600.0
OLDEST_S: Final = 86_400.0
PAUSE_S: Final = 10.0

_ALGORITHMS: Final = frozenset(
    ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
)
_RSA_BITS: Final = 2_048  # RFC 7518 §3.3
_KID_CHARS: Final = 256


class _Set:
    """One document."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.keys: dict[str, PyJWK] = {}
        self.fetched_at = float("-inf")
        self.tried_at = float("-inf")

    @property
    def failing(self) -> bool:
        return self.fetched_at < self.tried_at


class KeySets:
    """The keys of all documents."""

    def __init__(
        self,
        urls: Sequence[str],
        fetch: Callable[[str], Awaitable[bytes]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` gets a document or raises OSError or ValueError, in bounded time; `clock` reads seconds."""
        self._sets = [_Set(url) for url in urls]
        self._fetch = fetch
        self._clock = clock
        self._loading: asyncio.Task[None] | None = None

    def find(self, kid: str) -> PyJWK:
        """The key of that name.

        Raises KeysAwaited while that is being found out; ClientError 40144 if there is none, and 50000 if that cannot
        be said because a document cannot be had: a client that asks later may be served.
        """
        now = self._clock()
        if any(now - each.fetched_at > OLD_S for each in self._sets):
            self.refresh()
        for each in self._sets:
            if kid in each.keys and now - each.fetched_at <= OLDEST_S:
                return each.keys[kid]
        self.refresh()
        if self._loading is not None:
            raise KeysAwaited(self._loading)
        if any(each.failing for each in self._sets):
            raise ClientError(error(50000, "the keys of JWTs cannot be fetched now"))
        raise ClientError(error(40144, "no such key"))

    def refresh(self) -> None:
        """Fetches the documents again, unless that has just been done."""
        now = self._clock()
        due = [each for each in self._sets if now - each.tried_at > PAUSE_S]
        if due and self._loading is None:
            self._loading = asyncio.get_running_loop().create_task(self._load(due))
            self._loading.add_done_callback(self._loaded)

    async def _load(self, due: Sequence[_Set]) -> None:
        await asyncio.gather(*map(self._load_one, due))

    def _loaded(self, _: object) -> None:
        self._loading = None

    async def _load_one(self, each: _Set) -> None:
        try:
            keys = read_keys(await self._fetch(each.url))
        except (OSError, ValueError) as problem:
            log.warning("the keys at %s cannot be had: %s", masked_url(each.url), problem)
            each.tried_at = self._clock()
            return
        each.keys = keys
        each.tried_at = each.fetched_at = self._clock()


def read_keys(document: bytes) -> dict[str, PyJWK]:
    """The keys of a document that can check JWTs, by name. Raises ValueError for what is no such document."""
    if len(document) > DOCUMENT_BYTES:
        raise ValueError(f"a document of more than {DOCUMENT_BYTES} bytes")
    try:
        entries = msgspec.json.decode(document, type=_Document).keys
    except RecursionError:
        raise ValueError("a document that is nested too deeply") from None
    keys = {}
    for entry in entries[:KEYS_MAX]:
        key = _key(entry)
        if key is not None:
            keys[entry["kid"]] = key
    return keys


class _Document(msgspec.Struct):
    keys: list[dict[str, Any]]


def _key(entry: dict[str, Any]) -> PyJWK | None:
    """The key that an entry describes; None for one that is not for checking JWTs, or not good enough."""
    kid = entry.get("kid")
    if not isinstance(kid, str) or len(kid) > _KID_CHARS or entry.get("use", "sig") != "sig":
        return None
    if "alg" in entry and entry["alg"] not in _ALGORITHMS:
        return None
    try:
        key = PyJWK(entry)
    except (PyJWTError, ValueError, TypeError, AttributeError, KeyError):  # the library lets some through
        return None
    too_short = key.key_type == "RSA" and key.key.key_size < _RSA_BITS
    return None if key.algorithm_name not in _ALGORITHMS or too_short else key
