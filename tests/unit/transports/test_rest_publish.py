"""Publishing on behalf of a connection, and bare payloads, without sockets."""

from typing import Any

import orjson
import pytest

from fanout.auth.connection_key import ConnectionKey
from tests.unit.transports.front_door import KEY
from tests.unit.transports.test_rest import Api, api, code

__all__ = ["api"]

CONNECTION = "A" * 16
HOURS = 3_600_000


def connection_key(api: Api, *, app: str = "app", client_id: str | None = None, issued: int = 1_000) -> str:
    return api.connection_keys.sign(ConnectionKey(CONNECTION, f"{app}.other", client_id, issued))


async def publish(api: Api, body: Any, **query: str) -> Any:
    return await api.ask("POST", "/channels/room/messages", orjson.dumps(body), {"key": KEY, **query})


# -- on behalf of a connection --


async def test_a_message_becomes_the_connections_own(api: Api) -> None:
    key = connection_key(api, client_id="her")
    assert (await publish(api, {"data": "d", "connectionKey": key})).status == 201
    _, (message,) = api.publisher.published[0]
    assert (message.connection_id, message.client_id) == (CONNECTION, "her")
    assert not message.id.startswith(CONNECTION)


@pytest.mark.parametrize("key", ["", "x", "A" * 60, "=", "ü"])
async def test_what_is_no_key_of_a_connection(api: Api, key: str) -> None:
    assert code(await publish(api, {"connectionKey": key})) == 40006


async def test_another_apps_connection(api: Api) -> None:
    assert code(await publish(api, {"connectionKey": connection_key(api, app="foreign")})) == 40006


async def test_a_connection_that_has_ended(api: Api) -> None:
    state = api.table.open(CONNECTION)
    state.key_issued = 1_000
    state.claim(_Nobody(api))
    key = connection_key(api)
    assert (await publish(api, {"connectionKey": key})).status == 201
    api.table.resume(CONNECTION, 0).release(api.table.resume(CONNECTION, 0).holder, resumable=False)  # type: ignore[union-attr, arg-type]
    assert code(await publish(api, {"connectionKey": key})) == 40006


async def test_a_key_that_is_too_old_to_tell(api: Api) -> None:
    assert code(await publish(api, {"connectionKey": connection_key(api, issued=-73 * HOURS)})) == 40006
    api.table.open(CONNECTION)
    assert (await publish(api, {"connectionKey": connection_key(api, issued=-73 * HOURS)})).status == 201


async def test_only_who_may_speak_as_anybody_or_is_that_client(api: Api) -> None:
    key = connection_key(api, client_id="her")
    assert code(await publish(api, {"connectionKey": key}, clientId="him")) == 40012
    assert (await publish(api, {"connectionKey": key}, clientId="her")).status == 201


async def test_one_publish_speaks_for_one_connection(api: Api) -> None:
    key = connection_key(api)
    assert code(await publish(api, [{"connectionKey": key}, {}])) == 40006
    assert (await publish(api, [{"connectionKey": key}, {"connectionKey": key}])).status == 201


class _Nobody:
    def __init__(self, api: Api) -> None:
        self.api = api

    def answered(self) -> None: ...

    def superseded(self) -> None: ...


# -- bare payloads --


@pytest.mark.parametrize(
    ("media_type", "body", "data", "encoding"),
    [
        ("text/plain; charset=utf-8", b"h\xc3\xa9", "hé", None),
        ("application/json", b'{"a": 1}', '{"a": 1}', "json"),
        ("application/octet-stream", b"\xff", b"\xff", None),
        ("", b"\xff", b"\xff", None),
    ],
)
async def test_the_body_is_the_payload(
    api: Api, media_type: str, body: bytes, data: str | bytes, encoding: str | None
) -> None:
    query = {"key": KEY, "enveloped": "false", "name": "n"}
    fields = {"content_type": media_type, "x_ably_messageid": "mine:0"}
    assert (await api.ask("POST", "/channels/room/messages", body, query, **fields)).status == 201
    _, (message,) = api.publisher.published[0]
    assert (message.data, message.encoding, message.name, message.id) == (data, encoding, "n", "mine:0")


async def test_text_that_is_none(api: Api) -> None:
    query = {"key": KEY, "enveloped": "false"}
    response = await api.ask("POST", "/channels/room/messages", b"\xff", query, content_type="text/plain")
    assert code(response) == 40013
