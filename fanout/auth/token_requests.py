"""Token requests: a key's owner, or who was given a signed request, asks for a token (Ably protocol, "Credentials").

A signed request carries `mac`, the base64 of the HMAC-SHA256 under the key's secret over six lines: keyName, ttl,
capability, clientId, timestamp and nonce, as they were sent, what is absent being empty. It needs no other credential.
Unsigned requests come with the key itself, which the caller has checked. What is wrong with a request:

=====  ==========================================================================================
40400  there is no such key
40101  the mac is wrong
40104  the timestamp is more than two minutes off
40105  this nonce was used already, on this node
40003  ttl is not a whole number of ms, or too long: 24 h, 1 h for a key whose tokens can be revoked
40012  the client id cannot be one
40000  the capability is none, or too large
40160  the key allows nothing of what the capability asks for
=====  ==========================================================================================

No I/O; belongs to the event loop.
"""

import base64
import hmac
import re
from collections import OrderedDict
from typing import Any, Final

import msgspec

from fanout.auth.capabilities import canonical, parse_capability
from fanout.auth.intersection import intersect
from fanout.auth.keys import Key, Keys, check_client_id
from fanout.auth.tokens import Token, Tokens
from fanout.errors import ClientError, error

__all__ = ["HOUR_MS", "TokenRequest", "TokenRequests"]

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

SKEW_MS: Final = 120_000
"""How far a request's clock may be off, and so how long a nonce must be remembered."""

NONCES_MAX: Final = 100_000
"""Nonces remembered, at about 200 bytes each: requests in two minutes. Past that 42910: one that was forgotten could
be used again."""

NONCE_CHARS: Final = 256


class TokenRequest(msgspec.Struct, rename="camel", frozen=True):
    """A token request as it came, with the values' own types: the mac is over what was sent."""

    key_name: str
    ttl: int | str | None = None
    capability: str | None = None
    client_id: str | None = None
    timestamp: int | str | None = None
    nonce: str | None = None
    mac: str | None = None


class TokenRequests:
    """Makes tokens, of the keys in `keys`."""

    def __init__(self, keys: Keys, tokens: Tokens) -> None:
        self._keys = keys
        self._tokens = tokens
        self._used: OrderedDict[tuple[str, str, int], int] = OrderedDict()  # key, nonce, time: when received

    def find(self, name: str) -> Key:
        """The key that a request names. Raises ClientError 40400."""
        key = self._keys.find(name)
        if key is None:
            raise ClientError(error(40400, "no such key"))
        return key

    def issue(self, key: Key, request: TokenRequest, now_ms: int) -> dict[str, Any]:
        """The token's details, as the client is told. Raises ClientError, see the module."""
        if request.mac is not None:
            self._check_signature(key, request, now_ms)
        lifetime = _lifetime(request.ttl, HOUR_MS if key.revocable_tokens else DAY_MS)
        client_id = request.client_id
        if client_id is not None and client_id != "*":
            check_client_id(client_id)
        granted = _granted(key, request.capability)
        token = Token(key.name, client_id, granted, now_ms, now_ms + lifetime)
        try:
            text = self._tokens.sign(token)
        except ValueError as reason:
            raise ClientError(error(40000, str(reason))) from None
        details = {
            "token": text,
            "keyName": key.name,
            "issued": token.issued,
            "expires": token.expires,
            "capability": granted or key.capability_text,
        }
        return details if client_id is None else details | {"clientId": client_id}

    def _check_signature(self, key: Key, request: TokenRequest, now_ms: int) -> None:
        fields = (key.name, request.ttl, request.capability, request.client_id, request.timestamp, request.nonce)
        text = "".join("\n" if field is None else f"{field}\n" for field in fields)
        mac = base64.b64encode(hmac.digest(key.secret.encode(), text.encode("utf-8", "surrogatepass"), "sha256"))
        if not hmac.compare_digest(mac, (request.mac or "").encode("utf-8", "surrogatepass")):
            raise ClientError(error(40101, "the token request's mac is wrong"))
        timestamp = _number(request.timestamp)
        if timestamp is None or abs(now_ms - timestamp) > SKEW_MS:
            raise ClientError(error(40104))
        if request.nonce is None or not 1 <= len(request.nonce) <= NONCE_CHARS:
            raise ClientError(error(40105, f"it has from 1 to {NONCE_CHARS} characters"))
        self._use((key.name, request.nonce, timestamp), now_ms)

    def _use(self, pair: tuple[str, str, int], now_ms: int) -> None:
        """Notes a nonce. A request is good from two minutes before its time to two minutes after it."""
        while self._used and next(iter(self._used.values())) < now_ms - 2 * SKEW_MS:
            self._used.popitem(last=False)
        if pair in self._used:
            raise ClientError(error(40105, "used already"))
        if len(self._used) >= NONCES_MAX:
            raise ClientError(error(42910, "too many tokens in two minutes"))
        self._used[pair] = now_ms


def _lifetime(ttl: int | str | None, longest_ms: int) -> int:
    """How long a token is good, in ms: an hour unless it is said."""
    if ttl is None or ttl == "":
        return HOUR_MS
    number = _number(ttl)
    if number is None or not 0 < number <= longest_ms:
        raise ClientError(error(40003, f"ttl is a whole number of ms, up to {longest_ms}"))
    return number


def _number(value: int | str | None) -> int | None:
    """A number as sent. Some requests have passed through a query, which has no numbers but text."""
    if isinstance(value, str):
        return int(value) if re.fullmatch(r"[0-9]{1,16}", value) else None
    return value


def _granted(key: Key, capability: str | None) -> str | None:
    """The canonical text of what the token may do; None for whatever the key may do."""
    if not capability:
        return None
    try:
        granted = intersect(key.capability, parse_capability(capability))
    except ValueError as reason:
        raise ClientError(error(40000, str(reason))) from None
    if not granted:
        raise ClientError(error(40160, "the key allows nothing of this capability"))
    return canonical(granted)
