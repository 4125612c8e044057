"""A log whose records are decoded on their way out, to whoever reads them: live, looking back, resuming.

What is appended goes into the log as it is. Of topics without a format nothing is touched.
"""

import asyncio
import time
from collections.abc import Collection, Sequence
from typing import Final

from fanout.decoding.schemas import Schemas
from fanout.decoding.sink import DecodingSink, Formats, FormatsOf, decoded
from fanout.delivered import as_record
from fanout.errors import SourceTimeout
from fanout.sources.base import Done, Health, Held, NewRecord, Sink, Slice, Source
from fanout.types import Record

__all__ = ["DecodedSource"]

READ_S: Final = 5.0  # for the schemas of what is read back
LOOK_S: Final = 0.02  # between two looks at them


class DecodedSource:
    """A `fanout.sources.base.Source` around another one. It owns that one and `schemas`, and stops both."""

    def __init__(self, source: Source, formats_of: FormatsOf, schemas: Schemas) -> None:
        self._source = source
        self._formats_of = formats_of
        self._schemas = schemas
        self._sink: DecodingSink | None = None

    async def start(
        self,
        sink: Sink,
        topics: Sequence[str],
        history_ms: int,
        state_topics: Sequence[str] = (),
        on_demand: Sequence[str] = (),
    ) -> None:
        """See `Source.start`."""
        self._sink = DecodingSink(sink, self._formats_of, self._schemas, state_topics)
        self._schemas.start(self._sink.settled)
        try:
            await self._source.start(self._sink, topics, history_ms, state_topics, on_demand)
        except BaseException:
            await asyncio.to_thread(self._schemas.stop)
            raise

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        """See `Source.append`."""
        self._source.append(records, done)

    def read_partition(self, topic: str, partition: int, *, whole: bool = False) -> None:
        """See `Source.read_partition`."""
        self._source.read_partition(topic, partition, whole=whole)

    def let_go(self, topic: str, partition: int) -> None:
        """See `Source.let_go`."""
        self._source.let_go(topic, partition)

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        """See `Source.read`. Raises SourceTimeout also when a schema cannot be had within 5 s."""
        part = await self._source.read(topic, partition, start, stop)
        formats = self._formats_of(topic)
        if formats is None:
            return part
        until = time.monotonic() + READ_S
        records: list[Record] = []
        while True:
            left = part.records[len(records) :]
            records += await asyncio.to_thread(self._decoded, left, formats)  # too much at once for the loop
            if len(records) == len(part.records):
                return Slice(records, part.next)
            if self._schemas.away or time.monotonic() > until:
                raise SourceTimeout(f"a schema cannot be had: {self._schemas.away or 'no answer in time'}")
            await asyncio.sleep(LOOK_S)

    def _decoded(self, records: Sequence[object], formats: Formats) -> list[Record]:
        """The records decoded, up to the first that needs a schema which is being asked for."""
        done: list[Record] = []
        for item in records:
            if (record := decoded(as_record(item), formats, self._schemas)) is None:
                break
            done.append(record)
        return done

    def as_written(self, record: Record) -> Record:
        """A record that the sink is just given, as it lies in the log. For the thread that delivers."""
        return record if self._sink is None else self._sink.as_written(record)

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        """See `Source.bounds`."""
        return await self._source.bounds(topic, partitions)

    async def since(self, topic: str, timestamp: int, partitions: Collection[int] | None = None) -> dict[int, int]:
        """See `Source.since`."""
        return await self._source.since(topic, timestamp, partitions)

    def health(self) -> Health:
        """See `Source.health`. Partitions that wait for a registry which is away are held."""
        health = self._source.health()
        if health.ok and self._schemas.failure:
            return Health(False, self._schemas.failure)
        away, now = self._schemas.away, time.monotonic()
        if not away or self._sink is None:
            return health
        if health.ok and self._sink.is_full:
            return Health(False, f"nothing is read any more, too many records wait for their schemas: {away}")
        waiting = {key: Held(now - since, away) for key, since in self._sink.waiting.items()}
        return health._replace(held={**health.held, **waiting})

    def lag(self) -> dict[tuple[str, int], int]:
        """See `Source.lag`. What waits for a schema is not counted."""
        return self._source.lag()

    async def stop(self) -> None:
        """See `Source.stop`."""
        if self._sink is not None:
            self._sink.stop()
        await self._source.stop()
        await asyncio.to_thread(self._schemas.stop)
