"""One audit: subscribers and publishers on channels of its own, and at the end the log is the judge.

Everything belongs to the event loop; the log is read by a thread.
"""

import asyncio
import itertools
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Self

from picows import WSError

from fanout.audit.crowd import Publisher, Subscriber
from fanout.audit.expected import Expected, by_channel, expect
from fanout.audit.log import Log
from fanout.audit.report import Clients, Report, judge
from fanout.audit.returning import Refused
from fanout.audit.transports import TRANSPORTS, WIRES, Follower
from fanout.audit.views import Catalogue, View
from fanout.errors import SourceError

__all__ = ["Audit", "Plan", "run", "tell"]

JOINING_MAX: Final = 50  # subscribers that join at once
TEND_S: Final = 1.0
LOOK_S: Final = 0.25
TELL_S: Final = 10.0
AGAIN_S: Final = 2.0  # between two judgements while something is still missing


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Who takes part, on which nodes, and how much is published."""

    urls: tuple[str, ...]
    key: str
    channels: int = 20
    subscribers: int = 100
    attachments: int = 5
    """Channels of each subscriber."""
    publishers: int = 5
    rate: float = 50.0
    """Messages a second of all publishers together."""
    size: int = 100
    """Bytes of a payload."""
    transports: tuple[str, ...] = ("websocket",)
    """Of `TRANSPORTS`, dealt to the subscribers in turn. Publishers speak WebSocket."""
    mqtt_urls: tuple[str, ...] = ()
    """Of the nodes' ports for MQTT."""
    receive_buffer: int | None = None
    """Bytes of each subscriber's socket; a small one shows soon that its client does not read."""


