"""A node that the benchmarks feed: `fanout.Server`, unchanged, over a source that makes its records up.

    python -m benchmarks.node [--channels N] [--payload BYTES]      records from memory
    python -m benchmarks.node --kafka HOST:PORT --topic NAME        records from a topic

Prints `{"port":…,"key":…}`, then answers each line with one of JSON; ends when standard input does:

- `send COUNT BATCH`: COUNT messages to each channel, handed to the node BATCH records at a time. The n-th message of a
  channel is `n SENT_US xxx`.
- `stats`: the node's counters.
- `read COUNT`: waits until COUNT records were read; how long that took from the first look that found some, in wall and
  CPU time.

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
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uvloop

from fanout import Config, Server
from fanout.errors import SourceError
from fanout.sources.base import Done, Health, NewRecord, Sink
from fanout.types import Record

KEY = "bench.key:secret"
TOPIC = "bench"
LOOK_S = 0.002  # between two looks at how much was read


class MemorySource:
    """A `fanout.sources.base.Source` that holds nothing and reads what it is told to make up."""

    def __init__(self, channels: int, payload: int) -> None:
        self._keys = [f"load-{channel}".encode() for channel in range(channels)]
        self._payload = payload
        self._sink: Sink
        self._next = 0  # sequence number, the same in every channel

    async def start(self, sink: Sink, topics: Sequence[str], history_ms: int) -> None:
        self._sink = sink
        sink.partition(TOPIC, bytes(16), 0, 0)
        sink.ready()

    def send(self, count: int, batch: int) -> int:
        """Delivers `count` messages to each channel; on one thread, the source's own. Returns the next number."""
        waiting: list[Record] = []
        for number in range(self._next, self._next + count):
            for index, key in enumerate(self._keys):
                offset = number * len(self._keys) + index
                value = b"%d %d " % (number, time.monotonic_ns() // 1000)
                waiting.append(
                    Record(
                        TOPIC, 0, offset, -1, time.time_ns() // 1_000_000, key, value.ljust(self._payload, b"x"), None
                    )
                )
                if len(waiting) == batch:
                    self._sink.records(waiting)
                    waiting = []
        if waiting:
            self._sink.records(waiting)
        self._next += count
        return self._next

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        raise SourceError("clients of a benchmark only read")

    def health(self) -> Health:
        return Health(True, "")

    def lag(self) -> dict[tuple[str, int], int]:
        return {}

    async def stop(self) -> None:
        pass


class Commands:
    """Obeys standard input, on the source's thread."""

    def __init__(self, server: Server, source: MemorySource, loop: asyncio.AbstractEventLoop) -> None:
        self._server = server
        self._source = source
        self._loop = loop

    def run(self, ended: asyncio.Event) -> None:
        for line in sys.stdin:
            match line.split():
                case ["send", count, batch]:
                    answer: Any = {"sent": self._source.send(int(count), int(batch))}
                case ["stats"]:
                    answer = self._stats()
                case ["read", count]:
                    answer = self._read(int(count))
                case _:
                    answer = {"error": f"what is {line!r}?"}
            print(json.dumps(answer), flush=True)
        self._loop.call_soon_threadsafe(ended.set)

    def _stats(self) -> dict[str, int]:
        async def ask() -> dict[str, int]:
            return self._server.stats()

        return asyncio.run_coroutine_threadsafe(ask(), self._loop).result()

    def _read(self, count: int) -> dict[str, Any]:
        first: tuple[int, float, float] | None = None
        while True:
            stats = self._stats()
            now = (stats["records_in"], time.perf_counter(), time.process_time())
            if first is None and now[0]:
                first = now
            if first is not None and now[0] >= count:
                records, wall, cpu = (b - a for a, b in zip(first, now, strict=True))
                return {"records": records, "wall_s": wall, "cpu_s": cpu, "stats": stats}
            time.sleep(LOOK_S)


async def main(options: argparse.Namespace, data: Path) -> None:
    source = MemorySource(options.channels, options.payload)
    topic = options.topic or TOPIC
    config = Config(
        port=0, key=(KEY,), data=data, kafka=options.kafka, route=(f"{topic}=#{{key}}",), publish_topic=topic
    )
    async with Server(config, source=source if options.kafka is None else None) as server:
        ended = asyncio.Event()
        commands = Commands(server, source, asyncio.get_running_loop())
        print(json.dumps({"port": server.port, "key": KEY}), flush=True)
        threading.Thread(target=commands.run, args=(ended,), name="bench-source", daemon=True).start()
        await ended.wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A node that the benchmarks feed.")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--payload", type=int, default=128)
    parser.add_argument("--kafka")
    parser.add_argument("--topic")
    with TemporaryDirectory(prefix="fanout-bench-") as directory:
        uvloop.run(main(parser.parse_args(), Path(directory)))
