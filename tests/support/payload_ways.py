"""The ways of a payload into a node and out of it (docs/protocol.md, "Payloads"), each as the table there says.

A way in publishes a payload and returns what the log is to hold. A way out gives the payloads that came, in order, as a
client of that kind understands them, and tells what it can show of one.
"""

import asyncio
import base64
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, NamedTuple, Protocol

import httpx
import msgspec
import orjson
from vcdiff_decoder import decode as apply_delta

from fanout import Server
from fanout.sources.base import NewRecord
from fanout.sources.embedded import EmbeddedSource
from tests.support.sources import append
from tests.support.stream_client import StreamClient
from tests.support.wsclient import RawClient

__all__ = ["CHANNEL", "KEY", "TOPIC", "WAYS_IN", "Bed", "Deltas", "Out", "Payload", "WayIn", "ways_out"]

KEY = "app.key:secret"
TOPIC = "fanout.messages"
CHANNEL = "c"


class Payload(NamedTuple):
    """As the log has it."""

    data: str | bytes | None
    encoding: str | None = None

    @property
    def is_json(self) -> bool:
        return self.encoding == "json"


class Bed(NamedTuple):
    """A node, its source, and what speaks to it; `stack` ends what is begun."""

    stack: AsyncExitStack
    server: Server
    source: EmbeddedSource
    http: httpx.AsyncClient
    json: RawClient
    msgpack: RawClient


# -- ways in --


def _fields(payload: Payload, *, text_only: bool) -> dict[str, Any]:
    data, encoding = payload
    if text_only and isinstance(data, bytes):
        data, encoding = base64.b64encode(data).decode(), f"{encoding}/base64" if encoding else "base64"
    elif text_only and payload.is_json:
        data, encoding = orjson.loads(data or ""), None
    return {name: value for name, value in {"data": data, "encoding": encoding}.items() if value is not None}


async def _websocket_json(bed: Bed, payload: Payload) -> Payload:
    await bed.json.publish(CHANNEL, _fields(payload, text_only=True))
    return payload


async def _websocket_msgpack(bed: Bed, payload: Payload) -> Payload:
    await bed.msgpack.publish(CHANNEL, _fields(payload, text_only=False))
    return payload


async def _post(bed: Bed, body: bytes, content_type: str, **query: str) -> None:
    headers = {"content-type": content_type}
    answer = await bed.http.post(f"/channels/{CHANNEL}/messages", content=body, headers=headers, params=query)
    assert answer.status_code == 201, answer.text


async def _rest_json(bed: Bed, payload: Payload) -> Payload:
    await _post(bed, orjson.dumps(_fields(payload, text_only=True)), "application/json")
    return payload


async def _rest_msgpack(bed: Bed, payload: Payload) -> Payload:
    await _post(bed, msgspec.msgpack.encode(_fields(payload, text_only=False)), "application/x-msgpack")
    return payload


async def _rest_bare(bed: Bed, payload: Payload) -> Payload:
    """The body is the payload: there is none of nothing."""
    data, encoding = payload
    body = data.encode() if isinstance(data, str) else data or b""
    media = "application/octet-stream" if not isinstance(data, str) else "text/plain; charset=utf-8"
    if payload.is_json:
        await _post(bed, body, "application/json", enveloped="false")
    else:
        await _post(bed, body, media, enveloped="false", **({"encoding": encoding} if encoding else {}))
    return Payload(b"") if data is None else payload


async def _comet(bed: Bed, payload: Payload) -> Payload:
    """A conversation in requests: begins one, and ends it."""
    [hello] = (await bed.http.get("/comet/connect", params={"v": "5", "key": KEY})).json()
    path = f"/comet/{hello['connectionDetails']['connectionKey']}"
    frame = {"action": 15, "channel": CHANNEL, "msgSerial": 0, "messages": [_fields(payload, text_only=True)]}
    assert (await bed.http.post(f"{path}/send", params={"key": KEY}, json=[frame])).status_code == 204
    answer = (await bed.http.get(f"{path}/recv", params={"key": KEY})).json()
    assert [message["action"] for message in answer] == [1]
    await bed.http.post(f"{path}/close", params={"key": KEY})
    assert (await bed.http.get(f"{path}/recv", params={"key": KEY})).json()[0]["action"] == 8
    return payload


async def _program(bed: Bed, payload: Payload) -> Payload:
    await bed.server.publish(CHANNEL, payload.data, encoding=payload.encoding)
    return payload


async def _plain_record(bed: Bed, payload: Payload) -> Payload:
    """Anybody's: there is only a value, which is taken for what it is."""
    data = payload.data
    value = data.encode() if isinstance(data, str) else data
    await append(bed.source, NewRecord(TOPIC, CHANNEL.encode(), value, ()))
    if payload.is_json or value is None:
        return payload
    try:
        return Payload(value.decode())
    except UnicodeDecodeError:
        return Payload(value)


WayIn = Callable[[Bed, Payload], Awaitable[Payload]]

WAYS_IN: dict[str, WayIn] = {
    "websocket, json": _websocket_json,
    "websocket, msgpack": _websocket_msgpack,
    "comet": _comet,
    "rest, json": _rest_json,
    "rest, msgpack": _rest_msgpack,
    "rest, bare": _rest_bare,
    "program": _program,
    "plain record": _plain_record,
}


# -- ways out --