class Audit:
    """An audit under way: enter it, `publish` for a while, `finish`. Leaving it closes every client."""

    def __init__(self, plan: Plan, log: Log, topics: tuple[str, ...]) -> None:
        """`log` begins no later than now, and has the `topics` that the nodes publish to."""
        self._plan = plan
        self._log = log
        run = f"audit:{secrets.token_hex(4)}"
        self._routes = dict.fromkeys(topics, by_channel(f"{run}:"))
        self.catalogues = {f"{run}:{number}": Catalogue() for number in range(plan.channels)}
        names = list(self.catalogues)
        self.subscribers = [self._subscriber(number) for number in range(plan.subscribers)]
        self.publishers = [
            Publisher(
                f"p{number}",
                _turned(plan.urls, number),
                plan.key,
                WIRES[number % 2],
                _shifted(names, number),
                plan.size,
            )
            for number in range(plan.publishers)
        ]
        self._tending: asyncio.Task[None] | None = None

    def _subscriber(self, number: int) -> Subscriber:
        plan = self._plan
        transports = plan.transports
        transport, own_number = transports[number % len(transports)], number // len(transports)
        urls = _turned(plan.mqtt_urls if transport == "mqtt" else plan.urls, number)
        chosen = self._chosen(number, min(plan.attachments, plan.channels, TRANSPORTS[transport]))
        return Subscriber(transport, own_number, urls, plan.key, chosen, plan.receive_buffer)

    def _chosen(self, number: int, count: int) -> dict[str, Catalogue]:
        """So many channels for a subscriber, so that each channel has as many subscribers as every other."""
        chosen = itertools.islice(itertools.cycle(self.catalogues.items()), number * count % self._plan.channels, None)
        return dict(itertools.islice(chosen, count))

    @property
    def clients(self) -> Iterator[Follower]:
        """All of them."""
        yield from (subscriber.client for subscriber in self.subscribers)
        yield from (publisher.client for publisher in self.publishers)

    @property
    def delivered(self) -> int:
        """Messages that came so far."""
        return sum(subscriber.delivered for subscriber in self.subscribers)

    async def __aenter__(self) -> Self:
        """Connects everybody and attaches all channels. Raises Refused, OSError or picows' WSError."""
        room = asyncio.Semaphore(JOINING_MAX)

        async def join(subscriber: Subscriber) -> None:
            async with room:
                await subscriber.join()

        try:
            async with asyncio.TaskGroup() as joining:
                for subscriber in self.subscribers:
                    joining.create_task(join(subscriber))
            for publisher in self.publishers:
                await publisher.client.connect()
        except BaseException:
            await self._close()
            raise
        self._tending = asyncio.create_task(self._tend())
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes every client."""
        if self._tending is not None:
            self._tending.cancel()
            with suppress(asyncio.CancelledError):
                await self._tending
        await self._close()

    async def publish(self, stop: asyncio.Event) -> None:
        """Publishes until it is to `stop`."""
        rate = self._plan.rate / max(1, len(self.publishers))
        async with asyncio.TaskGroup() as publishing:
            for publisher in self.publishers:
                publishing.create_task(publisher.run(rate, stop))

    async def finish(self, patience_s: float) -> Report:
        """Publishes one last message to every channel, waits until everybody has what is due, and judges.

        Waits for answers, and then for what is missing, so long at most. Raises SourceError when the log cannot be
        read.
        """
        await self._answered(patience_s)
        last = await self._close_channels(patience_s)
        deadline = time.monotonic() + patience_s
        while True:
            while not self._have(last) and time.monotonic() < deadline:  # noqa: ASYNC110  a look is cheap
                await asyncio.sleep(LOOK_S)
            expected = await asyncio.to_thread(self._read)
            began = time.monotonic()
            report = self._judge(expected)
            if not report.differences["lost"] or time.monotonic() > deadline:
                return report
            # Judging keeps the loop: clients that were cut meanwhile have to come back before the next time.
            await asyncio.sleep(AGAIN_S + time.monotonic() - began)

    async def _answered(self, patience_s: float) -> None:
        await asyncio.gather(*(publisher.answered(patience_s) for publisher in self.publishers))

    async def _close_channels(self, patience_s: float) -> dict[str, str]:
        """The text of the last message by channel, as far as one was acknowledged."""
        publisher = self.publishers[0]
        publishes = [await publisher.publish(channel) for channel in self.catalogues]
        await publisher.answered(patience_s)
        return {publish.channel: publish.text for publish in publishes if publish.serial is not None}

    def _have(self, last: dict[str, str]) -> bool:
        return all(
            bool(view.numbers) and view.catalogue.message(view.numbers[-1]).text == last.get(channel)
            for subscriber in self.subscribers
            for channel, view in subscriber.views.items()
        )

    def _read(self) -> Expected:
        return expect(self._log.read(), self._routes)

    def _judge(self, expected: Expected) -> Report:
        views: dict[str, list[tuple[str, View]]] = {channel: [] for channel in self.catalogues}
        for number, subscriber in enumerate(self.subscribers):
            for channel, view in subscriber.views.items():
                views[channel].append((f"subscriber {number}", view))
        publishes = (publish for publisher in self.publishers for publish in publisher.publishes)
        report = judge(self._fared(), publishes, expected, views, self.catalogues)
        clients = {f"subscriber {number}": subscriber.client for number, subscriber in enumerate(self.subscribers)}
        publishing = {f"publisher {publisher.name}": publisher.client for publisher in self.publishers}
        report.wanted |= {name: "not resumed" for name, client in publishing.items() if client.refusals}
        stories = {name: client.story for name, client in (clients | publishing).items()}
        report.stories += [f"{name}, {why}:\n{stories[name]}" for name, why in report.wanted.items()]
        return report

    def _fared(self) -> Clients:
        fared = Clients(len(self.subscribers), len(self.publishers))
        for client in self.clients:
            fared.connections += client.connections
            fared.refusals += client.refusals
            fared.errors += client.errors
            if client.refused is not None:
                fared.ended.append(str(client.refused))
        return fared

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND_S)
            for client in self.clients:
                client.tend()

    async def _close(self) -> None:
        await asyncio.gather(*(client.close() for client in self.clients))


async def run(
    plan: Plan,
    opened: Callable[[], Log],
    topics: tuple[str, ...],
    seconds: float,
    patience_s: float,
    say: Callable[[str], object],
) -> Report:
    """A whole audit: publishes for so many `seconds`, and says now and then how far it is.

    `opened` opens the log, and may block. Raises SourceError when that cannot be read, or a client cannot join.
    """
    log = await asyncio.to_thread(opened)
    try:
        async with Audit(plan, log, topics) as audit:
            stop = asyncio.Event()
            asyncio.get_running_loop().call_later(seconds, stop.set)
            telling = asyncio.create_task(tell(audit, say))
            await audit.publish(stop)
            report = await audit.finish(patience_s)
            telling.cancel()
            return report
    except* (Refused, OSError, WSError) as problems:
        raise SourceError(f"a client could not join: {problems.exceptions[0]}") from problems
    finally:
        log.close()


async def tell(audit: Audit, say: Callable[[str], object]) -> None:
    """Says now and then how far it is, until it is cancelled."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(TELL_S)
        published = sum(len(publisher.publishes) for publisher in audit.publishers)
        away = sum(not client.is_connected for client in audit.clients)
        took = time.monotonic() - began
        say(f"{took:6.1f} s  {published:,} published, {audit.delivered:,} delivered, {away:,} away")


def _turned(urls: tuple[str, ...], number: int) -> tuple[str, ...]:
    """The same urls, beginning with another one for each client."""
    first = number % len(urls)
    return urls[first:] + urls[:first]


def _shifted(names: list[str], number: int) -> list[str]:
    """The same channels, beginning elsewhere, so that publishers do not go hand in hand."""
    first = number * 7 % len(names)
    return names[first:] + names[:first]
