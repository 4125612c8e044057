"""One replay while it is filled: reads the log back, as far and as fast as those who are on it are given it.

- It reads until memory holds what comes next, and a little further, since memory forgets meanwhile. Then it asks its
  attachments to go on live, which they do where they stand; for those who cannot any more it reads on. Where nothing is
  left to read and they cannot all the same (they are ahead of the node, or the log was cut below them), they are asked
  again for `WAIT_S`; then they come back, and are told.
- It holds `RING_BYTES` at most. Then it waits until all have been given that, and drops the older half of it; who has
  not read as much within `WAIT_S`, or `STUCK_S` while others wait for its place, is left behind, and comes back to a
  replay that begins where it is.
- What cannot hold the channel, as far as the node knows, is passed over unread.
- Which of a channel's first records in a partition are repeats is only known from those of one de-duplication window
  before them: then these are read, too.
- Where retention has taken what comes next, or it is damaged, it ends: its clients come back, and are told so.
- A log that cannot be read now is tried again, as long as somebody waits.
- Of the loop it takes `PIECE` records or one look at the index at a time, with pauses. It has a place while it reads,
  and until all are live if there is no room for what it holds without one (`room`). Where others wait for a place, who
  is not live `WAIT_S` after all was read is left behind, and what cannot be read now is tried again when the others had
  their turn; until then nothing is held.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

from fanout._core import DEDUP_WINDOW_MS, RESUMED, Plan, Replay
from fanout.delivered import headers_of, timestamp_of
from fanout.errors import SourceDamaged, SourceError
from fanout.replay.bounds import Bounds
from fanout.replay.order import Goal, Order, Where
from fanout.replay.room import Room
from fanout.replay.shared import PAUSE_S, PIECE, Part, Shared

__all__ = ["AHEAD_MAX", "Feeder", "Reading"]

log = logging.getLogger(__name__)

RING_BYTES: Final = 8 << 20
WAIT_S: Final = 10.0
STUCK_S: Final = 2.0  # the same for who does not read what a replay holds, while others wait for its place
IDLE_S: Final = 2.0  # a replay that nobody is on is kept so long for those who come a little later
LOOK_S: Final = 0.25  # attachments that are no more are not told of
RETRY_S: Final = 1.0
MARGIN: Final = 10_000  # offsets read beyond what memory holds from: some seconds of a busy partition
LOOK: Final = 1_000_000  # offsets that are looked up at once
AHEAD_MAX: Final = 50_000  # offsets: who is further ahead of a replay than that does not wait for it


class Feeder(Protocol):
    """What fills a replay; `fanout._core.Engine` answers this."""

    def blocks(self, channel: str, topic: str, partition: int, start: int, stop: int) -> list[tuple[int, int]]:
        """The ranges of offsets from `start` to `stop` that may hold the channel, in order."""

    def feed(self, replay: Replay, records: Sequence[Any], *, ids_only: bool = ..., clock_ms: int) -> None:
        """Gives the replay records."""


class Reading:
    """One replay, and the task that fills it. Belongs to the event loop."""

    def __init__(
        self,
        channel: str,
        replay: Replay,
        feeder: Feeder,
        bounds: Bounds,
        shared: Shared,
        concerns: Callable[[str], bool],
        room: Room,
    ) -> None:
        """`concerns` says of a topic whether its records may be the channel's; the rest is shared by all readings."""
        self.replay = replay
        self._channel = channel
        self._feeder = feeder
        self._bounds = bounds
        self._shared = shared
        self._concerns = concerns
        self._room = room
        self._order = Order()
        self._starts: dict[Where, int] = {}
        self._with_ids: set[Where] = set()  # of which it knows what came before
        self._told = asyncio.Event()
        self._is_failing = False
        self._used_at = 0.0  # somebody was on it, or told to be soon
        self._expected_at = 0.0  # somebody was told

    def look(self) -> None:
        """Attachments have answered."""
        self._told.set()

    def plan(self, serial: str, places: dict[Where, int]) -> Plan | None:
        """Where a client goes on from here whose position is `serial`, with these places; None if it cannot, or if it
        would wait long.
        """
        plan = self.replay.locate(serial)
        goals = self._goals()
        if plan.outcome != RESUMED or goals is None:
            return None
        ahead = sum(max(0, places.get(goal.where, 0) - goal.place) for goal in goals)
        if ahead > AHEAD_MAX:
            return None
        self._expect()
        return plan

    async def run(self) -> None:
        """Reads until nobody needs it any more. Does not raise; may be cancelled."""
        self._expect()
        try:
            while await self._take_turn():
                pass
        except Exception:
            log.exception("a replay ends for an error that was not expected")
        finally:
            self.replay.end()

    # -- steps --

    async def _take_turn(self) -> bool:
        """Reads all that there is to read, while it has a place, and hands over; whether it is to have another turn."""
        async with self._room.place():
            while goals := self._goals():
                if not self._is_used() or not await self._step(goals):
                    return False
                if self._is_failing and self._room.is_awaited:
                    self.replay.drop_to(0)
                    return True
            if goals is None:
                return False
            held = self.replay.bytes
            if not self._room.keep(held):
                return await self._hand_over()
        try:
            return await self._hand_over()
        finally:
            self._room.free(held)

    async def _step(self, goals: Sequence[Goal]) -> bool:
        """Reads a little, if it may; whether it can go on."""
        if self.replay.bytes >= RING_BYTES:
            await self._make_room()
            return True
        try:
            goes_on = await self._read(goals)
            self._is_failing = False
            return goes_on
        except SourceError as problem:
            log.warning("the log cannot be read back: %s", problem)
            self._is_failing = True
            await asyncio.sleep(RETRY_S)
            return True

    def _goals(self) -> list[Goal] | None:
        """What is to be read; None if the replay cannot go on. Topics that cannot matter are passed over."""
        wanted = self.replay.wanted(MARGIN)
        if wanted is None:
            return None
        goals = []
        for goal in map(Goal._make, wanted):
            if self._concerns(goal.topic):
                goals.append(goal)
            else:
                self.replay.advance(goal.topic, goal.partition, goal.goal)
        return goals

    def _expect(self) -> None:
        """Somebody was told to go on from here: the shards have yet to hear of it."""
        self._used_at = self._expected_at = asyncio.get_running_loop().time()

    def _is_used(self) -> bool:
        """Whether somebody is on it, or soon will be, or was a moment ago and nobody else waits for its place."""
        now = asyncio.get_running_loop().time()
        if self.replay.attachments:
            self._used_at = now
            return True
        return now - self._expected_at < LOOK_S if self._room.is_awaited else now - self._used_at < IDLE_S

    async def _hand_over(self) -> bool:
        """Lets everyone go on live who comes to the end, until somebody cannot; whether the replay goes on then."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WAIT_S
        while self._is_used():
            self._told.clear()
            self.replay.ask(hands_over=True)
            while self._is_used() and not self.replay.answers[1]:
                if self._room.is_awaited and loop.time() >= deadline:
                    return False
                await self._wait(LOOK_S)
            if self._goals() != [] or loop.time() >= deadline:
                return self._goals() != []
            await asyncio.sleep(LOOK_S)
        return False

    async def _make_room(self) -> None:
        self._told.clear()
        self.replay.ask(hands_over=False)
        loop = asyncio.get_running_loop()
        began = loop.time()
        while self._is_used() and loop.time() - began < (STUCK_S if self._room.is_awaited else WAIT_S):
            attachments = self.replay.attachments
            if attachments and self.replay.answers[0] >= attachments:
                break
            await self._wait(LOOK_S)
        self.replay.drop_to(RING_BYTES // 2)

    async def _wait(self, seconds: float) -> None:
        """Until attachments have answered, so long at most."""
        try:
            async with asyncio.timeout(seconds):
                await self._told.wait()
        except TimeoutError:
            pass
        self._told.clear()

    # -- reading --

    async def _read(self, goals: Sequence[Goal]) -> bool:
        """Reads a slice of one partition, or passes over what cannot matter; whether the replay can go on. Raises
        SourceError.
        """
        goal = self._order.next(goals)
        stop = min(goal.goal, goal.place + LOOK)
        first, stop = next(iter(self._feeder.blocks(self._channel, *goal.where, goal.place, stop)), (stop, stop))
        if first > goal.place:
            self.replay.advance(goal.topic, goal.partition, first)
            await asyncio.sleep(PAUSE_S)
            return True
        try:
            part = await self._shared.read(self._channel, goal.where, goal.place, stop)
        except SourceDamaged:
            earliest, _ = await self._bounds.now(*goal.where, goal.place)
            if earliest <= goal.place:
                raise
            return False
        if await self._is_cut(goal, part):
            return False
        clock_ms = self._order.clock_ms(goals)
        start = self._starts.setdefault(goal.where, goal.place)
        if goal.where not in self._with_ids and any(map(_has_id, part.records)):
            since_ms = min(map(timestamp_of, part.records)) - DEDUP_WINDOW_MS
            await self._read_ids(goal.where, since_ms, start, clock_ms)
            self._with_ids.add(goal.where)
        await self._feed(part.records, clock_ms, ids_only=False)
        self.replay.advance(goal.topic, goal.partition, part.next)
        self._order.reached(goal.where, part.last_ms)
        return True

    async def _is_cut(self, goal: Goal, part: Part) -> bool:
        """Whether the log no longer has what comes next: it has been taken by retention, or cut off. Raises
        SourceError, also while that is not certain.
        """
        if part.first is not None and part.first <= goal.place:
            return False
        needed = goal.goal if part.next <= goal.place else goal.place
        earliest, end = await self._bounds.now(*goal.where, goal.place, needed)
        return earliest > goal.place or end < needed

    async def _read_ids(self, where: Where, since_ms: int, start: int, clock_ms: int) -> None:
        """Reads what a partition has since then, below where its reading began."""
        topic, partition = where
        at = await self._bounds.since(topic, partition, since_ms)
        while at < start:
            stop = min(start, at + LOOK)
            at, stop = next(iter(self._feeder.blocks(self._channel, *where, at, stop)), (stop, stop))
            if at < stop:
                part = await self._shared.read(self._channel, where, at, stop)
                await self._feed(part.records, clock_ms, ids_only=True)
                at = max(part.next, at + 1)
            else:
                await asyncio.sleep(PAUSE_S)

    async def _feed(self, records: Sequence[Any], clock_ms: int, *, ids_only: bool) -> None:
        for start in range(0, len(records), PIECE):
            self._feeder.feed(self.replay, records[start : start + PIECE], ids_only=ids_only, clock_ms=clock_ms)
            await asyncio.sleep(PAUSE_S)
        if not records:  # and perhaps none was read for it
            await asyncio.sleep(PAUSE_S)


def _has_id(record: Any) -> bool:
    return any(name == "fanout.id" for name, _ in headers_of(record))
