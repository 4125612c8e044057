"""Published SDKs under remote control, so that a test in Python reads the same whatever client it is about.

An `AgentHost` is one process (Node, Chromium or Python) that holds many clients; an `Agent` is one client. Commands and
answers are JSON lines. A command that the SDK refuses raises `AgentError` with the SDK's code; one that is not answered
in time raises `TimeoutError`. The process ends with its host.
"""

import asyncio
import hashlib
import itertools
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from tests.support.certificates import Certificates

__all__ = ["Agent", "AgentError", "AgentHost", "Kind", "Summary", "agents", "digest", "install_clients", "json_lines"]

CLIENTS = Path(__file__).parent.parent / "clients"
ANSWER_S = 60  # the longest that a command may take; those that wait carry their own, shorter time
LINE_MAX = 1 << 28  # bytes of one answer: a list of 100,000 messages fits

Kind = Literal["node", "browser", "python"]


class AgentError(Exception):
    """The SDK refused. `code` is its number, None when it gave none."""

    def __init__(self, message: str, code: int | None) -> None:
        super().__init__(f"{message} (code {code})")
        self.code = code


@dataclass(frozen=True, slots=True)
class Summary:
    """What a channel received: how many, and the SHA-256 of the texts, each followed by a newline (see `digest`)."""

    count: int
    sha256: str


def digest(texts: Iterable[str]) -> Summary:
    """The summary that a channel with exactly these messages, in this order, must have."""
    hashed, count = hashlib.sha256(), 0
    for text in texts:
        hashed.update(text.encode() + b"\n")
        count += 1
    return Summary(count, hashed.hexdigest())


def install_clients() -> None:
    """Fetches the pinned packages of tests/clients, once."""
    wanted = json.loads((CLIENTS / "package.json").read_text())["dependencies"]
    if all(_installed(name) == version for name, version in wanted.items()):
        return
    done = subprocess.run(["npm", "install", "--no-save"], cwd=CLIENTS, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"npm install in {CLIENTS} failed:\n{done.stderr}")


def _installed(name: str) -> str | None:
    try:
        version = json.loads((CLIENTS / "node_modules" / name / "package.json").read_text())["version"]
    except FileNotFoundError:
        return None
    return str(version)


class LineProcess:
    """A process that answers JSON lines; many commands may be under way at once."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._reader = asyncio.create_task(self._read())

    @property
    def pid(self) -> int:
        return self._process.pid

    async def ask(self, op: str, **arguments: Any) -> Any:
        """Sends a command and returns its result."""
        number = next(self._numbers)
        answer = self._waiting[number] = asyncio.get_running_loop().create_future()
        assert self._process.stdin is not None
        line = json.dumps({"n": number, "op": op, **arguments})
        self._process.stdin.write(line.encode() + b"\n")
        try:
            await self._process.stdin.drain()
            return await asyncio.wait_for(answer, ANSWER_S)
        finally:
            self._waiting.pop(number, None)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            reply = json.loads(line)
            waiting = self._waiting.get(reply.get("n"))
            if waiting is None or waiting.done():
                continue
            if "error" in reply:
                waiting.set_exception(AgentError(reply["error"]["message"], reply["error"].get("code")))
            else:
                waiting.set_result(reply["result"])
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(RuntimeError("the agent's process has ended"))

    async def stop(self) -> None:
        """Ends the process: asks by closing its input, insists after a while."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 10)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
        await self._reader
        with suppress(ConnectionError):
            await self._process.stdin.wait_closed()


@asynccontextmanager
async def json_lines(*command: str, authority: Path | None = None) -> AsyncIterator[LineProcess]:
    """Runs a command of tests/clients for the length of the block; returns once it is ready.

    `authority` is a PEM file of whom it trusts besides.
    """
    trusted = {} if authority is None else {"SSL_CERT_FILE": str(authority), "NODE_EXTRA_CA_CERTS": str(authority)}
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=CLIENTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        limit=LINE_MAX,
        env={**os.environ, "PYTHONPATH": str(CLIENTS.parent.parent), **trusted},
    )
    assert process.stdout is not None
    try:
        ready = await asyncio.wait_for(process.stdout.readline(), ANSWER_S)
    except BaseException:
        process.kill()
        await process.wait()
        raise
    if not ready:
        raise RuntimeError(f"{' '.join(command)} ended before it was ready, with status {await process.wait()}")
    lines = LineProcess(process)
    try:
        yield lines
    finally:
        await lines.stop()


class AgentHost:
    """One process with many clients. Made by `agents`."""

    def __init__(self, kind: Kind, lines: LineProcess, transports: Sequence[str] = ()) -> None:
        self.kind = kind
        self._lines = lines
        self._transports = transports
        self._names = itertools.count(1)
        self._open: set[Agent] = set()

    @property
    def pid(self) -> int:
        """The process; with `browser` the one that drives Chromium."""
        return self._lines.pid

    async def ask(self, op: str, **arguments: Any) -> Any:
        """One command to the agents of this process."""
        if self.kind != "browser":
            return await self._lines.ask(op, **arguments)
        call = {"op": op, **arguments}
        return await self._lines.ask("agent", page="agents", argument=call)

    async def connect(self, url: str, key: str, format: str = "json", *, wait: bool = True, **options: Any) -> "Agent":  # noqa: A002
        """A new client of the server at `url`. Unless told not to `wait`, it is connected when this returns.

        `options`: `clientId`; `tokens=[...]` to show in the key's place, one after another and the last for ever; and
        `options={...}` for more of the SDK's own (JavaScript only).
        """
        address = urlsplit(url)
        if self._transports:
            options["options"] = {"transports": self._transports, **options.get("options", {})}
        agent = Agent(self, f"client{next(self._names)}")
        self._open.add(agent)
        tls = address.scheme == "https"
        await agent.ask("connect", host=address.hostname, port=address.port, tls=tls, key=key, format=format, **options)
        if wait:
            await agent.await_state("connected")
        return agent

    def forget(self, agent: "Agent") -> None:
        """A client has been closed."""
        self._open.discard(agent)

    async def close_all(self) -> None:
        """Closes every client that is still there; the process stays."""
        while self._open:
            await self._open.pop().close()


