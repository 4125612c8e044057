"""Tokens: they say whose they are, and only nodes that share a secret can say so."""

import base64

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.auth.tokens import TOKEN_CHARS, Token, Tokens
from fanout.errors import ClientError

TOKENS = Tokens(b"sixteen bytes ok")
SAID = Token("app.key", "bob", '{"news":["subscribe"]}', 1_700_000_000_000, 1_700_000_003_600)


def refused(text: str) -> int:
    with pytest.raises(ClientError) as caught:
        TOKENS.read(text)
    return caught.value.info.code


@pytest.mark.parametrize("client_id", [None, "*", "bob", "ö" * 128])
@pytest.mark.parametrize("capability", [None, '{"news":["subscribe"]}'])
def test_say_what_they_were_made_of(client_id: str | None, capability: str | None) -> None:
    said = msgspec.structs.replace(SAID, client_id=client_id, capability=capability)
    read = Tokens(b"sixteen bytes ok").read(TOKENS.sign(said))
    assert msgspec.structs.replace(read, random=b"") == said


def test_are_short_begin_with_their_application_and_are_never_the_same() -> None:
    first, second = TOKENS.sign(SAID), TOKENS.sign(SAID)
    assert first != second
    assert first.startswith("app.")
    assert first.count(".") == 1  # two would be a JWT's
    assert len(first) <= 343


def test_can_stand_in_a_url_as_they_are() -> None:
    assert set(TOKENS.sign(SAID)) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.")


def test_of_another_secret_application_or_shape_are_none() -> None:
    class Other(msgspec.Struct, array_like=True):
        key_name: str = "app.key"
        random: bytes = b""

    assert refused(Tokens(b"sixteen bytes no").sign(SAID)) == 40101
    assert refused("other." + TOKENS.sign(SAID).partition(".")[2]) == 40101
    assert refused(TOKENS.sign(Other())) == 40101  # type: ignore[arg-type]


def test_are_none_with_any_byte_changed() -> None:
    app, _, signed = TOKENS.sign(SAID).partition(".")
    data = bytearray(base64.urlsafe_b64decode(signed + "=" * (-len(signed) % 4)))
    for at in range(len(data)):
        changed = data.copy()
        changed[at] ^= 1
        assert refused(f"{app}.{base64.urlsafe_b64encode(changed).decode().rstrip('=')}") == 40101


@settings(deadline=None)
@given(st.text())
def test_are_never_any_text(text: str) -> None:
    assert refused(text) == 40101


def test_that_nobody_would_read_are_not_made() -> None:
    with pytest.raises(ValueError, match=f"{TOKEN_CHARS} is the limit"):
        TOKENS.sign(msgspec.structs.replace(SAID, capability="x" * TOKEN_CHARS))
