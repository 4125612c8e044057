"""Where partitions of the log end now, asked once for all who want to know.

Whoever asks wants to know of everything that was there before, so a question is shared only until it is put.

Belongs to the event loop.
"""

from functools import partial
from typing import Final

from fanout.asking import Asking
from fanout.errors import SourceError
from fanout.mqtt.ports import Log

__all__ = ["Ends"]

ASKING: Final = 4  # questions at a time: others look back too
_Where = tuple[str, int]


class Ends:
    """See the module's text."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._asking: Asking[_Where, int] = Asking(ASKING, afresh=True)

    async def of(self, topic: str, partition: int) -> int:
        """The offset behind the last record of a partition. Raises SourceError. May be cancelled."""
        return await self._asking.answer((topic, partition), partial(self._ask, topic, partition))

    def close(self) -> None:
        """Asks no more."""
        self._asking.close()

    async def _ask(self, topic: str, partition: int) -> int:
        found = await self._log.bounds(topic, [partition])
        if partition not in found:
            raise SourceError(f"topic {topic!r}, partition {partition} cannot be asked for now")
        return found[partition][1]