class Out(Protocol):
    """Somebody who is given what is published."""

    async def payloads(self, count: int) -> list[Payload]:
        """The first `count`."""

    def shows(self, payload: Payload) -> Payload:
        """What it can show of a payload: all of it, unless it says otherwise."""


class Deltas:
    """Turns what comes on one attachment into whole payloads (RFC 3284); `count` of them came as deltas."""

    def __init__(self) -> None:
        self.count = 0
        self._before = b""

    def whole(self, payload: Payload) -> Payload:
        """The next one."""
        data, encoding = payload
        steps = (encoding or "").split("/")
        if steps[-1] == "vcdiff":
            assert isinstance(data, bytes)
            self.count += 1
            steps.pop()
            data = apply_delta(self._before, data)
            if steps and steps[-1] == "utf-8":
                steps.pop()
                data = data.decode()
        self._before = data.encode() if isinstance(data, str) else data or b""
        return Payload(data, "/".join(steps) or None)


def _from_json(message: dict[str, Any]) -> Payload:
    data, encoding = message.get("data"), message.get("encoding")
    assert data is None or isinstance(data, str)
    if data is not None and encoding is not None and encoding.rpartition("/")[2] == "base64":
        return Payload(base64.b64decode(data), encoding.rpartition("/")[0] or None)
    return Payload(data, encoding)


def _from_msgpack(message: dict[str, Any]) -> Payload:
    assert not (message.get("encoding") or "").endswith("base64")
    return Payload(message.get("data"), message.get("encoding"))


class _All(ABC):
    """Shows everything."""

    def shows(self, payload: Payload) -> Payload:
        return payload

    @abstractmethod
    async def payloads(self, count: int) -> list[Payload]: ...


class _WebSocket(_All):
    """Bytes are bytes in MessagePack, and base64 in JSON."""

    def __init__(self, bed: Bed, wire: str) -> None:
        self.messages: list[dict[str, Any]] = []
        self.client = RawClient(bed.server.port, KEY, wire, on_message=lambda _, message: self.messages.append(message))
        bed.stack.push_async_callback(self.client.close)
        self._read = _from_msgpack if wire == "msgpack" else _from_json

    async def begin(self, **params: str) -> "_WebSocket":
        await self.client.connect()
        await self.client.attach(CHANNEL, params=params)
        return self

    async def payloads(self, count: int) -> list[Payload]:
        await self.client.until(lambda: len(self.messages) >= count)
        return [self._read(message) for message in self.messages]


class _Stream(_All):
    """As on a JSON socket."""

    def __init__(self, client: StreamClient) -> None:
        self._client = client

    async def payloads(self, count: int) -> list[Payload]:
        return [_from_json(event.json) for event in await self._client.messages(count)]


class _BareStream:
    """What is known of a payload is not told; binary is base64, nothing is empty text."""

    def __init__(self, client: StreamClient, *, lines: bool) -> None:
        self._client = client
        self._lines = lines

    async def payloads(self, count: int) -> list[Payload]:
        events = await self._client.messages(count)
        return [Payload(event.json if self._lines else event.data) for event in events]

    def shows(self, payload: Payload) -> Payload:
        data = payload.data or ""
        text = base64.b64encode(data).decode() if isinstance(data, bytes) else data
        return Payload(text if self._lines else text.replace("\r\n", "\n").replace("\r", "\n"))


class _History(_All):
    """By REST."""

    def __init__(self, bed: Bed, accept: str) -> None:
        self._http = bed.http
        self._accept = accept

    async def payloads(self, count: int) -> list[Payload]:
        params = {"direction": "forwards", "limit": str(count)}
        headers = {"accept": self._accept}
        answer = await self._http.get(f"/channels/{CHANNEL}/messages", params=params, headers=headers)
        if self._accept == "application/json":
            return [_from_json(message) for message in answer.json()]
        return [_from_msgpack(message) for message in msgspec.msgpack.decode(answer.content)]


class _Program(_All):
    """A subscription inside the process."""

    def __init__(self, bed: Bed) -> None:
        self._subscription = bed.server.subscribe(CHANNEL)

    async def payloads(self, count: int) -> list[Payload]:
        async with asyncio.timeout(20):
            messages = [await anext(self._subscription) for _ in range(count)]
        return [Payload(message.data, message.encoding) for message in messages]


async def ways_out(bed: Bed, **params: str) -> dict[str, Out]:
    """All of them, listening from now on; `params` are of the channel, as far as a way takes any."""
    port = bed.server.port

    async def stream(path: str, **query: str) -> StreamClient:
        client = StreamClient(port, path, {"channels": CHANNEL, **params, **query})
        await bed.stack.enter_async_context(client)
        await client.event()  # its place
        return client

    ways: dict[str, Out] = {
        "websocket, json": await _WebSocket(bed, "json").begin(**params),
        "websocket, msgpack": await _WebSocket(bed, "msgpack").begin(**params),
        "events": _Stream(await stream("/sse")),
        "lines": _Stream(await stream("/event-stream")),
    }
    if not params:
        ways |= {
            "events, bare": _BareStream(await stream("/sse", enveloped="false"), lines=False),
            "lines, bare": _BareStream(await stream("/event-stream", enveloped="false"), lines=True),
            "history, json": _History(bed, "application/json"),
            "history, msgpack": _History(bed, "application/x-msgpack"),
            "program": _Program(bed),
        }
    return ways
