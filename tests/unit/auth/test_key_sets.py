"""Public keys of identity providers: which count, when they are fetched, and what becomes of who waits."""

import asyncio
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt import PyJWK
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from fanout.auth import key_sets
from fanout.auth.credentials import KeysAwaited, Presented
from fanout.auth.key_sets import DOCUMENT_BYTES, KEYS_MAX, OLD_S, OLDEST_S, PAUSE_S, KeySets, read_keys
from fanout.auth.keys import Key, Keys
from fanout.auth.known import KnownCredentials
from fanout.auth.revoked import Revoked
from fanout.auth.tokens import Tokens
from fanout.errors import ClientError
from fanout.types import Identity
from tests.support.credentials import SECRET, made_jwt, signed_jwt

NOW_S = 1_700_000_000
RSA = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
EC = ec.generate_private_key(ec.SECP256R1())
ED = ed25519.Ed25519PrivateKey.generate()
PEM, SPKI = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
RIGHTS = '{"news":["subscribe"]}'


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    makers: dict[Any, Any] = {EC: ECAlgorithm, ED: OKPAlgorithm}
    maker = makers.get(key, RSAAlgorithm)
    return {**json.loads(maker.to_jwk(key.public_key())), "kid": kid, "use": "sig"} | more


def document(*keys: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(keys)}).encode()


class Provider:
    """A provider whose document a test changes, and a clock that it sets."""

    def __init__(self, *keys: dict[str, Any]) -> None:
        self.document: bytes | Exception = document(*keys)
        self.fetched = 0
        self.now = 0.0
        self.sets = KeySets(["https://idp"], self.fetch, lambda: self.now)

    async def fetch(self, url: str) -> bytes:
        assert url == "https://idp"
        self.fetched += 1
        await asyncio.sleep(0)
        if isinstance(self.document, Exception):
            raise self.document
        return self.document

    async def find(self, kid: str) -> PyJWK:
        """The key, once it is there."""
        try:
            return self.sets.find(kid)
        except KeysAwaited as awaited:
            await awaited.done
            await asyncio.sleep(0)
            return self.sets.find(kid)

    async def refused(self, kid: str) -> int:
        with pytest.raises(ClientError) as caught:
            await self.find(kid)
        return caught.value.info.code


