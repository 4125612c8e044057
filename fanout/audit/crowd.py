"""Who takes part in an audit: subscribers that keep what they are given, publishers that keep what they are told.

Each message of a publisher is another text, so that it is known in the log without its id. Everything belongs to the
event loop.
"""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fanout.audit.client import Client, Refused
from fanout.audit.publishes import Publish
from fanout.audit.views import Catalogue, View, received

__all__ = ["Publisher", "Subscriber"]

IN_FLIGHT_MAX: Final = 1_000  # publishes of one publisher; the next waits
QUERY: Final = {"heartbeatInterval": "5000"}  # the shortest: a frozen node is noticed soon


class Subscriber:
    """A client that is attached to some channels, and its view of each."""

    def __init__(
        self,
        urls: Sequence[str],
        key: str,
        wire: str,
        catalogues: Mapping[str, Catalogue],
        receive_buffer: int | None = None,
    ) -> None:
        """`catalogues` has its channels; `receive_buffer` is its socket's, in bytes."""
        self.views = {channel: View(catalogue) for channel, catalogue in catalogues.items()}
        self.client = Client(
            urls,
            key,
            wire,
            query=QUERY,
            receive_buffer=receive_buffer,
            on_message=self._on_message,
            on_gap=self._on_gap,
        )

    async def join(self) -> None:
        """Connects and attaches. Raises as `Client.connect` and `Client.attach`."""
        await self.client.connect()
        for channel in self.views:
            await self.client.attach(channel)

    def _on_message(self, channel: str, message: dict[str, Any]) -> None:
        self.views[channel].take(received(message))

    def _on_gap(self, channel: str, code: int | None) -> None:
        self.views[channel].gap(code)


class Publisher:
    """A client that publishes to all channels in turn."""

    def __init__(self, name: str, urls: Sequence[str], key: str, wire: str, channels: Sequence[str], size: int) -> None:
        """Payloads are padded to `size` bytes."""
        self.name = name
        self.client = Client(urls, key, wire, query=QUERY)
        self.publishes: list[Publish] = []
        self._channels = itertools.cycle(channels)
        self._size = size
        self._room = asyncio.Semaphore(IN_FLIGHT_MAX)
        self._waiting: set[asyncio.Task[None]] = set()

    async def run(self, rate: float, stop: asyncio.Event) -> None:
        """Publishes so many messages a second until it is to `stop`; what it could not say in time it does not say."""
        due = time.monotonic()
        while not stop.is_set():
            await self.publish(next(self._channels))
            due = max(due + 1 / rate, time.monotonic() - 1)
            if (wait := due - time.monotonic()) > 0:
                await asyncio.sleep(wait)

    async def burst(self, count: int) -> None:
        """Publishes so many messages at once, and does not wait for their answers."""
        for channel in itertools.islice(self._channels, count):
            await self.publish(channel)

    async def publish(self, channel: str) -> Publish:
        """Publishes one message as soon as there is room, and does not wait for its answer."""
        await self._room.acquire()
        text = f"{self.name} {len(self.publishes)} ".ljust(self._size, ".")
        publish = Publish(self.name, channel, text)
        self.publishes.append(publish)
        task = asyncio.get_running_loop().create_task(self._publish(publish))
        self._waiting.add(task)
        task.add_done_callback(self._waiting.discard)
        return publish

    async def answered(self, patience_s: float) -> None:
        """Waits until every publish has its answer, for so long at most."""
        if self._waiting:
            await asyncio.wait(self._waiting, timeout=patience_s)

    async def _publish(self, publish: Publish) -> None:
        def sent() -> None:
            publish.sent += 1
            publish.last_sent_ms = time.time_ns() // 1_000_000

        try:
            (publish.serial,) = await self.client.publish(publish.channel, {"data": publish.text}, sent=sent)
        except Refused as problem:
            publish.code = problem.code
        finally:
            self._room.release()
