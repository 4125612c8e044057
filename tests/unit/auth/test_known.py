"""Who presents a token or a JWT: what is believed, and how everything else is refused."""

import base64
from typing import Any

import pytest

from fanout.auth import json_web_tokens, known
from fanout.auth.credentials import Presented
from fanout.auth.keys import Key, Keys
from fanout.auth.known import KnownCredentials
from fanout.auth.revoked import Fact, Revoked
from fanout.auth.token_requests import HOUR_MS
from fanout.auth.tokens import TOKEN_CHARS, Token, Tokens
from fanout.errors import ClientError
from fanout.types import Identity
from tests.support.credentials import made_jwt

NOW_S = 1_700_000_000
NOW_MS = NOW_S * 1_000
KEY = 'app.one:secret={"b:*":["subscribe","publish"],"a":["history"]}'
SECRET_ONE = "app.one:secret"
SECRET_TWO = "app.two:secret"
TOKENS = Tokens(b"sixteen bytes ok")


class Node:
    def __init__(self) -> None:
        self.keys = Keys([Key.parse(KEY), Key("app.two", "secret", revocable_tokens=True)])
        self.revoked = Revoked()
        self.known = KnownCredentials(self.keys, TOKENS, self.revoked)

    def shown(self, text: str, client_id: str | None = None, later_ms: int = 0) -> Identity:
        return self.known.identify(Presented(text, is_token=True, client_id=client_id), NOW_MS + later_ms)

    def refused(self, text: str, client_id: str | None = None, later_ms: int = 0) -> tuple[int, int]:
        with pytest.raises(ClientError) as caught:
            self.shown(text, client_id, later_ms)
        return caught.value.info.code, caught.value.info.status


@pytest.fixture
def node() -> Node:
    return Node()


def token(key_name: str = "app.one", client_id: str | None = None, capability: str | None = None, ms: int = 1) -> str:
    return TOKENS.sign(Token(key_name, client_id, capability, NOW_MS - 1_000, NOW_MS + ms))


def jwt(key: str = SECRET_ONE, header: dict[str, Any] | None = None, **claims: Any) -> str:
    return made_jwt(key, header, **({"iat": NOW_S - 1, "exp": NOW_S + 1} | claims))


class TestAToken:
    def test_is_good_for_what_it_says_until_it_expires(self, node: Node) -> None:
        identity = node.shown(token(client_id="bob", capability='{"b:c":["publish"]}'))
        assert identity == Identity(
            "app.one", "bob", {"b:c": frozenset({"publish"})}, expires=NOW_MS + 1, issued=NOW_MS - 1_000
        )
        assert node.refused(token(ms=0)) == (40142, 401)

    def test_allows_what_its_key_allows_unless_it_says_less(self, node: Node) -> None:
        assert node.shown(token()).capability == Key.parse(KEY).capability

    def test_allows_no_more_than_its_key_allows_now(self, node: Node) -> None:
        node.keys.remove("app.one")
        node.keys.add(Key("app.one", "other", {"b:*": frozenset({"publish"})}))
        assert node.shown(token(capability='{"b:c":["publish","subscribe"]}')).capability == {
            "b:c": frozenset({"publish"})
        }
        assert node.refused(token(capability='{"a":["history"]}')) == (40160, 401)

    def test_goes_with_its_key(self, node: Node) -> None:
        node.keys.remove("app.one")
        assert node.refused(token()) == (40130, 401)

    @pytest.mark.parametrize(
        ("client_id", "asked", "is_"),
        [
            (None, None, None),
            ("bob", None, "bob"),
            ("bob", "bob", "bob"),
            ("*", None, "*"),
            ("*", "*", "*"),
            ("*", "eve", "eve"),
            ("bob", "eve", 40102),
            ("bob", "*", 40102),
            (None, "eve", 40102),
            ("*", "", 40012),
        ],
    )
    def test_is_of_a_client_who_may_not_be_another(
        self, node: Node, client_id: str | None, asked: str | None, is_: str | int | None
    ) -> None:
        for shown in (token(client_id=client_id), jwt(x_ably_clientId=client_id)):
            if isinstance(is_, int):
                assert node.refused(shown, asked)[0] == is_
            else:
                assert node.shown(shown, asked).client_id == is_

    @pytest.mark.parametrize(
        "text", ["", "x", "app.x", "app.one:secret", "ä", "\udc80", "." * 9, "a" * (TOKEN_CHARS + 1)]
    )
    def test_of_another_form_is_none(self, node: Node, text: str) -> None:
        assert node.refused(text)[0] in (40101, 40144)
        assert node.refused(text)[1] == 401


