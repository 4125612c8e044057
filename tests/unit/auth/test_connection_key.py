"""Connection keys: they say which connection they continue, and only nodes that share a secret can say so."""

import base64

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fanout.auth.connection_key import CONNECTION_ID, ConnectionKey, ConnectionKeys, new_connection_id
from fanout.errors import ClientError

KEYS = ConnectionKeys(b"sixteen bytes ok")
SAID = ConnectionKey("abcdefghijklmnop", "app.key", "bob", 1_700_000_000_000)


def refused(text: str) -> int:
    with pytest.raises(ClientError) as caught:
        KEYS.read(text)
    return caught.value.info.code


class TestAConnectionKey:
    @pytest.mark.parametrize("client_id", [None, "*", "bob", "ö" * 100])
    def test_says_what_it_was_made_of(self, client_id: str | None) -> None:
        said = ConnectionKey("abcdefghijklmnop", "app.key", client_id, 1_700_000_000_000)
        assert KEYS.read(KEYS.sign(said)) == said

    def test_is_read_by_every_node_with_the_same_secret(self) -> None:
        assert ConnectionKeys(b"sixteen bytes ok").read(KEYS.sign(SAID)) == SAID

    def test_of_another_secret_is_none(self) -> None:
        assert refused(ConnectionKeys(b"sixteen bytes no").sign(SAID)) == 80018

    def test_can_stand_in_a_url_as_it_is(self) -> None:
        assert set(KEYS.sign(SAID)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")

    def test_is_none_with_any_byte_changed(self) -> None:
        token = bytearray(base64.urlsafe_b64decode(KEYS.sign(SAID) + "=="))
        for at in range(len(token)):
            changed = token.copy()
            changed[at] ^= 1
            assert refused(base64.urlsafe_b64encode(changed).decode()) == 80018

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # machines that test are busy
    @given(st.text())
    def test_is_never_any_text(self, text: str) -> None:
        assert refused(text) == 80018

    def test_of_another_shape_is_none_though_the_secret_is_right(self) -> None:
        class Other(msgspec.Struct, array_like=True):
            something: int = 1

        assert refused(KEYS.sign(Other())) == 80018  # type: ignore[arg-type]

    def test_needs_a_secret_worth_the_name(self) -> None:
        with pytest.raises(ValueError, match="16 bytes"):
            ConnectionKeys(b"short")


class TestAConnectionId:
    def test_has_no_colon_and_is_new_each_time(self) -> None:
        ids = {new_connection_id() for _ in range(1_000)}
        assert len(ids) == 1_000
        assert all(CONNECTION_ID.fullmatch(one) for one in ids)
