"""What is on its way to the log, of all publishers together, and who is not heard until it has become less.

A log that answers late must slow those who publish, and not gather what they send. From `HIGH` records or bytes on, a
client that publishes is not heard (`Backlog.wait`), so what it sends stays in its own buffers and the kernel's; at
`LOW` all of them go on, a few in each turn of the loop. Each has one publish more under way at most, and so has each
client that publishes for the first time: between `HIGH` and what a source takes there is as much room again. Who comes
when that is used up too, or asks by HTTP, is refused by the source with SourceBusy.

A source answers every append in bounded time, so nobody waits for ever. Belongs to the event loop.
"""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from fanout.errors import SourceError
from fanout.sources.base import LIMITS, Appended, Appends, Done, NewRecord

__all__ = ["Backlog", "Speaker"]

HIGH: Final = (LIMITS.append_records // 2, LIMITS.append_bytes // 2)
LOW: Final = (HIGH[0] // 2, HIGH[1] // 2)
GROUP: Final = 64  # who go on in one turn: 1 ms of the loop


class Speaker(Protocol):
    """A client that publishes."""

    def go_on(self) -> None:
        """Is heard again. Does nothing if it has nothing to say any more."""


class Backlog:
    """The appends of one node that are not confirmed yet."""

    def __init__(self, source: Appends) -> None:
        self._source = source
        self.records = 0
        """Records that wait to be confirmed."""
        self.bytes = 0
        """And their bytes."""
        self.is_full = False
        """Whether who publishes is to `wait`: from `HIGH` on, until it has come down to `LOW`."""
        self._waiting: dict[Speaker, None] = {}  # in the order in which they came; bounded by the connections
        self._releasing = False

    def append(self, records: Sequence[NewRecord], done: Done) -> None:
        """As `Source.append`, and counted until it is answered."""
        count, size = len(records), sum(record.size for record in records)

        def answered(result: list[Appended] | SourceError) -> None:
            self._count(-count, -size)
            done(result)

        self._source.append(records, answered)
        self._count(count, size)

    def wait(self, speaker: Speaker) -> None:
        """Has the speaker go on once there is room."""
        self._waiting[speaker] = None

    def leave(self, speaker: Speaker) -> None:
        """The speaker waits no more."""
        self._waiting.pop(speaker, None)

    def _count(self, records: int, size: int) -> None:
        self.records += records
        self.bytes += size
        if self.is_full:
            self.is_full = self.records > LOW[0] or self.bytes > LOW[1]
        else:
            self.is_full = self.records >= HIGH[0] or self.bytes >= HIGH[1]
        self._release_soon()

    def _release_soon(self) -> None:
        if self._waiting and not self.is_full and not self._releasing:
            self._releasing = True
            asyncio.get_running_loop().call_soon(self._release)

    def _release(self) -> None:
        left = GROUP
        try:
            while self._waiting and left and not self.is_full:
                left -= 1
                speaker = next(iter(self._waiting))
                del self._waiting[speaker]
                speaker.go_on()
        finally:  # one that raises must not keep the others waiting
            self._releasing = False
            self._release_soon()
