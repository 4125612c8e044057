"""The agent on the `ably` package from PyPI: the commands of `agent.mjs`, over the same JSON lines."""

import asyncio
import hashlib
import json
import sys
from collections.abc import Callable
from typing import Any

from ably import AblyException, AblyRealtime, AblyRest, ChannelMode
from ably.types.channeloptions import ChannelOptions
from ably.types.message import Message


class Client:
    """One client of the SDK, and what it has received."""

    def __init__(self, realtime: AblyRealtime) -> None:
        self.realtime = realtime
        self.received: dict[str, list[Message]] = {}
        self.presence: dict[str, list[list[str]]] = {}
        self.continuity: dict[str, list[bool]] = {}
        self.events: list[dict[str, Any]] = []
        self.changed = asyncio.Event()  # set, and replaced, whenever something came
        realtime.connection.on(self._state_changed)

    def _state_changed(self, change: Any) -> None:
        code = change.reason.code if change.reason else None
        self.events.append({"state": str(change.current.value), "code": code})
        self.wake()

    def wake(self, *_: Any) -> None:
        self.changed.set()
        self.changed = asyncio.Event()

    async def until(self, reached: Callable[[], bool], timeout_ms: int, describe: Callable[[], str]) -> None:
        try:
            async with asyncio.timeout(timeout_ms / 1000):
                while not reached():
                    await self.changed.wait()
        except TimeoutError:
            raise RuntimeError(f"not within {timeout_ms} ms: {describe()}") from None


clients: dict[str, Client] = {}

PRESENCE_ACTIONS = ("absent", "present", "enter", "leave", "update")  # by their numbers


def text_of(data: Any) -> str:
    """Text of a payload that is the same in every agent: text as it is, bytes in hex, anything else as JSON."""
    if isinstance(data, str):
        return data
    if isinstance(data, bytes | bytearray):
        return data.hex()
    return json.dumps(data, separators=(",", ":"), ensure_ascii=False)


async def connect(
    client: str,
    host: str,
    port: int,
    tls: bool,
    key: str,
    format: str,  # noqa: A002
    **options: Any,
) -> None:
    tokens: list[str] = options.get("tokens") or []

    async def next_token(_: Any) -> str:
        return tokens.pop(0) if len(tokens) > 1 else tokens[0]

    realtime = AblyRealtime(
        **({"auth_callback": next_token} if tokens else {"key": key}),
        endpoint=f"{host}:{port}",  # the SDK puts `port` into HTTP addresses only
        tls=tls,
        use_binary_protocol=format == "msgpack",
        disconnected_retry_timeout=500,
        suspended_retry_timeout=500,
        realtime_request_timeout=2_000,  # how long it waits for CONNECTED also when the port is closed
        fallback_hosts=[],
        client_id=options.get("clientId"),
        auto_connect=False,
    )
    clients[client] = Client(realtime)
    realtime.connect()


async def rest(host: str, port: int, key: str, channel: str, data: list[str]) -> list[str]:
    """Publishes by REST, which the SDK does with a key over TLS alone, and reads back what there is."""
    async with AblyRest(key=key, endpoint=host, tls_port=port, fallback_hosts=[]) as client:
        for text in data:
            await client.channels.get(channel).publish("name", text)
        return [message.data for message in (await client.channels.get(channel).history()).items]


async def state(client: str) -> dict[str, Any]:
    connection = clients[client].realtime.connection
    reason = connection.error_reason
    details = connection.connection_manager.connection_id
    code = reason.code if reason else None
    return {
        "state": str(connection.state.value),
        "connectionId": details,
        "code": code,
        "events": clients[client].events,
    }


async def await_state(client: str, state: str, timeout: int) -> None:  # noqa: ASYNC109  milliseconds, from the command
    entry = clients[client]
    connection = entry.realtime.connection
    await entry.until(
        lambda: connection.state.value == state,
        timeout,
        lambda: f"connection is {connection.state.value}, not {state} ({connection.error_reason})",
    )


async def attach(
    client: str, channel: str, params: dict[str, str] | None = None, modes: list[str] | None = None
) -> None:
    entry = clients[client]
    options = ChannelOptions(params=params, modes=[ChannelMode[mode] for mode in modes or ()] or None)
    handle = entry.realtime.channels.get(channel, options)
    received = entry.received.setdefault(channel, [])
    continuity = entry.continuity.setdefault(channel, [])

    def take(message: Message) -> None:
        received.append(message)
        entry.wake()

    def changed(change: Any) -> None:
        if change.current.value == "attached":
            continuity.append(bool(change.resumed))

    handle.on(changed)
    await handle.subscribe(take)


