"""A node that the benchmarks feed: `fanout.Server`, unchanged, over a source that makes its records up.

    python -m benchmarks.node [--channels N] [--payload BYTES]      records from memory
    python -m benchmarks.node --kafka HOST:PORT --topic NAME        records from a topic

`--watch-loop` looks at the event loop, `--linger MS` holds messages and `--history TIME` keeps them so long, like the
node's own options. All have one secret: a position of one is good on the next.

Prints `{"port":…,"mqtt_port":…,"key":…}`, then answers each line with one of JSON; ends when standard input does:

- `send COUNT BATCH`: COUNT messages to each channel, handed to the node BATCH records at a time. The n-th message of a
  channel is `n SENT_US xxx`.
- `trickle COUNT INTERVAL_MS`: COUNT messages to one channel more, `load-N` after N channels, one every INTERVAL_MS;
  answered at once, while `send` goes on beside it.
- `stats`: the node's counters; with `--kafka` also how many `reads` and other `questions` it has put to the log beside
  what it reads anyway.
- `position CHANNEL`: where the channel stands.
- `stall`: with `--watch-loop`, how late the event loop was since the last time.
- `read COUNT`: with `--kafka`, waits until COUNT records were read; how long that took from the first look that found
  some, in wall and CPU time. It looks from the start of the node on, and `stall` begins anew there.

Publishing over REST or WebSocket would cost the measured process parsing, sessions and acknowledgements; a Kafka topic
would cost it librdkafka's threads. Here the way from the source's contract to the sockets is measured, and nothing
before it; making up a record costs about a microsecond, once per message, however many receive it.
"""

import argparse
import asyncio
import json
import sys
import threading
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar, NamedTuple, TypeVar

import uvloop

from fanout import Config, Server
from fanout.cli.foreground import tune_interpreter
from fanout.errors import SourceError
from fanout.sources import kafka
from fanout.sources.base import Done, Health, NewRecord, Sink, Slice
from fanout.sources.kafka import KafkaSource
from fanout.types import Record
from tests.support.sources import NeverReadBack

KEY = "bench.key:secret"
SECRET = "of all nodes of the benchmarks"
TOPIC = "bench"
WATCH_S = 0.005  # between two looks at the event loop
LOOK_S = 0.002  # between two looks at how much was read

Answer = TypeVar("Answer")