class TestAJwt:
    def test_is_good_for_what_it_claims(self, node: Node) -> None:
        text = jwt(x_ably_clientId="bob", x_ably_capability='{"b:c":["*"]}', sub="ignored", ably_channel=1)
        assert node.shown(text) == Identity(
            "app.one", "bob", {"b:c": frozenset({"publish", "subscribe"})}, (NOW_S + 1) * 1_000, (NOW_S - 1) * 1_000
        )
        assert node.shown(jwt()).capability == Key.parse(KEY).capability

    def test_may_name_what_it_is_revoked_by(self, node: Node) -> None:
        assert node.shown(jwt(x_ably_revocation_key="group")).revocation_key == "group"

    def test_may_tell_its_times_with_fractions_and_be_a_little_ahead(self, node: Node) -> None:
        assert node.shown(jwt(iat=NOW_S + 30.5, exp=NOW_S + 90.5)).issued == NOW_MS

    def test_that_is_over_is_expired(self, node: Node) -> None:
        assert node.refused(jwt(exp=NOW_S)) == (40142, 401)

    def test_of_an_unknown_key_or_application_is_refused(self, node: Node) -> None:
        assert node.refused(jwt("app.none:secret")) == (40130, 401)
        assert node.refused(jwt("none.one:secret")) == (40400, 404)
        assert node.refused(jwt("../../etc/passwd:secret")) == (40400, 404)

    @pytest.mark.parametrize("key", ["app.one:wrong", "app.one:", "app.one:secret "])
    def test_of_another_secret_is_refused(self, node: Node, key: str) -> None:
        assert node.refused(jwt(key)) == (40144, 401)

    def test_with_anything_changed_is_refused(self, node: Node) -> None:
        header, claims, signature = jwt().split(".")
        other = jwt(x_ably_clientId="*").split(".")[1]
        changed = signature[:-2] + ("AA" if signature[-2:] != "AA" else "BB")
        for text in (f"{header}.{other}.{signature}", f"{header}.{claims}.{changed}", f"{header}.{claims}."):
            assert node.refused(text) == (40144, 401)

    @pytest.mark.parametrize("alg", ["none", "None", "", "HS512", "RS256", "ES256", "hs256", None, 5])
    def test_does_not_choose_how_it_is_checked(self, node: Node, alg: object) -> None:
        header, claims, signature = jwt(header={"alg": alg}).split(".")
        assert node.refused(f"{header}.{claims}.{signature}") == (40144, 401)
        assert node.refused(f"{header}.{claims}.") == (40144, 401)

    @pytest.mark.parametrize(
        "header", [{"kid": None}, {"kid": 5}, {"kid": ["app.one"]}, {"b64": False, "crit": ["b64"]}, {"crit": ["x"]}]
    )
    def test_with_a_header_that_makes_no_sense_is_refused(self, node: Node, header: dict[str, Any]) -> None:
        assert node.refused(jwt(header=header)) == (40144, 401)

    @pytest.mark.parametrize(
        "claims",
        [
            {"exp": None},
            {"iat": None},
            {"exp": "soon"},
            {"exp": 1e300},
            {"exp": -1},
            {"iat": NOW_S + 3_600, "exp": NOW_S + 7_200},
            {"nbf": NOW_S + 3_600},
            {"x_ably_clientId": 5},
            {"x_ably_capability": {"a": ["*"]}},
            {"x_ably_capability": "no"},
            {"x_ably_capability": '{"a":["*","publish"]}'},
            {"x_ably_token": 5},
        ],
    )
    def test_with_claims_that_make_no_sense_is_refused(self, node: Node, claims: dict[str, Any]) -> None:
        assert node.refused(jwt(**claims)) == (40144, 401)

    @pytest.mark.parametrize("client_id", ["", "x" * 257])
    def test_for_an_impossible_client_is_refused(self, node: Node, client_id: str) -> None:
        assert node.refused(jwt(x_ably_clientId=client_id)) == (40012, 400)

    def test_that_allows_nothing_is_refused(self, node: Node) -> None:
        assert node.refused(jwt(x_ably_capability='{"z":["*"]}')) == (40160, 401)

    @pytest.mark.parametrize("text", ["..", "a.b.c", "e30.e30.e30", "e30.e30.e30.e30", "bnVsbA.e30.", "ö.ö.ö"])
    def test_of_another_form_is_refused(self, node: Node, text: str) -> None:
        assert node.refused(text) == (40144, 401)

    def test_nested_as_deeply_as_fits_is_refused(self, node: Node) -> None:
        deep = base64.urlsafe_b64encode(b'{"a":' + b"[" * 2_800).rstrip(b"=").decode()
        assert node.refused(f"{deep}.{deep}.x") == (40144, 401)

    def test_of_a_key_whose_tokens_can_be_revoked_lives_for_an_hour_at_most(self, node: Node) -> None:
        node.shown(jwt(SECRET_TWO, iat=NOW_S, exp=NOW_S + HOUR_MS // 1_000))
        assert node.refused(jwt(SECRET_TWO, iat=NOW_S, exp=NOW_S + HOUR_MS // 1_000 + 1)) == (40144, 401)


class TestAWrappedToken:
    @pytest.mark.parametrize("where", ["header", "claims", "encrypted"])
    def test_counts_in_the_place_of_what_wraps_it(self, node: Node, where: str) -> None:
        inner = token(client_id="bob")
        header = {"x-ably-token": inner}
        text = {
            "header": jwt("nobody:knows", header=header),
            "claims": jwt("nobody:knows", x_ably_token=inner),
            "encrypted": jwt(header=header) + ".b.c",
        }[where]
        assert node.shown(text) == node.shown(inner)

    def test_is_refused_like_any_other(self, node: Node) -> None:
        assert node.refused(jwt(header={"x-ably-token": token(ms=0)})) == (40142, 401)
        assert node.refused(jwt(header={"x-ably-token": "x"})) == (40101, 401)
        assert node.refused(jwt(header={"x-ably-token": jwt()})) == (40101, 401)  # once is enough


class TestARevokedToken:
    def test_is_refused_once_the_revocation_applies(self, node: Node) -> None:
        shown = jwt(SECRET_TWO, x_ably_clientId="bob")
        node.revoked.learn(Fact("app.two", "clientId:bob", NOW_MS, NOW_MS + 1))
        node.shown(shown)
        node.revoked.learn(Fact("app.two", "clientId:bob", NOW_MS, NOW_MS))
        assert node.refused(shown) == (40141, 401)
        node.shown(jwt(SECRET_TWO, x_ably_clientId="eve"))
        node.shown(jwt(SECRET_TWO, x_ably_clientId="bob", iat=NOW_S))

    def test_stays_out_when_it_is_dated_ahead(self, node: Node) -> None:
        shown = jwt(SECRET_TWO, x_ably_clientId="bob", iat=NOW_S + 55, exp=NOW_S + 655)
        assert node.shown(shown).issued == NOW_MS
        node.revoked.learn(Fact("app.two", "clientId:bob", NOW_MS + 1, NOW_MS + 1))
        for later_ms in (1, 1_000, 54_000, 600_000):
            assert node.refused(shown, later_ms=later_ms) == (40141, 401)
            assert node.refused(shown + "=", later_ms=later_ms) == (40141, 401)  # another spelling of the signature
        newer = jwt(SECRET_TWO, x_ably_clientId="bob", iat=NOW_S + 55, exp=NOW_S + 656)
        assert node.shown(newer, later_ms=1_000).issued == NOW_MS + 1_000

    def test_dated_ahead_is_remembered_as_long_as_it_lives_and_not_without_end(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(known, "AHEAD_MAX", 2)
        ahead = [jwt(SECRET_TWO, iat=NOW_S + 30 + number, exp=NOW_S + 3_600) for number in range(3)]
        for number, text in enumerate(ahead):
            node.shown(text, later_ms=number)
        issued = [node.shown(text, later_ms=40_000).issued for text in ahead]
        assert issued == [NOW_MS + 30_000, NOW_MS + 1, NOW_MS + 2]
        node.shown(jwt(SECRET_TWO, iat=NOW_S + 4_000, exp=NOW_S + 4_001), later_ms=4_000_000)
        assert not node.known._ahead


class TestAKey:
    def test_does_not_end_and_is_never_revoked(self, node: Node) -> None:
        node.revoked.learn(Fact("app.two", "clientId:bob", NOW_MS, NOW_MS))
        identity = node.known.identify(Presented(SECRET_TWO, is_token=False, client_id="bob"), NOW_MS)
        assert (identity.expires, identity.issued) == (None, None)


def test_a_jwt_is_verified_by_the_key_alone() -> None:
    """The algorithm that is asked for is not among those of the key: PyJWT is told which those are."""
    with pytest.raises(ClientError):
        json_web_tokens.verify(jwt(header={"alg": "none"}), "secret", NOW_MS)