async def detach(client: str, channel: str) -> None:
    await clients[client].realtime.channels.get(channel).detach()


async def continuity(client: str, channel: str) -> list[bool]:
    return clients[client].continuity[channel]


async def publish(client: str, channel: str, messages: list[dict[str, Any]], pipelined: bool = False) -> list[str]:
    handle = clients[client].realtime.channels.get(channel)

    async def one(message: dict[str, Any]) -> str:
        data = message.get("data")
        if isinstance(data, dict) and isinstance(data.get("hex"), str):
            data = bytes.fromhex(data["hex"])
        sent = Message(name=message.get("name"), data=data, client_id=message.get("clientId"), id=message.get("id"))
        result = await handle.publish(sent)
        return str(result.serials[0])

    if pipelined:
        return list(await asyncio.gather(*map(one, messages)))
    return [await one(message) for message in messages]


async def present(
    client: str,
    channel: str,
    action: str,
    as_: str | None = None,
    data: Any = None,
) -> None:
    presence = clients[client].realtime.channels.get(channel).presence
    if as_ is None:
        await getattr(presence, action)(data)
    else:
        await getattr(presence, f"{action}_client")(as_, data)


async def watch_presence(client: str, channel: str) -> None:
    entry = clients[client]
    events = entry.presence.setdefault(channel, [])

    def take(message: Any) -> None:
        events.append([PRESENCE_ACTIONS[message.action], message.client_id, text_of(message.data or "")])
        entry.wake()

    await entry.realtime.channels.get(channel).presence.subscribe(take)


async def await_presence(client: str, channel: str, count: int, timeout: int) -> None:  # noqa: ASYNC109
    entry = clients[client]
    events = entry.presence[channel]
    await entry.until(
        lambda: len(events) >= count, timeout, lambda: f"{len(events)} of {count} presence events came on {channel}"
    )


async def presence_events(client: str, channel: str) -> list[list[str]]:
    return clients[client].presence[channel]


async def members(client: str, channel: str) -> list[list[str]]:
    found = await clients[client].realtime.channels.get(channel).presence.get()
    return sorted([member.client_id, text_of(member.data or "")] for member in found)


async def await_count(client: str, channel: str, count: int, timeout: int) -> None:  # noqa: ASYNC109
    entry = clients[client]
    received = entry.received[channel]
    await entry.until(
        lambda: len(received) >= count, timeout, lambda: f"{len(received)} of {count} messages arrived on {channel}"
    )


async def summary(client: str, channel: str) -> dict[str, Any]:
    texts = [text_of(message.data) for message in clients[client].received[channel]]
    digest = hashlib.sha256("".join(f"{text}\n" for text in texts).encode())
    return {"count": len(texts), "sha256": digest.hexdigest()}


async def received(client: str, channel: str) -> list[dict[str, Any]]:
    return [
        {
            "id": message.id,
            "name": message.name,
            "data": text_of(message.data),
            "clientId": message.client_id,
            "connectionId": message.connection_id,
            "timestamp": message.timestamp,
            "serial": message.serial,
            "extras": message.extras,
        }
        for message in clients[client].received[channel]
    ]


async def close(client: str) -> None:
    await clients.pop(client).realtime.close()


COMMANDS: dict[str, Callable[..., Any]] = {
    "connect": connect,
    "state": state,
    "awaitState": await_state,
    "rest": rest,
    "attach": attach,
    "detach": detach,
    "continuity": continuity,
    "publish": publish,
    "present": present,
    "watchPresence": watch_presence,
    "awaitPresence": await_presence,
    "presenceEvents": presence_events,
    "members": members,
    "awaitCount": await_count,
    "summary": summary,
    "received": received,
    "close": close,
}


def answer(reply: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


async def obey(command: dict[str, Any]) -> None:
    number = command.pop("n")
    try:
        answer({"n": number, "result": await COMMANDS[command.pop("op")](**command)})
    except AblyException as error:
        failure = {"message": str(error), "code": error.code, "statusCode": error.status_code}
        answer({"n": number, "error": failure})
    except Exception as error:
        answer({"n": number, "error": {"message": f"{type(error).__name__}: {error}"}})


async def main() -> None:
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    answer({"ready": True})
    running = set()
    while line := await lines.readline():
        task = asyncio.create_task(obey(json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)


asyncio.run(main())
