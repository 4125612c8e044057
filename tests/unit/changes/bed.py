"""A node that changes messages, over a log in memory: its own engine, publisher, look-up and mutator."""

import asyncio
from collections.abc import Collection, Sequence
from typing import Any

from fanout._core import Engine, message_serial
from fanout.errors import ErrorInfo, SourceError
from fanout.lookup import Lookup
from fanout.mutate import Mutator
from fanout.namespaces import Namespaces
from fanout.publish import Publisher
from fanout.rules.route import Rule
from fanout.session.limits import Limits
from fanout.sources.base import Appended, Done, NewRecord, Slice
from fanout.targets import Targets
from fanout.types import Message, OutAnnotation, OutChange, OutMessage, Record
from tests.support.sources import NeverStarted

__all__ = ["CHANNEL", "ME", "Bed", "refusal", "serial_at"]

TOPIC = "t"
CHANNEL = "chat:lobby"
ME = "who asks"
HISTORY_MS = 10_000


class Bed(NeverStarted):
    """The node, and its log of one partition."""

    def __init__(self, **limits: int) -> None:
        self.log: list[Record] = []
        self.earliest = 0
        self.now_ms = 1_000_000
        self.reads_back = asyncio.Event()
        self.reads_back.set()
        self.failure: SourceError | None = None
        self.read_behind = 0  # records that the node has yet to read
        self.limits = Limits(**limits)
        self.ids = 0
        self.engine = self._engine()
        self.engine.partition(TOPIC, bytes(16), 0, 0)
        self._serve()

    def forget(self) -> None:
        """The node starts again, and remembers nothing of what is in the log."""
        self.engine.close()
        self.engine = self._engine()
        self.engine.partition(TOPIC, bytes(16), 0, len(self.log))
        self._serve()

    def _serve(self) -> None:
        self.lookup = Lookup(self.engine, self, lambda topic: topic == TOPIC, self._engine)
        self.mutator = Mutator(
            self.lookup,
            Publisher(self.engine, self, Targets(TOPIC)),
            Namespaces(["chat"]),
            clock=lambda: self.now_ms,
            history_ms=HISTORY_MS,
            limits=self.limits,
        )

    @staticmethod
    def _engine() -> Engine:
        engine = Engine(io_threads=0, secret=b"0123456789abcdef")
        engine.rules([Rule(TOPIC, "#{key}")])
        return engine

    def read_on(self) -> None:
        """The node reads what it has yet to read."""
        first, self.read_behind = len(self.log) - self.read_behind, 0
        self.engine.records(self.log[first:])

    # -- what a source is asked --

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        places = [Appended(one.topic, 0, len(self.log) + index, self.now_ms) for index, one in enumerate(records)]
        for one, place in zip(records, places, strict=True):
            self.log.append(Record(TOPIC, 0, place.offset, -1, self.now_ms, one.key, one.value, one.headers))
        self.engine.records(self.log[-len(records) :])
        done(places)

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        await self.reads_back.wait()
        if self.failure:
            raise self.failure
        return {0: (self.earliest, len(self.log))}

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        return Slice(self.log[start : min(stop, start + 2)], min(stop, start + 2))

    # -- what tests say --

    def create(self, data: str | bytes | None = "one", channel: str = CHANNEL, **fields: Any) -> str:
        """Publishes; the message's serial."""
        told: list[list[str] | ErrorInfo] = []
        Publisher(self.engine, self, Targets(TOPIC)).publish(
            channel, [OutMessage(self._id(), data, **fields)], told.append
        )
        assert isinstance(told[0], list)
        return told[0][0]

    def late(self, data: str) -> str:
        """As `create`, but the node has yet to read it."""
        value, headers = data.encode(), [("fanout.type", b"text")]
        self.log.append(Record(TOPIC, 0, len(self.log), -1, self.now_ms, CHANNEL.encode(), value, headers))
        self.read_behind += 1
        return serial_at(len(self.log) - 1)

    async def change(self, action: str, serial: str, data: str | bytes | None = None, **fields: Any) -> Any:
        """The serial of the new version, or what it was refused with."""
        return await self.ask(OutChange(action, serial, self._id(), data, **fields))

    async def annotate(self, serial: str, kind: str = "likes:total.v1", **fields: Any) -> Any:
        """The annotation's serial, or what it was refused with."""
        return await self.ask(OutAnnotation(serial, kind, self._id(), **fields))

    async def ask(self, one: OutChange | OutAnnotation, channel: str = CHANNEL, who: str = ME) -> Any:
        told: asyncio.Future[list[str] | ErrorInfo] = asyncio.get_running_loop().create_future()
        self.mutator.change(channel, [one], who, told.set_result)
        result = await told
        return result if isinstance(result, ErrorInfo) else result[0]

    async def now(self, serial: str) -> Message:
        """The message as anybody is told."""
        return (await self.lookup.find(CHANNEL, serial, ME)).message

    def headers(self) -> dict[str, bytes | None]:
        """Of the newest record."""
        return dict(self.log[-1].headers or ())

    def _id(self) -> str:
        self.ids += 1
        return f"id:{self.ids}"


def refusal(result: Any) -> int:
    """The code that a change was refused with."""
    assert isinstance(result, ErrorInfo), result
    return result.code


def serial_at(offset: int) -> str:
    """The serial of the record there."""
    return message_serial(TOPIC, 0, offset)
