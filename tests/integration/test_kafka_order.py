"""What is written to Kafka has no holes: what is given up takes along what was handed over behind it."""

import asyncio
import time

import pytest

from fanout.errors import SourceError, SourceTimeout
from fanout.sources.base import Appended, NewRecord
from fanout.sources.kafka import KafkaSource
from tests.support.broker import running
from tests.support.sources import RecordingSink, append, begin_append, eventually, read_all

TOPIC = "orders"
EVERY_S = 0.3
RECORDS_MAX = 200


class Attempt:
    """One record, and what became of it."""

    def __init__(self, source: KafkaSource, number: int) -> None:
        self.value = str(number).encode()
        self.begun = time.monotonic()
        self.ended = 0.0
        self.outcome = begin_append(source, NewRecord(TOPIC, b"k", self.value, []))
        self.outcome.add_done_callback(self._end)

    def _end(self, _outcome: "asyncio.Future[list[Appended] | SourceError]") -> None:
        self.ended = time.monotonic()

    @property
    def is_written(self) -> bool:
        return self.outcome.done() and isinstance(self.outcome.result(), list)

    @property
    def is_given_up(self) -> bool:
        return self.outcome.done() and isinstance(self.outcome.result(), SourceTimeout)


@pytest.mark.kafka
@pytest.mark.timeout(180)
async def test_what_waits_behind_a_record_that_is_given_up_is_not_written_either() -> None:
    with running() as cluster:
        source, sink = KafkaSource(cluster.client, partitions=1), RecordingSink()
        await source.start(sink, [TOPIC], 60_000)
        try:
            await eventually(lambda: "ready" in sink.calls, 60)
            await append(source, NewRecord(TOPIC, b"k", b"before", []))
            await asyncio.to_thread(cluster.kill)
            attempts: list[Attempt] = []
            restart: asyncio.Task[None] | None = None
            while not any(one.is_written for one in attempts):
                assert len(attempts) < RECORDS_MAX
                attempts.append(Attempt(source, len(attempts)))
                await asyncio.sleep(EVERY_S)
                if restart is None and time.monotonic() - attempts[0].begun > 5:  # it takes until about the first's end
                    restart = asyncio.create_task(asyncio.to_thread(cluster.restart))
            assert restart is not None
            await restart
            await eventually(lambda: all(one.outcome.done() for one in attempts), 30)
            held = {one.value for one in await read_all(source, TOPIC, 0, sink.progressed[TOPIC, 0])}
            for index, lost in enumerate(attempts):
                if lost.is_given_up and lost.value not in held:
                    behind = [one for one in attempts[index + 1 :] if one.begun < lost.ended]
                    assert all(one.is_given_up and one.value not in held for one in behind), lost.value
        finally:
            await source.stop()