class Agent:
    """One client of a published SDK. Times are in seconds."""

    def __init__(self, host: AgentHost, name: str) -> None:
        self._host = host
        self._name = name

    async def ask(self, op: str, **arguments: Any) -> Any:
        """One command to this client; for what has no method here."""
        return await self._host.ask(op, client=self._name, **arguments)

    async def attach(
        self, channel: str, *, rewind: int | str | None = None, modes: Sequence[str] | None = None, **params: str
    ) -> Self:
        """Subscribes, and waits until the server has attached the channel."""
        if rewind is not None:
            params["rewind"] = str(rewind)
        await self.ask("attach", channel=channel, params=params or None, modes=modes)
        return self

    async def detach(self, channel: str) -> None:
        await self.ask("detach", channel=channel)

    async def publish(self, channel: str, *data: Any, pipelined: bool = False, **fields: Any) -> list[str]:
        """Publishes each of `data` and waits for the acknowledgements; returns the serials. Bytes are bytes."""
        payloads = [{"hex": item.hex()} if isinstance(item, bytes) else item for item in data]
        messages = [{"data": item, **fields} for item in payloads]
        serials: list[str] = await self.ask("publish", channel=channel, messages=messages, pipelined=pipelined)
        return serials

    async def received(self, channel: str) -> list[dict[str, Any]]:
        """Everything that came, in order: id, name, data as text (bytes in hex), clientId, connectionId, …"""
        messages: list[dict[str, Any]] = await self.ask("received", channel=channel)
        return messages

    async def present(self, channel: str, action: str, data: Any = None, *, who: str | None = None) -> None:
        """Enters, updates or leaves (`action`), as itself or as `who`."""
        named = {} if who is None else {"as_": who} if self._host.kind == "python" else {"as": who}
        await self.ask("present", channel=channel, action=action, data=data, **named)

    async def members(self, channel: str) -> list[tuple[str, str]]:
        """Who is present, once the SDK has the whole set: client id and data, in their order."""
        return [(client_id, data) for client_id, data in await self.ask("members", channel=channel)]

    async def watch_presence(self, channel: str) -> Self:
        """From now on keeps what it is told of presence."""
        await self.ask("watchPresence", channel=channel)
        return self

    async def presence_events(self, channel: str) -> list[tuple[str, str, str]]:
        """What it was told since: action, client id and data of each."""
        events = await self.ask("presenceEvents", channel=channel)
        return [(action, client_id, data) for action, client_id, data in events]

    async def await_presence(self, channel: str, count: int, timeout: float = 30) -> None:  # noqa: ASYNC109
        """Returns once it was told so many presence events; raises AgentError that says how many came."""
        await self.ask("awaitPresence", channel=channel, count=count, timeout=int(timeout * 1000))

    async def texts(self, channel: str) -> list[str]:
        """The data of everything that came, as text."""
        return [message["data"] for message in await self.received(channel)]

    async def summary(self, channel: str) -> Summary:
        """Count and hash of everything that came, without carrying it over."""
        return Summary(**await self.ask("summary", channel=channel))

    async def await_count(self, channel: str, count: int, timeout: float = 20) -> None:  # noqa: ASYNC109
        """Returns once at least `count` messages have come; raises AgentError that says how many did."""
        await self.ask("awaitCount", channel=channel, count=count, timeout=int(timeout * 1000))

    async def state(self) -> dict[str, Any]:
        """`state`, `connectionId`, `code` of the last error, and `events`: every state so far with its code."""
        state: dict[str, Any] = await self.ask("state")
        return state

    async def await_state(self, state: str, timeout: float = 20) -> None:  # noqa: ASYNC109
        """Returns once the connection is in a state; raises AgentError that says which one it is in."""
        await self.ask("awaitState", state=state, timeout=int(timeout * 1000))

    async def continuity(self, channel: str) -> list[bool]:
        """For each ATTACHED that the SDK told of: whether the server resumed the channel."""
        resumed: list[bool] = await self.ask("continuity", channel=channel)
        return resumed

    async def history(self, channel: str, **params: Any) -> list[list[str]]:
        """The data of the channel's history, page by page. Not in Python: its SDK cannot address a port there."""
        pages: list[list[str]] = await self.ask("history", channel=channel, params=params)
        return pages

    async def close(self) -> None:
        self._host.forget(self)
        await self.ask("close")


@asynccontextmanager
async def agents(
    kind: Kind, certificates: Certificates | None = None, transports: Sequence[str] = ()
) -> AsyncIterator[AgentHost]:
    """A process of that kind for the length of the block; with `certificates` it trusts their authority.

    `transports` are those of the SDK that its clients use, if not its own choice (JavaScript only).
    """
    authority = certificates.authority if certificates is not None else None
    if kind == "python":
        async with json_lines(sys.executable, "python_agent.py", authority=authority) as lines:
            yield AgentHost(kind, lines)
        return
    install_clients()
    script = "node_agent.mjs" if kind == "node" else "browser.mjs"
    async with json_lines("node", script, authority=authority) as lines:
        if kind == "browser":
            await lines.ask("openAgent", page="agents")
        yield AgentHost(kind, lines, transports)
