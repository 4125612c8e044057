"""Where credentials stand in a request, and what is none."""

import base64

import pytest

from fanout.auth.credentials import Presented
from fanout.errors import ClientError


def based(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize(
    ("query", "authorization", "text", "is_token"),
    [
        ({"key": "k"}, None, "k", False),
        ({"access_token": "t"}, None, "t", True),
        ({"accessToken": "t"}, None, "t", True),
        ({}, "Basic " + based("a.b:c"), "a.b:c", False),
        ({}, "bASIC  " + based("a.b:c") + " ", "a.b:c", False),
        ({}, "Bearer " + based("app.token"), "app.token", True),
        ({}, "Bearer " + based("a.b.c"), "a.b.c", True),
        ({}, "Bearer a.b.c", "a.b.c", True),
        ({}, "Bearer a.b", "a.b", True),
        ({"key": "k", "access_token": "t"}, "Bearer x", "k", False),
        ({"access_token": "t"}, "Basic x", "t", True),
    ],
)
def test_stand_where_clients_write_them(
    query: dict[str, str], authorization: str | None, text: str, is_token: bool
) -> None:
    assert Presented.read(query, authorization, "bob") == Presented(text, is_token=is_token, client_id="bob")


@pytest.mark.parametrize("header", ["", "Digest abc", "Basic !!!", "Basic /w==", "Basic ä", "Bearer !"])
def test_of_any_other_kind_are_refused(header: str) -> None:
    with pytest.raises(ClientError) as caught:
        Presented.read({}, header, None)
    assert (caught.value.info.code, caught.value.info.status) == (40101, 401)


def test_that_are_missing_are_refused() -> None:
    with pytest.raises(ClientError) as caught:
        Presented.read({}, None, None)
    assert (caught.value.info.code, caught.value.info.status) == (40101, 401)
