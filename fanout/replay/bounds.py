"""What the log has of partitions: asked once for all who want to know the same, and remembered for `HELD_S`.

Retention may have gone on since. Whoever begins too early for that finds it (`now`), and then it is asked for again.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final

from fanout.sources.base import Source

__all__ = ["Bounds"]

HELD_S: Final = 1.0
HELD_MAX: Final = 1_000  # answers
ASKING: Final = 8  # questions at a time: others look back too, and a source takes 64
GRAIN_MS: Final = 10_000  # of times that are asked for: replays that begin side by side ask for the same

_Question = tuple[str, frozenset[int], int | None]
_Answer = dict[int, int]


class Bounds:
    """The bounds of one node's partitions. Belongs to the event loop."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._asking = asyncio.Semaphore(ASKING)
        self._asked: dict[_Question, asyncio.Task[_Answer]] = {}
        self._held: dict[_Question, _Answer] = {}

    def __len__(self) -> int:
        """Answers that are held."""
        return len(self._held)

    async def earliest(self, topic: str, numbers: Collection[int]) -> dict[int, int]:
        """The earliest offset of each, of those that are read; up to `HELD_S` old. Raises SourceError. May be
        cancelled.
        """

        async def find() -> _Answer:
            found = await self._source.bounds(topic, numbers)
            return {number: earliest for number, (earliest, _) in found.items()}

        return await self._answer((topic, frozenset(numbers), None), find)

    async def since(self, topic: str, number: int, timestamp: int) -> int | None:
        """The first offset whose record is not older than `timestamp`, or one up to `GRAIN_MS` before that; None if the
        partition is not read. Raises as `earliest`.
        """
        rounded = timestamp // GRAIN_MS * GRAIN_MS
        find = partial(self._source.since, topic, rounded, [number])
        return (await self._answer((topic, frozenset([number]), rounded), find)).get(number)

    async def now(self, topic: str, number: int) -> tuple[int, int]:
        """The earliest offset, and the one behind the last; both 0 if it is not read. Raises as `earliest`."""
        for question in [question for question in self._held if question[0] == topic and number in question[1]]:
            del self._held[question]
        return (await self._source.bounds(topic, [number])).get(number, (0, 0))

    def close(self) -> None:
        """Asks no more."""
        for task in self._asked.values():
            task.cancel()

    async def _answer(self, question: _Question, find: Callable[[], Awaitable[_Answer]]) -> _Answer:
        if question in self._held:
            return self._held[question]
        if question not in self._asked:
            self._asked[question] = asked = asyncio.get_running_loop().create_task(self._ask(question, find))
            asked.add_done_callback(lambda _: self._asked.pop(question))
            asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())  # heard, also if nobody waits
        return await asyncio.shield(self._asked[question])

    async def _ask(self, question: _Question, find: Callable[[], Awaitable[_Answer]]) -> _Answer:
        async with self._asking:
            answer = await find()
        self._held[question] = answer
        if len(self._held) > HELD_MAX:
            del self._held[next(iter(self._held))]
        asyncio.get_running_loop().call_later(HELD_S, self._forget, question, answer)
        return answer

    def _forget(self, question: _Question, answer: _Answer) -> None:
        if self._held.get(question) is answer:
            del self._held[question]
