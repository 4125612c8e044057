"""What the log has of partitions: asked once for all who want to know the same, and remembered for `HELD_S`.

What has no answer within `ASK_S` makes room for other questions, and so does what failed: from then on it is asked
apart from the others, once for all who want to know and at most once in `HELD_S`, and nobody waits longer than
`PATIENCE_S` for it. So partitions that do not answer hold up nobody but those who ask for them, and those who ask again
are told at once.

Retention may have gone on since. Whoever begins too early for that finds it (`now`), and then it is asked for again.
That the log ends below a place that somebody was given is told when it has been so for a while (`standing`), and who
asks sooner is to come back: a broker that has just woken, or been elected, may tell an end that was.
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Final, NamedTuple, TypeVar

from fanout.asking import Asking
from fanout.errors import SourceError
from fanout.replay.standing import Standing
from fanout.sources.base import Source

__all__ = ["Bounds"]

HELD_S: Final = 1.0
HELD_MAX: Final = 1_000  # answers
FAILED_MAX: Final = 1_000  # questions that are asked apart
ASKING: Final = 8  # questions at a time, and so many apart: others look back too, and a source takes 64
ASK_S: Final = 2.0
PATIENCE_S: Final = 0.5
GRAIN_MS: Final = 10_000  # of times that are asked for: replays that begin side by side ask for the same

_Question = tuple[str, frozenset[int], int | None]
_Answer = dict[int, int]
_Found = TypeVar("_Found")


class _Failed(NamedTuple):
    text: str
    at: float  # when it was asked last


class Bounds:
    """The bounds of one node's partitions. Belongs to the event loop."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._asking: Asking[_Question, _Answer] = Asking(ASKING)
        self._apart: Asking[_Question, _Answer] = Asking(ASKING)
        self._held: dict[_Question, _Answer] = {}
        self._failed: dict[_Question, _Failed] = {}  # those that failed last at the end
        self._short = Standing()

    def __len__(self) -> int:
        """Answers that are held."""
        return len(self._held)

    async def earliest(self, topic: str, numbers: Collection[int]) -> dict[int, int]:
        """The earliest offset of each; up to `HELD_S` old. Raises SourceError, also if one of them cannot be asked for
        now. May be cancelled.
        """

        async def find() -> _Answer:
            found = _all(topic, numbers, await self._source.bounds(topic, numbers))
            return {number: earliest for number, (earliest, _) in found.items()}

        return await self._answer((topic, frozenset(numbers), None), find)

    async def since(self, topic: str, number: int, timestamp: int) -> int:
        """The first offset whose record is not older than `timestamp`, or one up to `GRAIN_MS` before that. Raises as
        `earliest`.
        """
        rounded = timestamp // GRAIN_MS * GRAIN_MS

        async def find() -> _Answer:
            return _all(topic, [number], await self._source.since(topic, rounded, [number]))

        return (await self._answer((topic, frozenset([number]), rounded), find))[number]

    async def now(self, topic: str, number: int, place: int, goal: int | None = None) -> tuple[int, int]:
        """The earliest offset, and the one behind the last. Raises as `earliest`, and while it only seems that the log
        ends below the `goal` of who stands at `place`; below that place itself, unless there is a goal.
        """
        for question in [question for question in self._held if question[0] == topic and number in question[1]]:
            del self._held[question]
        earliest, end = _all(topic, [number], await self._source.bounds(topic, [number]))[number]
        is_short = end < (place if goal is None else goal)
        if not self._short.has_stood((topic, number, place), is_so=is_short) and is_short:
            raise SourceError(
                f"topic {topic!r}, partition {number} seems to end at offset {end}, below a client's place"
            )
        return earliest, end

    def close(self) -> None:
        """Asks no more."""
        self._asking.close()
        self._apart.close()

    async def _answer(self, question: _Question, find: Callable[[], Awaitable[_Answer]]) -> _Answer:
        if question in self._held:
            return self._held[question]
        failed = self._failed.get(question)
        if failed is None:
            return await self._asking.answer(question, partial(self._ask, question, find, ASK_S))
        if asyncio.get_running_loop().time() - failed.at < HELD_S:
            raise SourceError(failed.text)
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self._apart.answer(question, partial(self._ask, question, find, None))
        except TimeoutError:
            raise SourceError(failed.text) from None

    async def _ask(
        self, question: _Question, find: Callable[[], Awaitable[_Answer]], patience_s: float | None
    ) -> _Answer:
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        try:
            async with asyncio.timeout(patience_s):
                answer = await find()
        except (SourceError, TimeoutError) as problem:
            text = str(problem) or "the log does not answer"
            self._fails(question, text)
            raise SourceError(text) from problem
        self._failed.pop(question, None)
        self._held[question] = answer
        if len(self._held) > HELD_MAX:
            del self._held[next(iter(self._held))]
        # Who gave up waiting for a slow answer comes back for it, sooner than after as long again.
        loop.call_later(max(HELD_S, 2 * (loop.time() - asked_at)), self._forget, question, answer)
        return answer

    def _fails(self, question: _Question, text: str) -> None:
        self._failed.pop(question, None)
        self._failed[question] = _Failed(text, asyncio.get_running_loop().time())
        if len(self._failed) > FAILED_MAX:
            del self._failed[next(iter(self._failed))]

    def _forget(self, question: _Question, answer: _Answer) -> None:
        if self._held.get(question) is answer:
            del self._held[question]


def _all(topic: str, numbers: Collection[int], found: dict[int, _Found]) -> dict[int, _Found]:
    """What was found, of all of them. Raises SourceError: clients have been given places in each, so of one that is not
    found now nothing is known.
    """
    if absent := [number for number in numbers if number not in found]:
        raise SourceError(f"topic {topic!r}, partition {absent[0]} cannot be asked for now")
    return found
