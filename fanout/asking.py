"""Questions to the log that several want the answer of: each is asked once, for all who come meanwhile.

- A question is asked in a task of its own. Who waits for it may be cancelled: it goes on, for the others or for whoever
  comes next.
- A failure is told to those who wait, and where nobody does any more, to nobody. It is not remembered.
- So many are asked at a time, the others wait for their turn.
- Where the answer has to tell of everything that was there before one came, a question is shared only until it is its
  turn (`afresh`): who comes later waits for the next. However many come, it is asked by the one that is being answered
  and the one that waits.
"""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from functools import partial
from typing import Generic, TypeVar

__all__ = ["Asking"]

Q = TypeVar("Q", bound=Hashable)
A = TypeVar("A")


class Asking(Generic[Q, A]):
    """See the module's text. Belongs to the event loop."""

    def __init__(self, at_once: int, *, afresh: bool = False) -> None:
        self._turns = asyncio.Semaphore(at_once)
        self._afresh = afresh
        self._shared: dict[Q, asyncio.Task[A]] = {}
        self._asked: set[asyncio.Task[A]] = set()

    async def answer(self, question: Q, ask: Callable[[], Awaitable[A]]) -> A:
        """What `ask` returns or raises, which the first one to come with this question has asked."""
        if question not in self._shared:
            asked = self._shared[question] = asyncio.get_running_loop().create_task(self._ask(question, ask))
            self._asked.add(asked)
            asked.add_done_callback(partial(self._answered, question))
        return await asyncio.shield(self._shared[question])

    def close(self) -> None:
        """Asks no more: who waits is cancelled."""
        for asked in self._asked:
            asked.cancel()

    async def _ask(self, question: Q, ask: Callable[[], Awaitable[A]]) -> A:
        async with self._turns:
            if self._afresh:
                del self._shared[question]
            return await ask()

    def _answered(self, question: Q, asked: asyncio.Task[A]) -> None:
        self._asked.discard(asked)
        if self._shared.get(question) is asked:
            del self._shared[question]
        if not asked.cancelled():
            asked.exception()  # heard, also if nobody waits