class MemorySource(NeverReadBack):
    """A `fanout.sources.base.Source` that holds nothing and reads what it is told to make up."""

    def __init__(self, channels: int, payload: int) -> None:
        self._keys = [f"load-{channel}".encode() for channel in range(channels)]
        self._aside = f"load-{channels}".encode()
        self._payload = payload
        self._sink: Sink
        self._one_at_a_time = threading.Lock()  # as the sink is promised
        self._next = 0  # sequence number, the same in every channel
        self._trickled = 0  # of the channel aside

    async def start(
        self,
        sink: Sink,
        topics: Sequence[str],
        history_ms: int,
        state_topics: Sequence[str] = (),
        on_demand: Sequence[str] = (),
    ) -> None:
        self._sink = sink
        sink.partition(TOPIC, bytes(16), 0, 0)
        sink.partition(TOPIC, bytes(16), 1, 0)
        sink.ready()

    def send(self, count: int, batch: int) -> int:
        """Delivers `count` messages to each channel. Returns the next number."""
        waiting: list[Record] = []
        for number in range(self._next, self._next + count):
            for index, key in enumerate(self._keys):
                waiting.append(self._record(0, number * len(self._keys) + index, key, number))
                if len(waiting) == batch:
                    self._deliver(waiting)
                    waiting = []
        if waiting:
            self._deliver(waiting)
        self._next += count
        return self._next

    def trickle(self, count: int, interval_ms: int) -> int:
        """Delivers so many, one by one, to the channel beside those; on a thread of its own, from a second partition.

        Returns the number after the last at once.
        """
        numbers = range(self._trickled, self._trickled + count)
        self._trickled += count

        def run() -> None:
            begun = time.monotonic()
            for index, number in enumerate(numbers):
                time.sleep(max(0.0, begun + index * interval_ms / 1000 - time.monotonic()))
                self._deliver([self._record(1, number, self._aside, number)])

        threading.Thread(target=run, name="bench-trickle", daemon=True).start()
        return self._trickled

    def _record(self, partition: int, offset: int, key: bytes, number: int) -> Record:
        value = b"%d %d " % (number, time.monotonic_ns() // 1000)
        now_ms = time.time_ns() // 1_000_000
        return Record(TOPIC, partition, offset, -1, now_ms, key, value.ljust(self._payload, b"x"), None)

    def _deliver(self, records: list[Record]) -> None:
        with self._one_at_a_time:
            self._sink.records(records)

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        raise SourceError("clients of a benchmark only read")

    def health(self) -> Health:
        return Health(True, "")

    def lag(self) -> dict[tuple[str, int], int]:
        return {}

    async def stop(self) -> None:
        pass


class CountedSource(KafkaSource):
    """The node's own source, which counts what the log is asked beside what is read anyway."""

    asked: ClassVar = {"reads": 0, "questions": 0}

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        self.asked["reads"] += 1
        return await super().read(topic, partition, start, stop)

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        self.asked["questions"] += 1
        return await super().bounds(topic, partitions)

    async def since(self, topic: str, timestamp: int, partitions: Collection[int] | None = None) -> dict[int, int]:
        self.asked["questions"] += 1
        return await super().since(topic, timestamp, partitions)


class LoopWatch:
    """How late the event loop is, looked at two hundred times a second."""

    def __init__(self) -> None:
        self._late_ms: list[float] = []

    async def run(self) -> None:
        while True:
            due = time.perf_counter() + WATCH_S
            await asyncio.sleep(WATCH_S)
            self._late_ms.append((time.perf_counter() - due) * 1000)

    def report(self) -> dict[str, float]:
        """Of the looks since the last report. From any thread."""
        late, self._late_ms = sorted(self._late_ms), []
        return {"looks": len(late), "p99_ms": late[len(late) * 99 // 100], "max_ms": late[-1]} if late else {"looks": 0}


class Look(NamedTuple):
    """How many messages a node had read at one moment, and the clocks then, in s."""

    messages: int
    wall: float
    cpu: float


class Looks:
    """Looks at how much a node has read, from threads beside its loop."""

    def __init__(self, server: Server, watch: LoopWatch, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._watch = watch
        self._loop = loop
        self.first: Future[Look] = Future()
        """The first that found something."""

    def begin(self) -> None:
        """Looks for the first. Begun before the node is: what a topic held may be read before anybody can ask."""
        while True:
            with suppress(RuntimeError):  # the node has not begun
                if (look := self._look())[0].messages:
                    self._watch.report()
                    return self.first.set_result(look[0])
            time.sleep(LOOK_S)

    def until(self, count: int) -> dict[str, Any]:
        """Waits until so many were read, and tells what passed since the first look."""
        first = self.first.result()
        while True:
            look, stats = self._look()
            if look.messages >= count:
                messages, wall, cpu = (b - a for a, b in zip(first, look, strict=True))
                return {"records": messages, "wall_s": wall, "cpu_s": cpu, "stats": stats}
            time.sleep(LOOK_S)

    def stats(self) -> dict[str, int]:
        """The node's counters. Raises RuntimeError before it begins."""

        return self._ask(self._server.stats)

    def position(self, channel: str) -> str:
        """Where the channel stands."""
        return self._ask(partial(self._server.position, channel))

    def _ask(self, question: Callable[[], Answer]) -> Answer:
        async def ask() -> Answer:
            return question()

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()

    def _look(self) -> tuple[Look, dict[str, int]]:
        stats = self.stats()
        return Look(stats["messages"], time.perf_counter(), time.process_time()), stats


class Commands:
    """Obeys standard input, on the source's thread."""

    def __init__(self, source: MemorySource, watch: LoopWatch, looks: Looks) -> None:
        self._source = source
        self._watch = watch
        self._looks = looks

    def run(self, loop: asyncio.AbstractEventLoop, ended: asyncio.Event) -> None:
        """Until standard input ends."""
        for line in sys.stdin:
            match line.split():
                case ["send", count, batch]:
                    answer: Any = {"sent": self._source.send(int(count), int(batch))}
                case ["trickle", count, interval_ms]:
                    answer = {"sent": self._source.trickle(int(count), int(interval_ms))}
                case ["stall"]:
                    answer = self._watch.report()
                case ["stats"]:
                    answer = self._looks.stats() | CountedSource.asked
                case ["position", channel]:
                    answer = {"position": self._looks.position(channel)}
                case ["read", count]:
                    answer = self._looks.until(int(count))
                case _:
                    answer = {"error": f"what is {line!r}?"}
            print(json.dumps(answer), flush=True)
        loop.call_soon_threadsafe(ended.set)


async def main(options: argparse.Namespace, data: Path) -> None:
    source = MemorySource(options.channels, options.payload)
    topic = options.topic or TOPIC
    config = Config(
        port=0,
        mqtt_port=0,
        key=(KEY,),
        data=data,
        kafka=options.kafka,
        route=(f"{topic}=#{{key}}",),
        publish_topic=topic,
        history=options.history,
        secret=SECRET,
        linger=(f"{topic}={options.linger}ms",) if options.linger else (),
    )
    loop, ended, watch = asyncio.get_running_loop(), asyncio.Event(), LoopWatch()
    kafka.KafkaSource = CountedSource  # type: ignore[misc]
    server = Server(config, source=source if options.kafka is None else None)
    looks = Looks(server, watch, loop)
    watching = asyncio.create_task(watch.run()) if options.watch_loop else None
    if options.kafka is not None:
        threading.Thread(target=looks.begin, name="bench-look", daemon=True).start()
    async with server:
        tune_interpreter()
        commands = Commands(source, watch, looks)
        print(json.dumps({"port": server.port, "mqtt_port": server.mqtt_port, "key": KEY}), flush=True)
        threading.Thread(target=commands.run, args=(loop, ended), name="bench-source", daemon=True).start()
        await ended.wait()
        if watching is not None:
            watching.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A node that the benchmarks feed.")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--payload", type=int, default=128)
    parser.add_argument("--watch-loop", action="store_true")
    parser.add_argument("--history", default="2m", metavar="TIME")
    parser.add_argument("--linger", type=int, default=0, metavar="MS")
    parser.add_argument("--kafka")
    parser.add_argument("--topic")
    with TemporaryDirectory(prefix="fanout-bench-") as directory:
        uvloop.run(main(parser.parse_args(), Path(directory)))
