"""API keys: how they are configured, and who presents one."""

import pytest

from fanout.auth.capabilities import EVERYTHING
from fanout.auth.keys import CLIENT_ID_BYTES, Key, Keys, check_client_id, generate_key
from fanout.errors import ClientError, ConfigError

KEYS = Keys([Key.parse("app.one:secret"), Key.parse('app.two:other={"news":["subscribe"]}')])


def refusal(presented: str, client_id: str | None = None) -> tuple[int, int, str]:
    with pytest.raises(ClientError) as caught:
        KEYS.authenticate(presented, client_id)
    info = caught.value.info
    return info.code, info.status, info.message


class TestAConfiguredKey:
    def test_allows_everything_unless_it_says_less(self) -> None:
        assert Key.parse("app.one:secret").capability == EVERYTHING
        assert Key.parse('app.one:secret={"news":["subscribe"]}').capability == {"news": frozenset({"subscribe"})}

    def test_does_not_print_its_secret(self) -> None:
        assert "secret" not in repr(Key.parse("app.one:secret"))

    @pytest.mark.parametrize(
        "text",
        ["", "app.one", "one:secret", "app.one:", "app.one:a b", "app.a.b:c", "äpp.one:secret", "app.one:secret="],
    )
    def test_that_is_none_is_told_what_one_looks_like(self, text: str) -> None:
        with pytest.raises(ConfigError, match=r"appId\.keyId:secret"):
            Key.parse(text)

    def test_with_a_bad_capability_is_named_without_its_secret(self) -> None:
        with pytest.raises(ConfigError) as caught:
            Key.parse('app.one:hush={"news":["fly"]}')
        assert str(caught.value) == "the capability of key app.one: unknown operation 'fly' on 'news'"

    def test_may_be_there_once_only(self) -> None:
        with pytest.raises(ConfigError, match=r"key app\.one is configured twice"):
            Keys([Key.parse("app.one:a"), Key.parse("app.one:b")])

    def test_that_comes_later_counts_until_it_is_removed(self) -> None:
        keys = Keys()
        key = Key("late.one", "secret", {"news": frozenset({"subscribe"})}, revocable_tokens=True)
        keys.add(key)
        assert keys.authenticate("late.one:secret").capability == key.capability
        assert keys.find("late.one") is key
        assert keys.has_app("late")
        with pytest.raises(ConfigError, match="twice"):
            keys.add(Key("late.one", "other"))
        keys.remove("late.one")
        keys.remove("late.one")
        assert keys.find("late.one") is None
        assert not keys.has_app("late")
        with pytest.raises(ClientError):
            keys.authenticate("late.one:secret")

    def test_is_valid_when_generated_and_never_the_same(self) -> None:
        first, second = generate_key(), generate_key()
        assert Keys([Key.parse(first)]).authenticate(first).client_id == "*"
        assert first != second


class TestAPresentedKey:
    def test_without_a_client_id_speaks_as_anybody(self) -> None:
        identity = KEYS.authenticate("app.one:secret")
        assert (identity.key_name, identity.client_id, identity.capability) == ("app.one", "*", EVERYTHING)

    def test_with_a_client_id_speaks_as_that_client(self) -> None:
        assert KEYS.authenticate("app.one:secret", "bob").client_id == "bob"

    def test_may_say_that_it_speaks_as_anybody(self) -> None:
        assert KEYS.authenticate("app.one:secret", "*").client_id == "*"

    def test_brings_its_own_capability(self) -> None:
        assert KEYS.authenticate("app.two:other").capability == {"news": frozenset({"subscribe"})}

    @pytest.mark.parametrize(
        "presented",
        [
            "",
            "app.one",
            "app.one:",
            "app.one:wrong",
            "app.one:secret ",
            "app.one:other",
            "no.key:secret",
            ":",
            "app.one:\udc80",
        ],
    )
    def test_that_is_not_in_the_table_is_refused_in_one_way(self, presented: str) -> None:
        assert refusal(presented) == (40101, 401, "credentials refused: no such key")

    def test_with_an_impossible_client_id_is_refused(self) -> None:
        assert refusal("app.one:secret", "")[:2] == (40012, 400)


class TestAClientId:
    def test_is_some_text(self) -> None:
        assert check_client_id("bob") == "bob"
        assert check_client_id("ö" * (CLIENT_ID_BYTES // 2))

    @pytest.mark.parametrize("given", ["", "*", 5, None, ["bob"], "ö" * (CLIENT_ID_BYTES // 2) + "x"])
    def test_that_names_nobody_is_refused(self, given: object) -> None:
        with pytest.raises(ClientError) as caught:
            check_client_id(given)
        assert caught.value.info.code == 40012
