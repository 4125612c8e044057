"""Pages of a channel's past (Ably protocol, "REST", and `untilAttach`): what memory holds, and beyond it the log.

Rules:

- In every partition memory holds all of a channel from some offset on, its floor, and the log has what lies below. A
  page is cut there, so that nothing is lost or doubled at the seam, wherever it lies and whenever it moves.
- A cursor is a position of the channel: the place in each partition where the next page begins. It names nothing of
  this node, so any node goes on from it. Where a client attached is a position too.
- Within a partition messages come in the log's order. Between partitions, in memory as this node read them, in the log
  by their timestamps.
- `start_ms` and `end_ms` are included, by the records' timestamps. Where producers' clocks disagree: the log is read
  from the first record that is not older than the one, up to the first that is younger than the other.
- One page reads at most `PAGE_RECORDS` offsets of the log, and then it ends with a cursor, even if it is empty. It has
  `PAGE_BYTES` of messages at most, and one that is larger.
- Topics of which no rule makes this channel are not read, nor what the node knows to be without it.
- A message is shown in its newest version at the place of its first (Ably protocol, "Update, delete, append"). Memory
  tells which that is; for what only the log has, whoever looks single messages up.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Final, Protocol

from fanout.callbacks import outcome
from fanout.errors import ClientError, ErrorInfo, SourceBusy, SourceError, error
from fanout.history.reading import has_read
from fanout.history.streams import Budget, Decoder, Stream, merge
from fanout.shares import Shares
from fanout.sources.base import Source
from fanout.types import END_OF_TIME, HistoryPage, HistoryQuery, Message

__all__ = ["History"]

log = logging.getLogger(__name__)

PAGE_RECORDS: Final = 20_000  # some 0.1 s of reading
PAGE_BYTES: Final = 1 << 20  # encoded in some ms; what a client that does not read its answer keeps here
ASKING_MAX: Final = 64  # pages under way, shared by who asks, each with as much of the log as it has read last
BEHIND_EVERY_S: Final = 0.05  # for a node that has not read as far as the one where the client was
BEHIND_LOOKS: Final = 100

Where = tuple[str, int]
_TOO_MANY: Final = error(42910, "too many look back at once; try again")

Newest = Callable[[str, list[Message], str], Awaitable[list[Message]]]
Whole = Callable[[str, str, Callable[[str | ErrorInfo | None], None]], None]
Place = tuple[str, int, int]


class Memory(Decoder, Protocol):
    """What a node holds of its channels; `fanout._core.Engine` answers this."""

    def places(self, channel: str, position: str | None) -> list[Place]:
        """The places of a position, or of how far the node has read. Raises ValueError for a foreign one."""

    def position_at(self, channel: str, places: Sequence[Place]) -> str:
        """The position of places."""

    def held(
        self,
        channel: str,
        places: Sequence[Place],
        start_ms: int,
        end_ms: int,
        forwards: bool,
        limits: tuple[int, int],
    ) -> tuple[list[Message], list[int], list[int], bool]:
        """Messages, where to go on, floors, whether more are held."""


class History:
    """The past of a node's channels. Belongs to the event loop; its calls may be cancelled.

    `may_make` says whether records of a topic may be messages of a channel; `newest` makes of messages their newest
    versions; `whole` gives a position in a form that needs no checkpoint, as `fanout.checkpoints.Checkpoints.whole`;
    `written` is how far this node has written, so that who publishes here and looks back finds it; `is_read` says of a
    channel whether all that may feed it is read here.
    """

    def __init__(
        self,
        memory: Memory,
        source: Source,
        may_make: Callable[[str, str], bool],
        newest: Newest,
        whole: Whole,
        written: Mapping[Where, int] = MappingProxyType({}),
        is_read: Callable[[str], bool] = lambda channel: True,
    ) -> None:
        self._memory = memory
        self._source = source
        self._may_make = may_make
        self._newest = newest
        self._whole = whole
        self._written = written
        self._is_read = is_read
        self._shares = Shares(ASKING_MAX, _TOO_MANY)

    async def page(self, channel: str, query: HistoryQuery, who: str) -> HistoryPage:
        """A page of the channel's messages, for `who` asks for it.

        Raises ClientError: 40011 for a cursor that is not of this channel and log, 90008 for such a place of attaching,
        or one that the log no longer reaches back to; 42910 when too much is read at once, 50003 when the log, or the
        node, is behind.
        """
        if query.cursor or query.until:
            await self._caught_up(channel, {})
            places = await self._begin(channel, query)
            await self._caught_up(channel, places)
        else:
            await self._caught_up(channel, self._written)
            places = await self._begin(channel, query)
        with self._shares.place(who), _numbered():
            return await self._page(channel, query, places, who)

    # -- where to begin --

    async def _begin(self, channel: str, query: HistoryQuery) -> dict[Where, int]:
        position = query.cursor or query.until
        try:
            position = None if position is None else await self._understood(channel, position)
            places = self._memory.places(channel, position)
        except ValueError:
            raise ClientError(error(40011 if query.cursor else 90008)) from None
        topics = {name for name, _, _ in places if self._may_make(name, channel)}
        from_start = query.forwards and not query.cursor
        return {(name, number): 0 if from_start else offset for name, number, offset in places if name in topics}

    async def _understood(self, channel: str, position: str) -> str:
        """The position in a form that memory understands. Raises ValueError for a foreign one."""
        whole: str | ErrorInfo | None = await outcome(partial(self._whole, channel, position))
        if whole is None:
            raise ValueError("its checkpoint is not in the log")
        if isinstance(whole, ErrorInfo):
            raise ClientError(whole)
        return whole

    async def _caught_up(self, channel: str, places: Mapping[Where, int]) -> None:
        """Waits until this node has read as far as that."""
        for _ in range(BEHIND_LOOKS):
            if self._is_read(channel) and has_read(self._memory.places(channel, None), places):
                return
            await asyncio.sleep(BEHIND_EVERY_S)
        raise ClientError(error(50003, "this node has not read as far yet; try again"))

    # -- memory and log --

    async def _page(self, channel: str, query: HistoryQuery, places: dict[Where, int], who: str) -> HistoryPage:
        attached = dict(places) if query.until and not query.cursor else {}
        budget = Budget.of(PAGE_RECORDS, len(places), PAGE_BYTES)
        found: list[Message] = []
        while True:
            held, floors, more = self._held(channel, query, places, (query.limit - len(found), max(0, budget.bytes)))
            found += held
            for message in held:
                budget.spend(message)
            if more:
                return HistoryPage(found, self._cursor(channel, places))
            if query.forwards and all(place >= floors[where] for where, place in places.items()):
                return HistoryPage(found, None)
            streams = await self._streams(channel, query, places, floors)
            if attached and not found and all(attached[stream.where] < stream.earliest for stream in streams):
                raise ClientError(error(90008))
            messages, more = await merge(streams, query.limit - len(found), budget)
            found += await self._newest(channel, messages, who)
            places |= {stream.where: stream.place for stream in streams}
            if more:
                return HistoryPage(found, self._cursor(channel, places))
            if not query.forwards:
                return HistoryPage(found, None)
            places |= {where: max(place, floors[where]) for where, place in places.items()}

    def _held(
        self, channel: str, query: HistoryQuery, places: dict[Where, int], limits: tuple[int, int]
    ) -> tuple[list[Message], dict[Where, int], bool]:
        """What memory holds next, and its floors; moves the places on."""
        asked = _listed(places)
        messages, following, floors, more = self._memory.held(
            channel, asked, query.start_ms, query.end_ms, query.forwards, limits
        )
        wheres = list(places)
        places |= dict(zip(wheres, following, strict=True))
        return messages, dict(zip(wheres, floors, strict=True)), more

    async def _streams(
        self, channel: str, query: HistoryQuery, places: dict[Where, int], floors: dict[Where, int]
    ) -> list[Stream]:
        """What the log has below the floors, between the times."""
        streams = []
        for topic in sorted({name for name, _ in places}):
            numbers = [number for name, number in places if name == topic]
            bounds = await self._source.bounds(topic, numbers)
            if not bounds.keys() >= set(numbers):
                raise SourceError(f"topic {topic!r} has partitions that cannot be asked for now")
            first = await self._source.since(topic, query.start_ms, numbers) if query.start_ms > 0 else {}
            is_open = query.end_ms >= END_OF_TIME
            behind = {} if is_open else await self._source.since(topic, query.end_ms + 1, numbers)
            for number in numbers:
                where = (topic, number)
                earliest, end = bounds[number]
                low, high = max(earliest, first.get(number, 0)), min(floors[where], behind.get(number, end))
                place = max(places[where], low) if query.forwards else min(places[where], high)
                stream = Stream(
                    self._source,
                    self._memory,
                    channel,
                    where,
                    place=place,
                    last=high if query.forwards else low,
                    earliest=earliest,
                    forwards=query.forwards,
                    times=(query.start_ms, query.end_ms),
                )
                streams.append(stream)
        return streams

    def _cursor(self, channel: str, places: dict[Where, int]) -> str:
        return self._memory.position_at(channel, _listed(places))


@contextmanager
def _numbered() -> Iterator[None]:
    """Gives what the log refuses its number."""
    try:
        yield
    except SourceBusy:
        raise ClientError(_TOO_MANY) from None
    except SourceError as problem:
        log.warning("the log cannot be read back: %s", problem)
        raise ClientError(error(50003, "the log cannot be read now; try again")) from None


def _listed(places: dict[Where, int]) -> list[Place]:
    return [(name, number, offset) for (name, number), offset in places.items()]
