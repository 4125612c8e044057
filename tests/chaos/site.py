"""What chaos happens to: a Kafka cluster of three nodes and some fanout nodes on it, all processes of their own."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from tests.support.broker import Kafka, running
from tests.support.node import NodeProcess, free_port, node_process

__all__ = ["BROKERS", "Site", "site"]

BROKERS = 3
SECRET = "chaos chaos chaos chaos"
REQUEST_S = 10
SETTLED_S = 90  # a cluster of which all were killed, on a machine full of work


@dataclass
class Site:
    """A running site. The cluster obeys one command at a time."""

    kafka: Kafka
    nodes: list[NodeProcess]
    mqtt_urls: tuple[str, ...]
    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(node.url for node in self.nodes)

    async def brokers(self, command: Callable[..., None], *numbers: int) -> None:
        """One command of `Kafka` to some of its nodes, one after another."""
        async with self._turn:
            for number in numbers:
                await asyncio.to_thread(command, number)

    async def restart_brokers(self, *numbers: int) -> None:
        """Starts them, all at once, and waits until they serve."""
        async with self._turn:
            await asyncio.to_thread(self.kafka.restart, *numbers)

    async def leader(self, topic: str, dice: random.Random) -> int:
        """The broker that leads some partition of the topic."""

        def look() -> list[int]:
            told: Any = AdminClient({**self.kafka.client, "log_level": 2}).list_topics(topic, timeout=REQUEST_S)
            return [partition.leader for partition in told.topics[topic].partitions.values()]

        async with asyncio.timeout(SETTLED_S):
            while True:
                with contextlib.suppress(KafkaException, KeyError):  # what was restarted is still busy with that
                    if leaders := [leader for leader in await asyncio.to_thread(look) if 1 <= leader <= BROKERS]:
                        return dice.choice(leaders)
                await asyncio.sleep(1)


@asynccontextmanager
async def site(directory: Path, nodes: int, *options: str) -> AsyncIterator[Site]:
    """A fresh site for the length of the block; `options` are more of `fanout serve`."""
    async with AsyncExitStack() as stack:
        kafka = stack.enter_context(running(nodes=BROKERS))
        made, mqtt_urls = [], []
        for number in range(nodes):
            own = directory / str(number)
            own.mkdir()
            port = free_port()
            arguments = ("--kafka", kafka.bootstrap, "--secret", SECRET, "--mqtt-port", str(port), *options)
            made.append(await stack.enter_async_context(node_process(own, *arguments)))
            mqtt_urls.append(f"mqtt://127.0.0.1:{port}")
        yield Site(kafka, made, tuple(mqtt_urls))
