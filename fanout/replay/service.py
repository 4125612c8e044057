"""Who is replayed what, and with whom.

- A client joins a replay of its channel that has its position among what it holds, or ahead of that. Those who come
  within `GATHER_S` of each other share one that begins at the earliest of their places, unless they are far apart: a
  thousand clients of a channel are one reading of the log.
- The answer comes as soon as it is known whether the log still has what lies behind the position; the reading may begin
  later. Of all that have begun `ACTIVE` read at a time, the others in the order in which they came.
- `REPLAYS_MAX` replays and `WAITING_MAX` clients without an answer are the bounds; who comes beyond, or when the log
  does not answer, is refused, and is to come back.
- The log is asked what it has once for all channels that want to know at a time.
- Many answers are given a few in each turn of the loop.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol

from fanout._core import FOREIGN, Plan, Replay
from fanout.errors import ErrorInfo, SourceError, error
from fanout.replay.doubts import Epochs, settle
from fanout.replay.order import Where
from fanout.replay.reading import AHEAD_MAX, Feeder, Reading
from fanout.sources.base import Source

__all__ = ["Answer", "Replays"]

log = logging.getLogger(__name__)

GATHER_S: Final = 0.02
BOUNDS_S: Final = 5.0  # half of what clients allow an ATTACH to take
ACTIVE: Final = 8  # with what a replay holds, 64 MiB at most
REPLAYS_MAX: Final = 1_000
WAITING_MAX: Final = 20_000
ANSWERS_PER_TURN: Final = 20
_TOO_MANY: Final = "too many resume from the log at once"

Answer = Callable[[Plan | ErrorInfo | None], None]
Place = tuple[str, int, int]


class _Memory(Epochs, Feeder, Protocol):
    """What the node holds of its channels; `fanout._core.Engine` answers this."""

    def places(self, channel: str, position: str | None) -> list[Place]: ...

    def replay(self, channel: str, places: Sequence[Place]) -> Replay: ...


class _Waiting(NamedTuple):
    """A client that waits to be answered."""

    serial: str
    answer: Answer
    places: dict[Where, int]


class Replays:
    """The replays of one node. Belongs to the event loop."""

    def __init__(self, memory: _Memory, source: Source, may_make: Callable[[str, str], bool]) -> None:
        """`may_make` says of a topic and a channel whether its records may be messages of it."""
        self._memory = memory
        self._source = source
        self._may_make = may_make
        self._places = asyncio.Semaphore(ACTIVE)
        self._by_id: dict[int, Reading] = {}
        self._by_channel: dict[str, list[Reading]] = {}
        self._gathered: dict[str, list[_Waiting]] = {}
        self._waiting = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: dict[str, asyncio.Task[dict[int, tuple[int, int]]]] = {}  # by topic

    def __len__(self) -> int:
        """Replays at the moment."""
        return len(self._by_id)

    def resume(self, channel: str, serial: str, answer: Answer) -> None:
        """Finds a place for who comes back with a position that memory does not reach back to.

        `answer` is called once, perhaps before this returns: with a plan, RESUMED or GAP; with None, if the position is
        none of this channel in this log; or with an error, and then the client is to come back.
        """
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
        waiting.append(_Waiting(serial, answer, places))
        if len(waiting) == 1:
            self._start(self._begin(channel))

    def look(self, replay: int) -> None:
        """A replay's attachments have answered it. One that is no more is ignored."""
        if reading := self._by_id.get(replay):
            reading.look()

    def close(self) -> None:
        """Ends all replays."""
        for task in [*self._tasks, *self._asked.values()]:
            task.cancel()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _begin(self, channel: str) -> None:
        """Answers those who were gathered, and begins the replays that they need."""
        await asyncio.sleep(GATHER_S)
        try:
            async with asyncio.timeout(BOUNDS_S):
                earliest = await self._earliest(channel)
                settled = set[str]()
                for one in self._gathered[channel]:  # with those who come meanwhile
                    if one.serial not in settled:
                        settled.add(one.serial)
                        await settle(self._memory, self._source, channel, one.serial)
        except (SourceError, TimeoutError) as problem:
            log.warning("the log cannot be asked for what clients missed: %s", problem)
            await self._refuse(self._take(channel), "the log cannot be read now")
            return
        except Exception:
            log.exception("what clients missed is not looked for, for an error that was not expected")
            await self._refuse(self._take(channel), "the log cannot be read now")
            return
        waiting = self._take(channel)
        try:
            gathered = [one._replace(places=self._located(channel, one.serial)) for one in waiting]
        except ValueError:  # its topic was made anew meanwhile
            await self._answer((one, None) for one in waiting)
            return
        for together in _groups(gathered, earliest.keys()):
            if len(self._by_id) >= REPLAYS_MAX:  # others have begun meanwhile
                await self._refuse(together, _TOO_MANY)
                continue
            starts = {where: min(one.places[where] for one in together) for where in together[0].places}
            starts = {where: max(start, earliest.get(where, 0)) for where, start in starts.items()}
            replay = self._memory.replay(channel, [(*where, start) for where, start in starts.items()])
            reading = Reading(
                channel,
                replay,
                self._memory,
                self._source,
                lambda topic: self._may_make(topic, channel),
                self._places,
                lambda: len(self._by_id) > ACTIVE,
            )
            plans = [replay.locate(one.serial) for one in together]
            self._by_id[replay.id] = reading
            self._by_channel.setdefault(channel, []).append(reading)
            self._start(self._run(channel, reading, list(zip(together, plans, strict=True))))

    async def _run(self, channel: str, reading: Reading, answers: Sequence[tuple[_Waiting, Plan]]) -> None:
        try:
            await self._answer((one, None if plan.outcome == FOREIGN else plan) for one, plan in answers)
            await reading.run()
        finally:
            reading.replay.end()
            del self._by_id[reading.replay.id]
            readings = self._by_channel[channel]
            readings.remove(reading)
            if not readings:
                del self._by_channel[channel]

    def _located(self, channel: str, serial: str) -> dict[Where, int]:
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
            waiting.answer(answer)
            if count % ANSWERS_PER_TURN == 0:
                await asyncio.sleep(0)

    async def _earliest(self, channel: str) -> Mapping[Where, int]:
        """The earliest offset of each partition of the topics that matter. Raises SourceError."""
        topics = {topic for topic, _, _ in self._memory.places(channel, None)}
        earliest: dict[Where, int] = {}
        for topic in sorted(topic for topic in topics if self._may_make(topic, channel)):
            bounds = await self._bounds(topic)
            earliest |= {(topic, number): first for number, (first, _) in bounds.items()}
        return earliest

    async def _bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """Those of a topic's partitions, asked for once for all who want to know meanwhile. Retention may have gone on
        since: a replay that begins too early finds that. Raises SourceError.
        """
        if topic not in self._asked:
            self._asked[topic] = asked = asyncio.get_running_loop().create_task(self._source.bounds(topic))
            asked.add_done_callback(lambda _: self._asked.pop(topic))
            asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())  # heard, also if nobody waits
        return await asyncio.shield(self._asked[topic])


def _groups(waiting: Sequence[_Waiting], read: Collection[Where]) -> list[list[_Waiting]]:
    """Those who can share a replay, from the one who was away longest on; nobody waits for more than `AHEAD_MAX`
    offsets of the partitions that are `read`.
    """

    def along(one: _Waiting) -> int:
        return sum(place for where, place in one.places.items() if where in read)

    groups: list[list[_Waiting]] = []
    for one in sorted(waiting, key=along):
        if groups and along(one) - along(groups[-1][0]) <= AHEAD_MAX:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups
