"""Single messages by their serials: from memory, and from the log where memory does not reach.

A serial names a place in the log. What memory does not hold is read from there on, up to what the log has now: the
message, and all that was done to it since, are given to an engine of their own, which merges them as any node does. One
look-up reads at most `SCAN_RECORDS` records; for a message that has more behind it in its partition it is refused, so
that nothing is ever told, or changed, on the ground of half of what is so. Only a page of old messages (`newest`) is
content with what the records behind it tell, as many as that.
"""

import asyncio
import contextlib
import re
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from fanout._core import Engine
from fanout.delivered import headers_of, offset_of
from fanout.errors import ClientError, SourceBusy, SourceError, SourceTimeout, error
from fanout.shares import Shares
from fanout.sources.base import Source
from fanout.types import Annotation, Message

__all__ = ["Known", "Lookup"]

SCAN_RECORDS: Final = 100_000
"""Records that one look-up in the log goes through: some seconds."""

SCANS: Final = 2
"""Look-ups in the log at a time."""

SCANS_WAITING: Final = 64
"""Those under way and those that wait for them, shared by who asks: 42910 beyond."""

AHEAD_S: Final = 5.0
"""How long a message is waited for whose record this node has yet to read."""

AHEAD_UNASKED_S: Final = 0.1
"""How much of that before the log is asked whether there is such a record. Most are read sooner."""

AHEAD_RETRY_S: Final = 0.005
_KNOWN, _AHEAD = 0, 1
_CREATE: Final = 0
_Answer = TypeVar("_Answer")


class Known(NamedTuple):
    """A message as it is now. Times are in ms."""

    message: Message
    whole_ms: int
    """When the newest record was written that holds the whole of it."""
    summary: str | None
    """The state of its summary; None if not all of its annotations are known."""
    summary_ms: int
    """When the newest record was written from which on the summary can be told."""


async def _is_read(_channel: str) -> bool:
    """Of a node that reads all there is."""
    return True


class _Held(Protocol):
    """What holds messages; `fanout._core.Engine` answers this."""

    def message(self, channel: str, serial: str) -> tuple[int, Message | None, int, str | None, int]: ...

    def versions(self, channel: str, serial: str) -> list[Message]: ...

    def annotations(self, channel: str, serial: str) -> list[Annotation]: ...


