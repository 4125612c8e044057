"""Where partitions of the log end now, asked once for all who want to know.

Whoever asks wants to know of everything that was there before, so a question that is under way already is not shared:
one that waits for its turn is. However many clients come back at once, a partition's end is asked for by the one that
is being answered and the one that waits.

Belongs to the event loop.
"""

import asyncio
from typing import Final

from fanout.mqtt.ports import Log

__all__ = ["Ends"]

ASKING: Final = 4  # questions at a time: others look back too
_Where = tuple[str, int]


class Ends:
    """See the module's text."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._turn = asyncio.Semaphore(ASKING)
        self._waiting: dict[_Where, asyncio.Task[int]] = {}
        self._asked = set[asyncio.Task[int]]()

    async def of(self, topic: str, partition: int) -> int:
        """The offset behind the last record of a partition; 0 for one that is not read. Raises SourceError. May be
        cancelled.
        """
        where = topic, partition
        if where not in self._waiting:
            asked = self._waiting[where] = asyncio.get_running_loop().create_task(self._ask(where))
            self._asked.add(asked)
            asked.add_done_callback(self._asked.discard)
            asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())  # heard, also if nobody waits
        return await asyncio.shield(self._waiting[where])

    def close(self) -> None:
        """Asks no more."""
        for asked in self._asked:
            asked.cancel()

    async def _ask(self, where: _Where) -> int:
        topic, partition = where
        async with self._turn:
            del self._waiting[where]
            _, behind = (await self._log.bounds(topic, [partition])).get(partition, (0, 0))
            return behind
