"""Token requests: what is signed, what is checked, and what becomes of a good one."""

import base64
import hmac
from typing import Any

import msgspec
import pytest

from fanout.auth import token_requests
from fanout.auth.keys import Key, Keys
from fanout.auth.token_requests import DAY_MS, HOUR_MS, NONCE_CHARS, SKEW_MS, TokenRequest, TokenRequests
from fanout.auth.tokens import Tokens
from fanout.errors import ClientError

NOW_MS = 1_700_000_000_000
TOKENS = Tokens(b"sixteen bytes ok")
KEY = Key.parse('app.one:secret={"b:*":["subscribe","publish"],"a":["history"]}')
REVOCABLE = Key("app.two", "secret", KEY.capability, revocable_tokens=True)


def signed(key: Key = KEY, **fields: Any) -> TokenRequest:
    """A request as an SDK makes it; the six lines are written out, since they are what clients and server agree on."""
    said: dict[str, Any] = {"timestamp": NOW_MS, "nonce": "0123456789abcdef"} | fields
    lines = [key.name, *(said.get(name, "") for name in ("ttl", "capability", "client_id", "timestamp", "nonce"))]
    text = "".join(f"{line}\n" for line in lines)
    mac = base64.b64encode(hmac.digest(key.secret.encode(), text.encode(), "sha256")).decode()
    return TokenRequest(**({"key_name": key.name, "mac": mac} | said))


@pytest.fixture
def requests() -> TokenRequests:
    return TokenRequests(Keys([KEY, REVOCABLE]), TOKENS)


def refused(requests: TokenRequests, request: TokenRequest, key: Key = KEY, now_ms: int = NOW_MS) -> tuple[int, int]:
    with pytest.raises(ClientError) as caught:
        requests.issue(key, request, now_ms)
    return caught.value.info.code, caught.value.info.status


