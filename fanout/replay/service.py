"""Who is replayed what, and with whom.

- A client joins a replay of its channel that has its position among what it holds, or ahead of that. Those who come
  within `GATHER_S` of each other share one that begins at the earliest of their places, unless they are far apart: a
  thousand clients of a channel are one reading of the log.
- The answer comes as soon as it is known whether the log still has what lies behind the position; the reading may begin
  later, when there is room (`room`).
- `REPLAYS_MAX` replays and `WAITING_MAX` clients without an answer are the bounds; who comes beyond, or when the log
  does not answer, is refused, and is to ask again.
- The log is asked what it has of the partitions that have to be read, and of no others; once for all channels that want
  to know the same at a time.
- Who is ahead of what this node has read is to ask again, here or on another node, if the log has got there; past
  the log's end a position is none.
- Many answers are given a few in each turn of the loop; what is found out for one position serves all who have it.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from fanout._core import FOREIGN, Plan, Replay
from fanout.errors import ErrorInfo, SourceError, error
from fanout.replay.bounds import Bounds
from fanout.replay.doubts import Doubts, Epochs
from fanout.replay.order import Where
from fanout.replay.reading import AHEAD_MAX, Feeder, Reading
from fanout.replay.room import Room
from fanout.replay.shared import Shared, Sorter
from fanout.sources.base import Source

__all__ = ["Answer", "Replays"]

log = logging.getLogger(__name__)

GATHER_S: Final = 0.02
BOUNDS_S: Final = 5.0  # half of what clients allow an ATTACH to take
WARN_EVERY_S: Final = 5.0
REPLAYS_MAX: Final = 1_000
WAITING_MAX: Final = 20_000
ANSWERS_PER_TURN: Final = 4
_TOO_MANY: Final = "too many resume from the log at once"

Answer = Callable[[Plan | ErrorInfo | None], None]
_Whole = Callable[[str, str, Callable[[str | ErrorInfo | None], None]], None]
Place = tuple[str, int, int]
_Places = dict[Where, int]


class _Memory(Epochs, Feeder, Sorter, Protocol):
    """What the node holds of its channels; `fanout._core.Engine` answers this."""

    def places(self, channel: str, position: str | None) -> list[Place]: ...

    def unheld(self, channel: str, position: str) -> list[Where]: ...

    def replay(self, channel: str, places: Sequence[Place]) -> Replay: ...


class _Waiting(NamedTuple):
    """A client that waits to be answered."""

    serial: str
    answer: Answer


class Replays:
    """The replays of one node. Belongs to the event loop."""

    def __init__(self, memory: _Memory, source: Source, may_make: Callable[[str, str], bool], whole: _Whole) -> None:
        """`may_make` says of a topic and a channel whether its records may be messages of it; `whole` gives a channel's
        position in a form that needs no checkpoint, as `fanout.checkpoints.Checkpoints.whole`.
        """
        self._memory = memory
        self._source = source
        self._may_make = may_make
        self._whole = whole
        self._room = Room()
        self._by_id: dict[int, Reading] = {}
        self._by_channel: dict[str, list[Reading]] = {}
        self._gathered: dict[str, list[_Waiting]] = {}
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._bounds = Bounds(source)
        self._shared = Shared(memory, source)
        self._doubts = Doubts(memory, source, self._bounds)
        self._warned_at = -WARN_EVERY_S

    def __len__(self) -> int:
        """Replays at the moment."""
        return len(self._by_id)

    def resume(self, channel: str, serial: str, answer: Answer) -> None:
        """Finds a place for who comes back with a position that memory does not reach back to, or not yet.

        `answer` is called once, perhaps before this returns: with a plan, RESUMED or GAP; with None, if the position is
        none of this channel in this log; or with an error, and then the question is to be put again later.
        """
        self._whole(channel, serial, lambda whole: self._resume(channel, whole, answer))

    def _resume(self, channel: str, serial: str | ErrorInfo | None, answer: Answer) -> None:
        if not isinstance(serial, str):
            answer(serial)
            return
        try:
            places = self._located(channel, serial)
        except ValueError:
            answer(None)
            return
        for reading in self._by_channel.get(channel, ()):
            if plan := reading.plan(serial, places):
                answer(plan)
                return
        if self._waiting >= WAITING_MAX or len(self._by_id) >= REPLAYS_MAX:
            answer(error(50003, _TOO_MANY))
            return
        self._waiting += 1
        waiting = self._gathered.setdefault(channel, [])
        waiting.append(_Waiting(serial, answer))
        if len(waiting) == 1:
            self._start(self._begin(channel))

    def look(self, replay: int) -> None:
        """A replay's attachments have answered it. One that is no more is ignored."""
        if reading := self._by_id.get(replay):
            reading.look()

    def close(self) -> None:
        """Ends all replays."""
        for task in self._tasks:
            task.cancel()
        self._bounds.close()
        self._shared.close()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, channel: str) -> None:
        """Answers those who were gathered, and begins the replays that they need."""
        await asyncio.sleep(GATHER_S)
        earliest, ends = dict[Where, int](), dict[Where, int]()
        settled, late = set[str](), dict[str, ErrorInfo | None]()
        try:
            async with asyncio.timeout(BOUNDS_S):
                for one in self._gathered[channel]:  # with those who come meanwhile
                    if one.serial not in settled:
                        settled.add(one.serial)
                        await self._doubts.settle(channel, one.serial)
                        if unheld := self._unheld(channel, one.serial):
                            await self._ask(unheld, earliest)
                        elif ahead := self._ahead(channel, one.serial):
                            late[one.serial] = await self._late(ahead, ends)
                        if len(settled) % ANSWERS_PER_TURN == 0:
                            await asyncio.sleep(0)
        except (SourceError, TimeoutError) as problem:
            self._warn(problem)
            await self._refuse(self._take(channel), "the log cannot be read now")
            return
        except Exception:
            log.exception("what clients missed is not looked for, for an error that was not expected")
            await self._refuse(self._take(channel), "the log cannot be read now")
            return
        gathered: dict[str, list[_Waiting]] = {}
        for one in self._take(channel):
            gathered.setdefault(one.serial, []).append(one)
        found: dict[str, _Places] = {}
        for count, (serial, waiting) in enumerate(gathered.items(), 1):
            if count % ANSWERS_PER_TURN == 0:
                await asyncio.sleep(0)
            if serial in late:
                await self._answer((one, late[serial]) for one in waiting)
                continue
            try:
                found[serial] = self._located(channel, serial)
            except ValueError:  # its topic was made anew meanwhile
                await self._answer((one, None) for one in waiting)
        for group in _groups(found, earliest.keys()):
            together = [one for serial in group for one in gathered[serial]]
            if len(self._by_id) >= REPLAYS_MAX:  # others have begun meanwhile
                await self._refuse(together, _TOO_MANY)
                continue
            starts = _lowest([found[serial] for serial in group])
            starts = {where: max(start, earliest.get(where, 0)) for where, start in starts.items()}
            replay = self._memory.replay(channel, _listed(starts))
            reading = Reading(
                channel,
                replay,
                self._memory,
                self._bounds,
                self._shared,
                lambda topic: self._may_make(topic, channel),
                self._room,
            )
            self._by_id[replay.id] = reading
            self._by_channel.setdefault(channel, []).append(reading)
            self._start(self._run(channel, reading, together))

    async def _run(self, channel: str, reading: Reading, together: Sequence[_Waiting]) -> None:
        def answers() -> Iterator[tuple[_Waiting, Plan | None]]:
            for one in together:
                plan = reading.replay.locate(one.serial)
                yield one, None if plan.outcome == FOREIGN else plan

        try:
            await self._answer(answers())
            await reading.run()
        finally:
            reading.replay.end()
            del self._by_id[reading.replay.id]
            readings = self._by_channel[channel]
            readings.remove(reading)
            if not readings:
                del self._by_channel[channel]

    def _warn(self, problem: Exception) -> None:
        """Clients come back until the log can be asked: that is not told of each time."""
        now = asyncio.get_running_loop().time()
        if now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            log.warning("the log cannot be asked for what clients missed: %s", problem)

    def _located(self, channel: str, serial: str) -> _Places:
        """The places of a position. Raises ValueError."""
        return {(topic, number): offset for topic, number, offset in self._memory.places(channel, serial)}

    def _take(self, channel: str) -> list[_Waiting]:
        return self._gathered.pop(channel)

    async def _refuse(self, waiting: Sequence[_Waiting], why: str) -> None:
        refused = error(50003, why)
        await self._answer((one, refused) for one in waiting)

    async def _answer(self, answers: Iterable[tuple[_Waiting, Plan | ErrorInfo | None]]) -> None:
        for count, (waiting, answer) in enumerate(answers, 1):
            self._waiting -= 1
            try:
                waiting.answer(answer)
            except Exception:  # of one client's: the others wait for theirs
                log.exception("an answer ends with an error that was not expected")
            if count % ANSWERS_PER_TURN == 0:
                await asyncio.sleep(0)

    def _unheld(self, channel: str, serial: str) -> list[Where]:
        """The partitions that have to be read for this position."""
        try:
            unheld = self._memory.unheld(channel, serial)
        except ValueError:  # its topic was made anew meanwhile
            return []
        return [(topic, number) for topic, number in unheld if self._may_make(topic, channel)]

    async def _ask(self, unheld: Collection[Where], earliest: _Places) -> None:
        """Adds the earliest offset of each of these partitions. Raises SourceError."""
        wanted: dict[str, set[int]] = {}
        for topic, number in unheld:
            if (topic, number) not in earliest:
                wanted.setdefault(topic, set()).add(number)
        for topic, numbers in wanted.items():
            found = await self._bounds.earliest(topic, numbers)
            earliest |= {(topic, number): found[number] for number in numbers}

    def _ahead(self, channel: str, serial: str) -> _Places:
        """The places of this position that this node has not read up to."""
        try:
            places = self._located(channel, serial)
            return {where: offset for where, offset in places.items() if offset > self._memory.entry(*where)[2]}
        except ValueError:
            return {}

    async def _late(self, ahead: _Places, ends: _Places) -> ErrorInfo | None:
        """What who has places that this node has not read up to is told: to come back, if the log has got there, or
        that is not certain. `ends` are where partitions were found to end, to which is added.
        """
        try:
            for where, offset in ahead.items():
                if ends.get(where, 0) < offset:
                    ends[where] = (await self._bounds.now(*where, offset))[1]
                if ends[where] < offset:
                    return None
        except SourceError as problem:  # it may be this place's alone: others are looked for
            self._warn(problem)
            return error(50003, "the log cannot be read now")
        return error(50003, "this node has not read as far yet; try again")


def _lowest(all_places: Sequence[_Places]) -> _Places:
    """Of each partition the lowest place; one that came while they were looked up has some of them alone."""
    return {where: min(places.get(where, 0) for places in all_places) for where in max(all_places, key=len)}


def _listed(places: _Places) -> list[Place]:
    return [(*where, offset) for where, offset in places.items()]


def _groups(found: Mapping[str, _Places], read: Collection[Where]) -> list[list[str]]:
    """The positions that can share a replay, from the one that lies furthest back on; nobody waits for more than
    `AHEAD_MAX` offsets of the partitions that are `read`.
    """
    along = {serial: sum(place for where, place in places.items() if where in read) for serial, places in found.items()}
    groups: list[list[str]] = []
    for serial in sorted(along, key=lambda serial: along[serial]):
        if groups and along[serial] - along[groups[-1][0]] <= AHEAD_MAX:
            groups[-1].append(serial)
        else:
            groups.append([serial])
    return groups
