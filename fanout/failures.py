"""Records that their rules cannot be followed for: told, written to dead-letter topics, or why a node is unready.

Rules:

- A failing record goes to the dead-letter topic of its rule as it is: key, value and headers, and beside them where it
  lay and why it failed (`fanout.failed.*`).
- Every node reads the same records and meets the same failures; so a node reads dead letters too, and writes only those
  that nobody has written. It waits a moment first, on each node another. Two that write in the same instant both do: a
  dead letter is written once or, rarely, more than once, and never not at all.
- Dead letters of late are read when the node starts. A record that is older than those, or says that it is of the
  future, may have failed long ago (a topic with snapshots is read from its beginning each time): the dead letters of
  its time are read back before one is written.
- What waits to be written is bounded; past that dead letters are lost, counted, and told. So are those that are larger
  than their topic takes.
- A rule that stops is told by `/ready` until the node is started anew, with another rule or without that record.
"""

import asyncio
import contextlib
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from fanout.callbacks import outcome
from fanout.delivered import as_record
from fanout.errors import SourceError, SourceTooLarge
from fanout.rules.route import Rule
from fanout.sources.base import LIMITS, Appended, NewRecord, Source
from fanout.types import Record

__all__ = ["Failures"]

WAIT_S: Final = (0.2, 2.0)
"""A dead letter waits so long, at least and at most, for another node's: writing and reading back take some ms."""
WRITE_EVERY_S: Final = 0.1
WAITING_MAX: Final = 10_000
WAITING_BYTES: Final = 32 << 20
WRITTEN_MAX: Final = 100_000
"""Dead letters remembered as written, some 20 MB: more than fail between a record and its dead letter."""

Place = tuple[str, str, str, str]
"""Topic, partition, offset and timestamp, as text: a topic made anew has the same offsets at other times."""

log = logging.getLogger(__name__)


