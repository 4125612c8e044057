"""A client of streams that knows as much of HTTP as it takes to be sure of every byte."""

import asyncio
import json
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlencode

__all__ = ["Event", "StreamClient", "get"]

WAIT_S = 20


@dataclass
class Event:
    """One event; `data` is None where a block has an id alone."""

    id: str | None = None
    kind: str = "message"
    data: str | None = None

    @property
    def json(self) -> Any:
        assert self.data is not None
        return json.loads(self.data)


@dataclass
class StreamClient:
    """One stream; use it with `async with`. `last_id` is that of the newest whole event, as EventSource has it."""

    port: int
    path: str = "/sse"
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    last_id: str = ""
    status: int = 0
    head: str = ""
    comments: int = 0
    ended: bool = False
    _text: str = ""
    _chunks: bytes = b""

    async def __aenter__(self) -> Self:
        self._reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port)
        shown = {} if "accessToken" in self.query else {"key": "app.key:secret"}
        query = urlencode({"v": "3"} | shown | self.query)
        fields = "".join(f"{name}: {value}\r\n" for name, value in self.headers.items())
        self.writer.write(f"GET {self.path}?{query} HTTP/1.1\r\nhost: x\r\n{fields}\r\n".encode())
        async with asyncio.timeout(WAIT_S):
            self.head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        self.status = int(self.head.split()[1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    async def body(self) -> Any:
        """Of a refusal."""
        size = int(self.head.partition("content-length: ")[2].split()[0])
        return json.loads(await self._reader.readexactly(size))

    async def text(self) -> str:
        """What comes next, without its chunks; empty at the end, which is a last chunk or a broken connection."""
        data = await self._reader.read(1 << 16)
        self.ended |= not data
        self._chunks += data
        out = ""
        while b"\r\n" in self._chunks:
            head, _, rest = self._chunks.partition(b"\r\n")
            size = int(head, 16)
            if len(rest) < size + 2:
                break
            assert rest[size : size + 2] == b"\r\n"
            self.ended |= size == 0
            out += rest[:size].decode()
            self._chunks = rest[size + 2 :]
        return out

    async def event(self) -> Event | None:
        """The next block or line that says anything; None at the end."""
        async with asyncio.timeout(WAIT_S):
            while True:
                end = "\n" if self.path == "/event-stream" else "\n\n"
                while end not in self._text:
                    if self.ended:
                        return None
                    self._text += await self.text()
                block, _, self._text = self._text.partition(end)
                event = self._line(block) if end == "\n" else self._block(block)
                if event is not None:
                    self.last_id = self.last_id if event.id is None else event.id
                    return event
                self.comments += 1

    async def messages(self, count: int) -> list[Event]:
        """So many events that are not ids alone."""
        found: list[Event] = []
        while len(found) < count:
            event = await self.event()
            assert event is not None, "the stream has ended"
            if event.data is not None:
                found.append(event)
        return found

    @staticmethod
    def _line(line: str) -> Event | None:
        if not line:
            return None
        value = json.loads(line)
        data = json.dumps(value["data"]) if "data" in value else None
        return Event(value.get("id"), value.get("event", "message"), data)

    @staticmethod
    def _block(block: str) -> Event | None:
        event, data = Event(), []
        for line in block.split("\n"):
            name, _, value = line.partition(": ")
            if name == "id":
                event.id = value
            elif name == "event":
                event.kind = value
            elif name == "data":
                data.append(value)
            else:
                assert line.startswith(":"), f"no field: {line!r}"
        event.data = "\n".join(data) if data else None
        return None if event == Event() else event


async def get(port: int, query: dict[str, str], path: str = "/sse", **headers: str) -> tuple[int, Any]:
    """The refusal of a stream: its status, and its body."""
    async with StreamClient(port, path, query, headers) as client:
        return client.status, await client.body()