class TestATokenRequest:
    def test_gives_what_the_key_may_do_for_an_hour_unless_it_asks_for_less(self, requests: TokenRequests) -> None:
        details = requests.issue(KEY, signed(), NOW_MS)
        token = TOKENS.read(details.pop("token"))
        assert details == {
            "keyName": "app.one",
            "issued": NOW_MS,
            "expires": NOW_MS + HOUR_MS,
            "capability": '{"a":["history"],"b:*":["publish","subscribe"]}',
        }
        assert (token.key_name, token.client_id, token.capability) == ("app.one", None, None)
        assert (token.issued, token.expires) == (NOW_MS, NOW_MS + HOUR_MS)

    def test_gives_what_it_asks_for_and_the_key_allows(self, requests: TokenRequests) -> None:
        asked = signed(ttl=5_000, capability='{"b:c": ["*"], "z":["*"]}', client_id="bob")
        details = requests.issue(KEY, asked, NOW_MS)
        assert (details["expires"], details["clientId"]) == (NOW_MS + 5_000, "bob")
        assert details["capability"] == TOKENS.read(details["token"]).capability == '{"b:c":["publish","subscribe"]}'

    def test_may_say_numbers_as_text_for_it_may_have_passed_through_a_query(self, requests: TokenRequests) -> None:
        details = requests.issue(KEY, signed(ttl="5000", timestamp=str(NOW_MS)), NOW_MS)
        assert details["expires"] - details["issued"] == 5_000

    def test_may_be_for_anybody(self, requests: TokenRequests) -> None:
        assert requests.issue(KEY, signed(client_id="*"), NOW_MS)["clientId"] == "*"

    def test_with_an_empty_capability_asks_for_everything(self, requests: TokenRequests) -> None:
        assert requests.issue(KEY, signed(capability=""), NOW_MS)["capability"] == KEY.capability_text

    def test_that_is_not_signed_needs_neither_time_nor_nonce(self, requests: TokenRequests) -> None:
        assert requests.issue(KEY, TokenRequest("app.one"), NOW_MS)["keyName"] == "app.one"

    def test_of_an_unknown_key_is_refused(self, requests: TokenRequests) -> None:
        with pytest.raises(ClientError) as caught:
            requests.find("app.none")
        assert (caught.value.info.code, caught.value.info.status) == (40400, 404)

    @pytest.mark.parametrize("field", ["ttl", "capability", "client_id", "timestamp", "nonce"])
    def test_is_refused_if_anything_that_was_signed_has_changed(self, requests: TokenRequests, field: str) -> None:
        good = signed(ttl=5_000, capability='{"a":["*"]}', client_id="bob")
        other = {"ttl": 5_001, "capability": '{"a":[ "*"]}', "client_id": "eve", "timestamp": NOW_MS + 1, "nonce": "x"}
        assert refused(requests, msgspec.structs.replace(good, **{field: other[field]})) == (40101, 401)
        requests.issue(KEY, good, NOW_MS)

    @pytest.mark.parametrize("mac", ["", "12345", "ö", "\udc80"])
    def test_is_refused_with_another_mac(self, requests: TokenRequests, mac: str) -> None:
        assert refused(requests, msgspec.structs.replace(signed(), mac=mac)) == (40101, 401)

    @pytest.mark.parametrize("timestamp", [NOW_MS - SKEW_MS - 1, NOW_MS + SKEW_MS + 1, "soon", ""])
    def test_is_refused_long_before_and_after_its_time(self, requests: TokenRequests, timestamp: int | str) -> None:
        assert refused(requests, signed(timestamp=timestamp)) == (40104, 401)

    @pytest.mark.parametrize("nonce", ["", "x" * (NONCE_CHARS + 1)])
    def test_is_refused_without_a_nonce_that_can_be_remembered(self, requests: TokenRequests, nonce: str) -> None:
        assert refused(requests, signed(nonce=nonce)) == (40105, 401)

    @pytest.mark.parametrize("ttl", [0, -1, DAY_MS + 1, "notanumber", "-1", "9" * 400])
    def test_is_refused_with_a_lifetime_that_is_none(self, requests: TokenRequests, ttl: int | str) -> None:
        assert refused(requests, signed(ttl=ttl)) == (40003, 400)

    def test_of_a_key_whose_tokens_can_be_revoked_is_good_for_an_hour_at_most(self, requests: TokenRequests) -> None:
        requests.issue(REVOCABLE, signed(REVOCABLE, ttl=HOUR_MS), NOW_MS)
        assert refused(requests, signed(REVOCABLE, ttl=HOUR_MS + 1, nonce="other"), REVOCABLE) == (40003, 400)
        requests.issue(KEY, signed(ttl=DAY_MS), NOW_MS)

    @pytest.mark.parametrize("client_id", ["", "x" * 257])
    def test_is_refused_with_a_client_id_that_is_none(self, requests: TokenRequests, client_id: str) -> None:
        assert refused(requests, signed(client_id=client_id)) == (40012, 400)

    @pytest.mark.parametrize(
        "capability", ["x", "{}", "[]", '{"a":[]}', '{"a":["fly"]}', '{"a":["*","publish"]}', '{"":["*"]}']
    )
    def test_is_refused_with_a_capability_that_is_none(self, requests: TokenRequests, capability: str) -> None:
        assert refused(requests, signed(capability=capability)) == (40000, 400)

    def test_is_refused_with_a_capability_that_no_token_can_hold(self, requests: TokenRequests) -> None:
        names = ",".join(f'"b:{"x" * 100}{number}":["*"]' for number in range(100))
        assert refused(requests, signed(capability=f"{{{names}}}")) == (40000, 400)

    @pytest.mark.parametrize("capability", ['{"z":["*"]}', '{"a":["publish"]}'])
    def test_is_refused_if_the_key_allows_nothing_of_it(self, requests: TokenRequests, capability: str) -> None:
        assert refused(requests, signed(capability=capability)) == (40160, 401)


class TestANonce:
    def test_is_good_once_for_a_key_and_a_time(self, requests: TokenRequests) -> None:
        requests.issue(KEY, signed(), NOW_MS)
        assert refused(requests, signed()) == (40105, 401)
        requests.issue(REVOCABLE, signed(REVOCABLE), NOW_MS)
        requests.issue(KEY, signed(timestamp=NOW_MS + 1), NOW_MS)

    def test_is_remembered_for_as_long_as_its_request_is_good(self, requests: TokenRequests) -> None:
        request = signed(timestamp=NOW_MS + SKEW_MS)
        requests.issue(KEY, request, NOW_MS)
        assert refused(requests, request, now_ms=NOW_MS + 2 * SKEW_MS) == (40105, 401)
        assert refused(requests, request, now_ms=NOW_MS + 2 * SKEW_MS + 1) == (40104, 401)

    def test_of_a_refused_request_is_not_used_up_unless_it_was_signed(self, requests: TokenRequests) -> None:
        refused(requests, msgspec.structs.replace(signed(), mac="12345"))
        requests.issue(KEY, signed(), NOW_MS)

    def test_is_refused_when_no_more_can_be_remembered(
        self, requests: TokenRequests, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(token_requests, "NONCES_MAX", 2)
        for nonce in ("one", "two"):
            requests.issue(KEY, signed(nonce=nonce), NOW_MS)
        assert refused(requests, signed(nonce="three")) == (42910, 429)
        later = NOW_MS + 2 * SKEW_MS + 1
        requests.issue(KEY, signed(nonce="three", timestamp=later), later)