class Failures:
    """What becomes of a node's failing records. Belongs to the event loop but for `taken` and `read`."""

    def __init__(
        self,
        rules: Sequence[Rule],
        source: Source,
        wait_s: tuple[float, float] = WAIT_S,
        as_written: Callable[[Record], Record] = lambda record: record,
        history_ms: int = 0,
        clock: Callable[[], int] = lambda: time.time_ns() // 1_000_000,
    ) -> None:
        """`as_written` gives the record that lies in the log of one that was changed before it was delivered. `read` is
        given all dead letters since `history_ms` ago; `clock` reads the time in ms.
        """
        self.counts = {"dead_letters": 0, "dead_letters_lost": 0}
        self.stopped = ""
        """Why a rule has stopped; empty while none has."""
        self._rules = rules
        self._source = source
        self._as_written = as_written
        self._wait_s = wait_s
        self._loop = asyncio.get_running_loop()
        self._waiting: OrderedDict[Place, tuple[float, NewRecord]] = OrderedDict()
        self._waiting_bytes = 0
        self._unsure: dict[Place, str] = {}
        """Of those that wait: who may be written already, longer ago than was read; and its topic."""
        self._clock = clock
        self._read_since_ms = clock() - history_ms
        self._written: OrderedDict[Place, None] = OrderedDict()

    def taken(self, batch: Sequence[Any], failed: Sequence[tuple[tuple[str, int, int], int, str, str]]) -> None:
        """Takes failures of a batch on the source's thread: place, the rule's number, cause and reason of each."""
        wanted = {place for place, number, _, _ in failed if self._rules[number].dead_letter is not None}
        records = {}
        if wanted:
            of_batch = map(as_record, batch)
            failing = {place: record for record in of_batch if (place := _coordinates(record)) in wanted}
            records = {place: self._as_written(record) for place, record in failing.items()}
        self._loop.call_soon_threadsafe(self._failed, failed, records)

    def read(self, batch: Sequence[Any]) -> None:
        """Takes dead letters as they are in the log, on the source's thread."""
        self._loop.call_soon_threadsafe(self._have_been_written, _places_told(batch))

    async def run(self, ready: asyncio.Event) -> None:
        """Writes dead letters once the node has caught up, and so has read those that there are, until cancelled."""
        await ready.wait()
        async with asyncio.TaskGroup() as both:
            both.create_task(self._write_what_is_due())
            both.create_task(self._make_sure())

    # -- on the loop --

    async def _write_what_is_due(self) -> None:
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            for due in self._due():
                await self._write(due)

    async def _make_sure(self) -> None:
        """Reads back what may have been written long ago; what the log does not let it read is tried again."""
        while True:
            await asyncio.sleep(WRITE_EVERY_S)
            for topic in set(self._unsure.values()):
                places = [place for place, of_topic in self._unsure.items() if of_topic == topic]
                with contextlib.suppress(SourceError):
                    await self._read_back(topic, self._oldest(places))
                    for place in places:
                        self._unsure.pop(place, None)

    def _oldest(self, places: Sequence[Place]) -> int:
        """Since when dead letters of these may have been written; of one from the future nobody knows."""
        times = [int(timestamp) for _, _, _, timestamp in places]
        return max(0, min(times)) if max(times) <= self._clock() else 0

    async def _read_back(self, topic: str, since_ms: int) -> None:
        ends = await self._source.bounds(topic)
        starts = await self._source.since(topic, since_ms)
        for partition, (first, end) in ends.items():
            at = max(first, starts.get(partition, first))
            while at < end:
                records, following = await self._source.read(topic, partition, at, end)
                if following <= at:
                    raise SourceError("the log was cut")
                at = following
                self._have_been_written(await asyncio.to_thread(_places_told, records))

    def _failed(
        self,
        failed: Sequence[tuple[tuple[str, int, int], int, str, str]],
        records: dict[tuple[str, int, int], Record],
    ) -> None:
        for place, number, cause, reason in failed:
            rule = self._rules[number]
            where = f"offset {place[2]} of partition {place[1]} of {place[0]!r}"
            if rule.on_failure == "stop":
                self.stopped = f"the rule for {rule.topic!r} has stopped at {where}: {reason}"
                log.error("%s", self.stopped)
            elif rule.dead_letter is None:
                log.warning("%s fails its rule: %s; such records (%s) are skipped and counted", where, reason, cause)
            elif record := records.get(place):
                self._add(_place(record), _letter(rule.dead_letter, record, cause, reason))

    def _add(self, place: Place, letter: NewRecord) -> None:
        if place in self._written or place in self._waiting:
            return
        size = _size(letter)
        if len(self._waiting) == WAITING_MAX or self._waiting_bytes + size > WAITING_BYTES:
            if not self.counts["dead_letters_lost"]:
                log.error("more records fail than %r takes: the rest is counted and lost", letter.topic)
            self.counts["dead_letters_lost"] += 1
            return
        self._waiting[place] = (self._loop.time() + random.uniform(*self._wait_s), letter)
        self._waiting_bytes += size
        if not self._read_since_ms <= int(place[3]) <= self._clock():
            self._unsure[place] = letter.topic

    def _have_been_written(self, places: Sequence[Place]) -> None:
        for place in places:
            self._written.pop(place, None)  # the newest stand last
            self._written[place] = None
            self._remove(place)
        while len(self._written) > WRITTEN_MAX:
            self._written.popitem(last=False)

    def _remove(self, place: Place) -> None:
        self._unsure.pop(place, None)
        if (waiting := self._waiting.pop(place, None)) is not None:
            self._waiting_bytes -= _size(waiting[1])

    def _due(self) -> list[dict[Place, NewRecord]]:
        """Those whose time has come, as many as are written at once; each topic's by themselves, so that one that
        takes none keeps no other waiting.
        """
        now = self._loop.time()
        due: dict[str, dict[Place, NewRecord]] = {}
        for place, (at, letter) in self._waiting.items():
            of_topic = due.setdefault(letter.topic, {}) if at <= now and place not in self._unsure else None
            if of_topic is not None and len(of_topic) < LIMITS.read_batch:
                of_topic[place] = letter
        return list(due.values())

    async def _write(self, due: dict[Place, NewRecord]) -> None:
        """Writes them; those that the log refuses wait on, unless it would never take them."""
        with contextlib.suppress(SourceError):
            written: asyncio.Future[list[Appended] | SourceError] = outcome(
                partial(self._source.append, list(due.values()))
            )
            result = await written
            if isinstance(result, SourceTooLarge):
                await self._write_one_by_one(due)
            elif not isinstance(result, SourceError):
                self.counts["dead_letters"] += len(due)
                self._have_been_written(list(due))

    async def _write_one_by_one(self, due: dict[Place, NewRecord]) -> None:
        """Gives up the one that is too large. What was written beside it has been read back by the next look."""
        if len(due) == 1:
            for place, letter in due.items():
                log.error("%r takes no dead letter of %d bytes: it is counted and lost", letter.topic, _size(letter))
                self.counts["dead_letters_lost"] += 1
                self._have_been_written([place])
            return
        await asyncio.sleep(WRITE_EVERY_S)
        for place, letter in due.items():
            if place in self._waiting:
                await self._write({place: letter})


def _letter(topic: str, record: Record, cause: str, reason: str) -> NewRecord:
    own = [(name, value) for name, value in record.headers or () if not name.startswith(_OURS)]
    names = ("topic", "partition", "offset", "timestamp", "cause", "reason")
    told = zip(names, (*_place(record), cause, reason), strict=True)
    headers = [*own, *((f"fanout.failed.{name}", text.encode()) for name, text in told)]
    return NewRecord(topic, record.key, record.value, headers)


_OURS: Final = ("fanout.failed.", "fanout.undecodable")


def _coordinates(record: Record) -> tuple[str, int, int]:
    return record.topic, record.partition, record.offset


def _place(record: Record) -> Place:
    return record.topic, str(record.partition), str(record.offset), str(record.timestamp)


def _places_told(batch: Sequence[Any]) -> list[Place]:
    """Of which records these are the dead letters."""
    return [place for record in map(as_record, batch) if (place := _place_told(record)) is not None]


def _place_told(letter: Record) -> Place | None:
    """The place of the record that a dead letter is of; None for what is no dead letter."""
    headers = {name: value or b"" for name, value in letter.headers or ()}
    names = ("topic", "partition", "offset", "timestamp")
    told = [headers.get(f"fanout.failed.{name}", b"").decode(errors="replace") for name in names]
    return (told[0], told[1], told[2], told[3]) if all(told) else None


def _size(letter: NewRecord) -> int:
    headers = sum(len(name) + len(value or b"") for name, value in letter.headers)
    return len(letter.key or b"") + len(letter.value or b"") + headers
