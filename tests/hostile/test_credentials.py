"""Credentials that nobody should have made: each gets a documented answer, and nobody else notices."""

import base64
import json
from typing import Any
from urllib.parse import quote

import pytest

from tests.hostile.bystander import attacked_node
from tests.support.credentials import made_jwt
from tests.unit.transports.front_door import KEY, Wire

FOR_EVER: dict[str, Any] = {"iat": 0, "exp": 10**11}


def unsigned(header: object, claims: object) -> str:
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in (header, claims)]
    return ".".join([*parts, ""])


def deep() -> str:
    return base64.urlsafe_b64encode(b'{"alg":' + b"[" * 5_000).rstrip(b"=").decode()


@pytest.mark.parametrize(
    ("token", "code"),
    [
        pytest.param("", 40101, id="nothing"),
        pytest.param("x" * 9_000, 40101, id="more than is looked at"),
        pytest.param("app." + "A" * 400, 40101, id="a token of nobody"),
        pytest.param("app.\x00\udcff", 40101, id="bytes that are no text"),
        pytest.param("....", 40144, id="an encrypted JWT of nothing"),
        pytest.param("." * 5_000, 40144, id="dots"),
        pytest.param(unsigned({"alg": "none", "kid": "app.key"}, FOR_EVER), 40144, id="no signature"),
        pytest.param(made_jwt(KEY, {"alg": "none"}, **FOR_EVER), 40144, id="a signature that says there is none"),
        pytest.param(made_jwt(KEY, {"alg": "RS256"}, **FOR_EVER), 40144, id="another algorithm"),
        pytest.param(made_jwt("app.key:", **FOR_EVER), 40144, id="an empty secret"),
        pytest.param(made_jwt("app.key:wrong", {"jwk": {"kty": "oct", "k": "d3Jvbmc"}}, **FOR_EVER), 40144,
                     id="its own key"),
        pytest.param(made_jwt("../../etc/passwd:x", **FOR_EVER), 40400, id="a path for a key"),
        pytest.param(made_jwt("app.key' OR '1'='1:x", **FOR_EVER), 40130, id="a question to a database for a key"),
        pytest.param(made_jwt(KEY, {"kid": {"$ne": 1}}, **FOR_EVER), 40144, id="an object for a key"),
        pytest.param(made_jwt(KEY, iat=0, exp=1e308), 40144, id="no end of time"),
        pytest.param(made_jwt(KEY, **FOR_EVER, x_ably_capability='{"*":["*","x"]}'), 40144, id="too much"),
        pytest.param(made_jwt(KEY, {"x-ably-token": made_jwt(KEY, **FOR_EVER)}), 40101, id="a JWT in a JWT"),
        pytest.param(f"{deep()}.{deep()}.x", 40101, id="depths"),
    ],
)  # fmt: skip
async def test_it_is_refused_in_band(token: str, code: int) -> None:
    async with attacked_node() as door:
        wire = await Wire.websocket(door, f"access_token={quote(token, errors='surrogateescape')}&v=5")
        frame = await wire.message()
        assert (frame["action"], frame["error"]["code"]) == (9, code)
        await wire.close()