class Lookup:
    """Finds the messages of one node. Belongs to the event loop."""

    def __init__(
        self,
        engine: _Held,
        source: Source,
        is_read: Callable[[str], bool],
        replayer: Callable[[], Engine],
        wait: Callable[[str], Awaitable[bool]] = _is_read,
    ) -> None:
        """`is_read` tells topics with messages; `replayer` makes an empty engine with the node's rules; `wait` has a
        channel read here, and says whether it is.
        """
        self._wait = wait
        self._engine = engine
        self._source = source
        self._is_read = is_read
        self._replayer = replayer
        self._scans = asyncio.Semaphore(SCANS)
        self._shares = Shares(SCANS_WAITING, error(42910, "too many old messages are being looked for"))

    def held(self, channel: str, serial: str) -> Known | None:
        """The message, if memory holds it with all its annotations."""
        outcome, message, whole_ms, summary, summary_ms = self._engine.message(channel, serial)
        if outcome != _KNOWN or message is None or summary is None:
            return None
        return Known(message, whole_ms, summary, summary_ms)

    async def find(self, channel: str, serial: str, who: str) -> Known:
        """The message, for `who` asks for it. Raises ClientError: 40400 if there is none of this serial, or too much
        lies behind it; 42910, 50000 or 50003 if the log cannot be asked.
        """
        if known := await self._in_memory(channel, serial):
            return known
        return await self._in_log(channel, serial, who, lambda engine: _known(engine, channel, serial))

    async def versions(self, channel: str, serial: str, who: str) -> list[Message]:
        """The message as it was published, and each update and delete; oldest first. Raises as `find`."""
        await self._in_memory(channel, serial)
        versions = self._engine.versions(channel, serial)
        if versions and versions[0].action == _CREATE:
            return versions
        return await self._in_log(channel, serial, who, lambda engine: engine.versions(channel, serial))

    async def annotations(self, channel: str, serial: str, who: str) -> list[Annotation]:
        """What was said about the message, oldest first. Raises as `find`."""
        await self._in_memory(channel, serial)
        versions = self._engine.versions(channel, serial)
        if versions and versions[0].action == _CREATE:
            return self._engine.annotations(channel, serial)
        return await self._in_log(channel, serial, who, lambda engine: engine.annotations(channel, serial))

    async def newest(self, channel: str, messages: Sequence[Message], who: str) -> list[Message]:
        """Messages that the log has, each as it is now; or as it was so many records later, of the `SCAN_RECORDS` that
        their partitions share. Raises as `find`.
        """
        wanted: dict[tuple[str, int], list[str]] = defaultdict(list)
        for message in messages:
            wanted[self._place(message.serial)[:2]].append(message.serial)
        found: dict[str, Message | None] = {}
        for serials in wanted.values():
            async with self._scan(who) as engine:
                await self._replay(engine, serials, SCAN_RECORDS // len(wanted))
                found |= {serial: engine.message(channel, serial)[1] for serial in serials}
        return [found[message.serial] or message for message in messages]

    async def _in_memory(self, channel: str, serial: str) -> Known | None:
        """As `held`; waits for a message that is yet to be read, if the log has it."""
        if not await self._wait(channel):
            raise ClientError(error(50003, "this node has not read as far yet; try again"))
        begun = time.monotonic()
        if await self._comes_until(begun + AHEAD_UNASKED_S, channel, serial):
            return self.held(channel, serial)
        topic, partition, offset = self._place(serial)
        with _numbered():
            _, stop = (await self._source.bounds(topic, [partition])).get(partition, (0, 0))
        if offset < stop:
            await self._comes_until(begun + AHEAD_S, channel, serial)
        return self.held(channel, serial)

    async def _comes_until(self, until: float, channel: str, serial: str) -> bool:
        """Whether this node has read as far as the serial's place by then."""
        while self._engine.message(channel, serial)[0] == _AHEAD:
            if time.monotonic() >= until:
                return False
            await asyncio.sleep(AHEAD_RETRY_S)  # the engine has no event for what one look-up waits for
        return True

    async def _in_log(self, channel: str, serial: str, who: str, answer: Callable[[Engine], _Answer]) -> _Answer:
        topic, partition, offset = self._place(serial)
        async with self._scan(who) as engine:
            start, stop = (await self._source.bounds(topic, [partition])).get(partition, (0, 0))
            if not start <= offset < stop:
                raise ClientError(error(40400, "no message has this serial"))
            if stop - offset > SCAN_RECORDS:
                raise ClientError(error(40400, f"more than {SCAN_RECORDS} records have been written since the message"))
            await self._replay(engine, [serial], SCAN_RECORDS)
            _known(engine, channel, serial)
            return answer(engine)

    @contextlib.asynccontextmanager
    async def _scan(self, who: str) -> AsyncIterator[Engine]:
        """An engine to be given what the log has, when the turn of `who` comes. Raises ClientError."""
        with self._shares.place(who):
            async with self._scans:
                with _numbered(), contextlib.closing(self._replayer()) as engine:
                    yield engine

    def _place(self, serial: str) -> tuple[str, int, int]:
        """Topic, partition and offset of a message (`fanout._core.message_serial`). Raises ClientError 40400."""
        found = re.fullmatch(r"([0-9]{1,19})-([0-9]{1,9})-(.+)", serial)
        if found is None or not self._is_read(found[3]):
            raise ClientError(error(40400, "no message has this serial"))
        return found[3], int(found[2]), int(found[1])

    async def _replay(self, engine: Engine, serials: Sequence[str], most: int) -> None:
        """Gives the engine the records of these serials, of one partition, and all that are about their messages among
        so many from the first on.
        """
        places = [self._place(serial) for serial in serials]
        topic, partition, first = min(places)
        wanted = {serial.encode() for serial in serials}
        offsets = {offset for *_, offset in places}
        _, end = (await self._source.bounds(topic, [partition])).get(partition, (0, 0))
        at, stop = first, min(end, first + most)
        engine.partition(topic, bytes(16), partition, first)
        while at < stop:
            part = await self._source.read(topic, partition, at, stop)
            engine.records([record for record in part.records if _is_about(record, wanted, offsets)])
            at = max(part.next, at + 1)


@contextlib.contextmanager
def _numbered() -> Iterator[None]:
    """Gives what the log refuses its number."""
    try:
        yield
    except SourceBusy as busy:
        raise ClientError(error(42910, "the log cannot be read right now; try again")) from busy
    except SourceTimeout as late:
        raise ClientError(error(50003, "the log was not read in time")) from late
    except SourceError as failed:
        raise ClientError(error(50000, "the log cannot be read")) from failed


def _known(engine: Engine, channel: str, serial: str) -> Known:
    """What an engine knows that was given all. Raises ClientError 40400 if that is no message of the channel."""
    _, message, whole_ms, summary, summary_ms = engine.message(channel, serial)
    if message is None:
        raise ClientError(error(40400, "no message has this serial"))
    return Known(message, whole_ms, summary, summary_ms)


def _is_about(record: Any, serials: Collection[bytes], offsets: Collection[int]) -> bool:
    """Whether a record is one of those at these offsets, or does something to one of their messages."""
    return offset_of(record) in offsets or any(
        name == "fanout.serial" and value in serials for name, value in headers_of(record)
    )