class TestADocument:
    def test_has_keys_by_name_each_for_one_algorithm(self) -> None:
        keys = read_keys(document(jwk(RSA, "r"), jwk(RSA, "p", alg="PS256"), jwk(EC, "e"), jwk(ED, "d")))
        assert {kid: key.algorithm_name for kid, key in keys.items()} == {
            "r": "RS256",
            "p": "PS256",
            "e": "ES256",
            "d": "EdDSA",
        }

    @pytest.mark.parametrize(
        "entry",
        [
            {"kty": "oct", "k": "c2VjcmV0", "kid": "k"},
            {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"},
            jwk(RSA, "k", alg="HS256"),
            jwk(RSA, "k", alg="none"),
            jwk(RSA, "k", alg="RSA-OAEP"),
            jwk(RSA, "k", use="enc"),
            jwk(RSA, "k" * 300),
            {**jwk(RSA, "k"), "kid": None},
            {**jwk(RSA, "k"), "n": 5},
            {"kty": "RSA", "kid": "k"},
            {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "k"},
            {"kty": "what", "kid": "k"},
            {},
            jwk(rsa.generate_private_key(public_exponent=65_537, key_size=1_024), "k"),
        ],
    )
    def test_has_others_that_do_not_count(self, entry: dict[str, Any]) -> None:
        assert list(read_keys(document(entry, jwk(EC, "good")))) == ["good"]

    @pytest.mark.parametrize(
        "text", [b"", b"[]", b"{}", b'{"keys":5}', b'{"keys":[5]}', b"<html>", b'{"keys":' + b"[" * 5_000, b"\xff"]
    )
    def test_of_another_form_is_none(self, text: bytes) -> None:
        with pytest.raises(ValueError, match=r"\w"):
            read_keys(text)

    def test_is_not_endless(self) -> None:
        with pytest.raises(ValueError, match="more than"):
            read_keys(b" " * DOCUMENT_BYTES + document())
        assert len(read_keys(document(*(jwk(ED, f"k{number}") for number in range(KEYS_MAX + 1))))) == KEYS_MAX


class TestKeys:
    async def test_are_fetched_once_for_all_who_wait(self) -> None:
        provider = Provider(jwk(EC, "one"))
        found = await asyncio.gather(*(provider.find("one") for _ in range(50)))
        assert len(found) == 50
        assert provider.fetched == 1

    async def test_that_nobody_has_published_cost_one_fetch_a_while(self) -> None:
        provider = Provider(jwk(EC, "one"))
        for number in range(20):
            assert await provider.refused(f"made up {number}") == 40144
        assert provider.fetched == 1
        provider.now += PAUSE_S + 1
        assert await provider.refused("made up") == 40144
        assert provider.fetched == 2
        await provider.find("one")
        assert provider.fetched == 2

    async def test_that_are_new_are_found_and_those_that_are_gone_are_not(self) -> None:
        provider = Provider(jwk(EC, "one"))
        await provider.find("one")
        provider.document = document(jwk(ED, "two"))
        provider.now += PAUSE_S + 1
        await provider.find("two")
        assert await provider.refused("one") == 40144

    async def test_that_have_grown_old_are_fetched_again_while_they_are_used(self) -> None:
        provider = Provider(jwk(EC, "one"))
        await provider.find("one")
        provider.document = document()
        provider.now += OLD_S + 1
        provider.sets.find("one")
        for _ in range(5):
            await asyncio.sleep(0)
        assert provider.fetched == 2
        assert await provider.refused("one") == 40144

    @pytest.mark.parametrize("problem", [OSError("away"), ValueError("odd")])
    async def test_stay_good_for_a_day_while_the_document_cannot_be_had(self, problem: Exception) -> None:
        provider = Provider(jwk(EC, "one"))
        await provider.find("one")
        provider.document = problem
        provider.now += OLDEST_S
        await provider.find("one")
        for _ in range(5):
            await asyncio.sleep(0)
        assert await provider.refused("two") == 50000
        provider.now += 1
        assert await provider.refused("one") == 50000


class Node:
    def __init__(self, provider: Provider) -> None:
        keys = Keys([Key.parse("app.one:secret")])
        self.known = KnownCredentials(keys, Tokens(SECRET), Revoked(), provider.sets)

    async def shown(self, text: str) -> Identity:
        shown = Presented(text, is_token=True, client_id=None)
        try:
            return self.known.identify(shown, NOW_S * 1_000)
        except KeysAwaited as awaited:
            await awaited.done
            return self.known.identify(shown, NOW_S * 1_000)

    async def refused(self, text: str) -> int:
        with pytest.raises(ClientError) as caught:
            await self.shown(text)
        return caught.value.info.code


def claims(**more: Any) -> dict[str, Any]:
    return {"iat": NOW_S, "exp": NOW_S + 60, "x-ably-capability": RIGHTS, "x-ably-clientId": "bob"} | more


class TestAJwtOfAProvider:
    @pytest.mark.parametrize(("key", "alg"), [(RSA, "RS256"), (EC, "ES256"), (ED, "EdDSA")])
    async def test_is_good_for_what_it_claims(self, key: Any, alg: str) -> None:
        node = Node(Provider(jwk(key, "k1")))
        identity = await node.shown(signed_jwt(claims(), key, alg, "k1"))
        assert (identity.key_name, identity.client_id) == ("jwks.k1", "bob")
        assert identity.capability == {"news": frozenset({"subscribe"})}
        assert identity.expires == (NOW_S + 60) * 1_000

    async def test_must_say_what_it_allows(self) -> None:
        node = Node(Provider(jwk(EC, "k1")))
        assert await node.refused(signed_jwt(claims(**{"x-ably-capability": None}), EC, "ES256", "k1")) == 40144

    async def test_is_refused_with_another_signature_algorithm_or_name(self) -> None:
        node = Node(Provider(jwk(EC, "k1"), jwk(RSA, "k2")))
        stranger = ec.generate_private_key(ec.SECP256R1())
        assert await node.refused(signed_jwt(claims(), stranger, "ES256", "k1")) == 40144
        assert await node.refused(signed_jwt(claims(), EC, "ES256", "k2")) == 40144
        assert await node.refused(signed_jwt(claims(), RSA, "RS512", "k2")) == 40144
        assert await node.refused(signed_jwt(claims(), EC, "ES256", "k3")) == 40144
        assert await node.refused(signed_jwt(claims(exp=NOW_S), EC, "ES256", "k1")) == 40142

    async def test_cannot_make_a_secret_of_a_public_key(self) -> None:
        node = Node(Provider(jwk(RSA, "app.one")))
        for public in (json.dumps(jwk(RSA, "app.one")), RSA.public_key().public_bytes(PEM, SPKI).decode()):
            assert await node.refused(made_jwt(f"app.one:{public}", **claims())) == 40144


async def test_a_fetch_that_fails_in_an_unforeseen_way_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    provider = Provider(jwk(EC, "one"))
    monkeypatch.setattr(key_sets, "read_keys", lambda _: (_ for _ in ()).throw(OSError("odd")))
    assert await provider.refused("one") == 50000
