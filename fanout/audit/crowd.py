"""Who takes part in an audit: subscribers that keep what they are given, publishers that keep what they are told.

Each message of a publisher is another text, so that it is known in the log without its id. Everything belongs to the
event loop.
"""

import asyncio
import itertools
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fanout.audit.client import Client
from fanout.audit.publishes import Publish
from fanout.audit.returning import Refused
from fanout.audit.transports import QUERY, follower
from fanout.audit.views import Catalogue, View, received

__all__ = ["Publisher", "Subscriber"]

IN_FLIGHT_MAX: Final = 1_000  # publishes of one publisher; the next waits


class Subscriber:
    """A client that follows some channels, and its view of each."""

    def __init__(
        self,
        transport: str,
        number: int,
        urls: Sequence[str],
        key: str,
        catalogues: Mapping[str, Catalogue],
        receive_buffer: int | None = None,
    ) -> None:
        """`number` is its own among those of its transport; `catalogues` has its channels; `receive_buffer` is its
        socket's, in bytes.
        """
        self.views = {channel: View(catalogue) for channel, catalogue in catalogues.items()}
        self.client = follower(
            transport,
            number,
            urls,
            key,
            receive_buffer=receive_buffer,
            on_message=self._on_message,
            on_gap=self._on_gap,
        )

    @property
    def delivered(self) -> int:
        """Messages that came so far."""
        return sum(len(view.numbers) for view in self.views.values())

    async def join(self) -> None:
        """Connects and follows its channels. Raises as `Follower.follow`."""
        await self.client.follow(self.views)

    def _on_message(self, channel: str, message: dict[str, Any]) -> None:
        taken = received(message)
        self.client.story.given(channel, taken.text)
        self.views[channel].take(taken)

    def _on_gap(self, channel: str, code: int | None) -> None:
        self.client.story.tell(f"gap {code} in {channel}, behind {len(self.views[channel].numbers)}")
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
