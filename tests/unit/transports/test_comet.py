"""HTTP polling, which is not offered."""

import orjson

from fanout.transports.comet import comet
from fanout.transports.http import Request
from fanout.transports.router import Router


async def test_polling_client_is_told_to_come_back_in_a_way_that_it_can_read() -> None:
    origin = {"origin": "https://site.example"}
    response = await Router(comet())(Request("GET", "/comet/connect", {}, origin))
    (frame,) = orjson.loads(response.body)
    assert response.status == 200
    assert ("access-control-allow-origin", "https://site.example") in response.headers
    assert frame["action"] == 6  # DISCONNECTED
    assert frame["error"]["code"] == 80003
