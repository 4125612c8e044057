"""Checkpoints: how far all partitions had been read, written into the log so that positions need not say it themselves.

- A position over many partitions names a checkpoint, by its offset in their topic, and the partitions that have fed its
  channel since. Any node that has that checkpoint, or reads it back, knows the position as it was.
- About once a second somebody writes the next: whoever finds the newest that it has read too old, if more has been read
  since. Nobody is chosen for that. Two that write at once only write one too many.
- Nobody writes where partitions are few: positions list them.
- A position whose checkpoint the log has no more is refused, as one of another log. It is never guessed.
- Those whose checkpoints have to be read back wait for one reading each. Those who know of a newer one than this node
  has read are looked after together, some in each turn of the loop. `WAITING_MAX` wait at most.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Final, NamedTuple, Protocol

from fanout.callbacks import outcome
from fanout.delivered import leader_epoch_of, offset_of, value_of
from fanout.errors import ErrorInfo, SourceError, error
from fanout.sources.base import Appended, NewRecord, Source

__all__ = ["Checkpoints", "Whole"]

log = logging.getLogger(__name__)

LOOK_S: Final = (0.1, 0.4)  # between two looks, at least and at most: nodes take turns by chance
EVERY_S: Final = 1.0  # between two that this node writes, at least
READ_S: Final = 5.0  # half of what clients allow an ATTACH to take
READINGS: Final = 4  # at a time: others look back too
AHEAD: Final = 64  # checkpoints read with the one that is asked for: who was cut off a little later asks for the next
WAITING_MAX: Final = 20_000
ANSWERS_PER_TURN: Final = 20
BEHIND_EVERY_S: Final = 0.05  # for a node that has not read as far as the one where the client was
BEHIND_S: Final = 5.0

Whole = Callable[[str | ErrorInfo | None], None]
"""Takes a position without a checkpoint; None, if it is none of the channel in this log; or why that is not known."""


class _Known(Protocol):
    """The checkpoints that the node has in memory; `fanout._core.Checkpoints` answers this."""

    def next(self) -> bytes | None: ...

    def whole(self, channel: str, position: str) -> str | int: ...

    def recall(self, number: int, epoch: int, value: bytes) -> None: ...


class _Waiting(NamedTuple):
    """Somebody who wants to know a position."""

    channel: str
    position: str
    then: Whole


class _Missing(NamedTuple):
    """The checkpoint that has to be read back; None: it is yet to be read."""

    number: int | None


class Checkpoints:
    """The checkpoints of one log, as a node writes and reads them. Belongs to the event loop."""

    def __init__(self, known: _Known, source: Source, topic: str) -> None:
        self._known = known
        self._source = source
        self._topic = topic
        self._waiting: dict[int, list[_Waiting]] = {}  # by what is being read back
        self._behind: list[tuple[_Waiting, float]] = []  # for what this node has yet to read, and until when
        self._is_behind = False  # whether somebody looks after those
        self._count = 0  # of all that wait
        self._readings = asyncio.Semaphore(READINGS)
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self, ready: asyncio.Event) -> None:
        """Lets positions refer to what was read, and writes what is due, until cancelled; once the node is `ready`."""
        await ready.wait()
        loop = asyncio.get_running_loop()
        written_at = -EVERY_S
        while True:
            await asyncio.sleep(random.uniform(*LOOK_S))
            value = self._known.next()
            if value and loop.time() >= written_at + EVERY_S:  # the last may have yet to be read back
                written_at = loop.time()
                await self._write(value)

    def whole(self, channel: str, position: str, then: Whole) -> None:
        """Calls `then` once, perhaps before this returns, with the position in a form that needs no checkpoint."""
        one = _Waiting(channel, position, then)
        found = self._look(one)
        if not isinstance(found, _Missing):
            then(found)
        elif self._count >= WAITING_MAX:
            then(error(50003, "too many resume from the log at once"))
        else:
            self._count += 1
            self._wait(one, found)

    def close(self) -> None:
        """Ends what is under way: nobody is answered any more."""
        for task in self._tasks:
            task.cancel()

    async def _write(self, value: bytes) -> None:
        """Writes one. If that fails, the next look finds the newest too old still."""
        record = NewRecord(self._topic, None, value, ())
        try:
            written: asyncio.Future[list[Appended] | SourceError] = outcome(partial(self._source.append, [record]))
            await written
        except SourceError as problem:
            log.debug("a checkpoint is not written: %s", problem)

    def _look(self, one: _Waiting) -> str | _Missing | None:
        try:
            found = self._known.whole(one.channel, one.position)
        except LookupError:
            return _Missing(None)
        except ValueError:
            return None
        return _Missing(found) if isinstance(found, int) else found

    def _wait(self, one: _Waiting, missing: _Missing) -> None:
        if missing.number is None:
            self._behind.append((one, asyncio.get_running_loop().time() + BEHIND_S))
            if not self._is_behind:
                self._is_behind = True
                self._start(self._catch_up())
            return
        waiting = self._waiting.setdefault(missing.number, [])
        waiting.append(one)
        if len(waiting) == 1:
            self._start(self._read_back(missing.number))

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _answer(self, one: _Waiting, found: str | ErrorInfo | None) -> None:
        self._count -= 1
        try:
            one.then(found)
        except Exception:  # of one client's: the others wait for theirs
            log.exception("an answer ends with an error that was not expected")

    async def _catch_up(self) -> None:
        """Answers those who wait when this node has read their checkpoints, or when their time is up."""
        while self._behind:
            await asyncio.sleep(BEHIND_EVERY_S)
            waiting, self._behind = self._behind, []
            unread = set[tuple[str, str]]()  # a thousand clients of a channel are looked up once
            for count, (one, until) in enumerate(waiting, 1):
                is_unread = (one.channel, one.position) in unread
                found = _Missing(None) if is_unread else self._look(one)
                if found == _Missing(None):
                    unread.add((one.channel, one.position))
                if not isinstance(found, _Missing):
                    self._answer(one, found)
                elif found.number is not None:
                    self._wait(one, found)
                elif asyncio.get_running_loop().time() >= until:
                    self._answer(one, error(50003, "this node has not read as far yet; try again"))
                else:
                    self._behind.append((one, until))
                if count % ANSWERS_PER_TURN == 0:
                    await asyncio.sleep(0)
        self._is_behind = False

    async def _read_back(self, number: int) -> None:
        """Reads a checkpoint back and answers those who wait for it."""
        records: Sequence[Any] = ()
        refused = None
        try:
            async with asyncio.timeout(READ_S), self._readings:
                records = (await self._source.read(self._topic, 0, number, number + AHEAD)).records
        except (SourceError, TimeoutError) as problem:
            log.warning("a checkpoint cannot be read back: %s", problem)
            refused = error(50003, "the log cannot be read now; try again")
        for record in records:
            self._recall(record)
        waiting = self._waiting.pop(number)
        for first in range(0, len(waiting), ANSWERS_PER_TURN):
            for record in records[:1]:  # others may have been read back in its place
                self._recall(record)
            for one in waiting[first : first + ANSWERS_PER_TURN]:
                found = refused or self._look(one)
                self._answer(one, None if isinstance(found, _Missing) else found)  # the log has it no more
            await asyncio.sleep(0)

    def _recall(self, record: Any) -> None:
        if value := value_of(record):
            self._known.recall(offset_of(record), leader_epoch_of(record), value)
