"""Who presents a credential: an API key, one of our tokens, or a JWT (Ably protocol, "Credentials").

=====  ==================================================================
40101  no such key or token
40102  the client id that is asked for is not the token's
40130  the token's key is not known any more
40141  the token was revoked
40142  it has expired
40144  the JWT is malformed, or its signature wrong
40160  it allows nothing
40400  the JWT's key belongs to no application known here
=====  ==================================================================

A JWT that is dated ahead of this node's clock counts as made when it was first shown here. Of a key whose tokens can be
revoked that moment is remembered: shown again, it is no younger, and a revocation in between counts for it.

No I/O; belongs to the event loop.
"""

import hashlib
from functools import lru_cache
from typing import Final

from fanout.auth import json_web_tokens as jwt
from fanout.auth.capabilities import EVERYTHING, canonical, parse_capability
from fanout.auth.credentials import Presented, agreed_client_id
from fanout.auth.intersection import intersect
from fanout.auth.key_sets import KeySets
from fanout.auth.keys import Key, Keys, app_of, check_client_id
from fanout.auth.revoked import Revoked
from fanout.auth.token_requests import HOUR_MS
from fanout.auth.tokens import TOKEN_CHARS, Tokens
from fanout.errors import ClientError, error
from fanout.types import Identity

__all__ = ["KnownCredentials"]

CAPABILITIES_KEPT: Final = 512
"""Capabilities of tokens kept to be shared, those asked for last. With the longest tokens, some 30 MiB."""

AHEAD_MAX: Final = 20_000
"""JWTs dated ahead that are remembered, at some 200 bytes each. Past it the one that was shown first is forgotten."""

_EVERYTHING: Final = canonical(EVERYTHING)


class KnownCredentials:
    """What a node accepts. Its keys may change while it runs."""

    def __init__(self, keys: Keys, tokens: Tokens, revoked: Revoked, key_sets: KeySets | None = None) -> None:
        """`key_sets` holds the public keys of JWTs that identity providers sign, if there are any."""
        self._keys = keys
        self._key_sets = key_sets
        self._tokens = tokens
        self._revoked = revoked
        self._ahead: dict[bytes, int] = {}  # JWTs dated ahead, by digest: when they were first shown, in that order

    def identify(self, shown: Presented, now_ms: int) -> Identity:
        """Who that is. Raises ClientError, see the module; 40012 for a client id that cannot be one.

        Raises KeysAwaited if that can only be said after a key has been fetched.
        """
        if not shown.is_token:
            return self._keys.authenticate(shown.text, shown.client_id)
        identity = self._of_token(shown.text, shown.client_id, now_ms)
        fact = self._revoked.find(identity)
        if fact is not None and fact.applies_at <= now_ms:
            raise ClientError(error(40141))
        return identity

    def _of_token(self, text: str, client_id: str | None, now_ms: int) -> Identity:
        if len(text) > TOKEN_CHARS:
            raise ClientError(error(40101, f"a token has at most {TOKEN_CHARS} characters"))
        if text.count(".") < 2:
            return self._of_own(text, client_id, now_ms)
        return self._of_jwt(text, client_id, now_ms)

    def _of_own(self, text: str, client_id: str | None, now_ms: int) -> Identity:
        token = self._tokens.read(text)
        if now_ms >= token.expires:
            raise ClientError(error(40142))
        key = self._keys.find(token.key_name)
        if key is None:
            raise ClientError(error(40130))
        return Identity(
            key.name,
            agreed_client_id(token.client_id, client_id),
            _granted(key.capability_text, token.capability) if token.capability else key.capability,
            expires=token.expires,
            issued=token.issued,
        )

    def _of_jwt(self, text: str, client_id: str | None, now_ms: int) -> Identity:
        wrapped = jwt.wrapped_token(text)
        if wrapped is not None:
            return self._of_own(wrapped, client_id, now_ms)
        header = jwt.read_header(text)
        if header.alg != jwt.SHARED_SECRET:
            return self._of_provider(text, header, client_id, now_ms)
        key = self._of_name(header.kid)
        claims = jwt.verify(text, key.secret, now_ms)
        if key.revocable_tokens and (claims.exp - claims.iat) * 1_000 > HOUR_MS:
            raise ClientError(error(40144, "it is of a key whose tokens can be revoked, and lives longer than an hour"))
        capability = _granted(key.capability_text, claims.capability) if claims.capability else key.capability
        made_by_ms = self._first_shown(text, claims, now_ms) if key.revocable_tokens else now_ms
        return _claimed(key.name, capability, claims, client_id, made_by_ms)

    def _first_shown(self, text: str, claims: jwt.Claims, now_ms: int) -> int:
        """When a JWT that is dated ahead was first shown; now for any other."""
        # Of what was signed: the signature can be spelled in several ways.
        digest = hashlib.sha256(text.rpartition(".")[0].encode()).digest()
        shown_ms = self._ahead.get(digest, now_ms)
        if claims.iat * 1_000 > now_ms and digest not in self._ahead:
            self._ahead[digest] = now_ms
        while self._ahead and self._first_is_over(now_ms):
            del self._ahead[next(iter(self._ahead))]
        return shown_ms

    def _first_is_over(self, now_ms: int) -> bool:
        shown_ms = next(iter(self._ahead.values()))
        return len(self._ahead) > AHEAD_MAX or shown_ms + HOUR_MS + jwt.SKEW_S * 1_000 <= now_ms

    def _of_provider(self, text: str, header: jwt.Header, client_id: str | None, now_ms: int) -> Identity:
        if self._key_sets is None:
            raise ClientError(error(40144, f"alg is {jwt.SHARED_SECRET}"))
        claims = jwt.verify(text, self._key_sets.find(header.kid), now_ms)
        if not claims.capability:  # it may have been made for quite another service
            raise ClientError(error(40144, "it has no x-ably-capability"))
        return _claimed(f"jwks.{header.kid}", _granted(_EVERYTHING, claims.capability), claims, client_id, now_ms)

    def _of_name(self, name: str) -> Key:
        key = self._keys.find(name)
        if key is None:
            raise ClientError(error(40130) if self._keys.has_app(app_of(name)) else error(40400, "no such application"))
        return key


def _claimed(
    key_name: str, capability: dict[str, frozenset[str]], claims: jwt.Claims, client_id: str | None, made_by_ms: int
) -> Identity:
    if claims.client_id not in (None, "*"):
        check_client_id(claims.client_id)
    return Identity(
        key_name,
        agreed_client_id(claims.client_id, client_id),
        capability,
        expires=int(claims.exp * 1_000),
        issued=min(int(claims.iat * 1_000), made_by_ms),
        revocation_key=claims.revocation_key,
    )


@lru_cache(CAPABILITIES_KEPT)
def _granted(key: str, token: str) -> dict[str, frozenset[str]]:
    """What a key and its token both allow, from the JSON text of each. All who show the same pair share one."""
    try:
        granted = intersect(parse_capability(key), parse_capability(token))
    except ValueError as reason:
        raise ClientError(error(40144, f"its capability: {reason}")) from None
    if not granted:
        raise ClientError(error(40160, "the key allows nothing of what the token asks for"))
    return granted
