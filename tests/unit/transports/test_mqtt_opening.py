"""Who presents what in CONNECT, and whose session it is."""

import pytest

from fanout.auth.connection_key import CONNECTION_ID
from fanout.errors import ClientError
from fanout.packets import Connect
from fanout.transports.mqtt_opening import CLIENT_ID_BYTES, connection_id_of, credentials, new_client_id, session_name
from fanout.transports.mqtt_ports import Name
from fanout.types import Identity


def connect(username: str | None, password: bytes | None) -> Connect:
    return Connect(5, "me", True, 0, username, password, None, None, 65_535, 0, False, True)


class Session:
    def __init__(self, key_name: str, client_id: str | None) -> None:
        self.identity = Identity(key_name, client_id, {})


@pytest.mark.parametrize(
    ("username", "password", "name", "value"),
    [
        ("app.key", b"secret", "key", "app.key:secret"),
        ("a.token-or.jwt", None, "access_token", "a.token-or.jwt"),
        ("a.token-or.jwt", b"", "access_token", "a.token-or.jwt"),
        ("anything", b"header.payload.signature", "access_token", "header.payload.signature"),
        ("", b"token", "access_token", "token"),
        (None, b"token", "access_token", "token"),
    ],
)
def test_credentials(username: str | None, password: bytes | None, name: str, value: str) -> None:
    query = credentials(connect(username, password))
    assert {"key": query.get("key"), "access_token": query.get("access_token")} == {
        "key": None, "access_token": None, name: value,
    }  # fmt: skip
    assert "clientId" not in query


@pytest.mark.parametrize(("username", "password"), [(None, None), ("", b""), ("app.key", b"\xff")])
def test_what_is_no_credential_is_refused(username: str | None, password: bytes | None) -> None:
    with pytest.raises(ClientError) as refused:
        credentials(connect(username, password))
    assert refused.value.info.code == 40101


def test_nobody_comes_by_another_ones_session() -> None:
    def name(key_name: str, client_id: str | None) -> tuple[str, str]:
        return session_name(Session(key_name, client_id), "me")  # type: ignore[arg-type]

    assert name("app.key", "*") == name("app.other", None) == ("app", "me")
    assert name("app.key", "ann") != name("app.key", "bob") != name("app.key", "*")
    assert name("app.key", "*") != name("other.key", "*")


def test_identifiers_are_of_a_length_that_can_be_kept() -> None:
    session = Session("app.key", "*")
    session_name(session, "x" * CLIENT_ID_BYTES)  # type: ignore[arg-type]
    with pytest.raises(ClientError) as refused:
        session_name(session, "é" * CLIENT_ID_BYTES)  # type: ignore[arg-type]
    assert refused.value.info.code == 40012
    assert len({new_client_id() for _ in range(100)}) == 100


def test_messages_come_from_the_same_place_on_every_node_and_of_no_two_clients() -> None:
    assert connection_id_of(Name("app", "me")) == "-ecBMKLDtiTB2k_a"
    assert CONNECTION_ID.fullmatch(connection_id_of(Name("app", "é" * CLIENT_ID_BYTES)))
    names = [Name("app", "me"), Name("app", "you"), Name("other", "me"), Name("ap", "pme"), Name("app:me", "")]
    assert len(set(map(connection_id_of, names))) == len(names)
