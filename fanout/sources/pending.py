"""What waits to be appended: the count that bounds it, and the way its confirmations take back to the loop.

Rules: `admit`, `drained` belong to the loop; `settle` and `wake` to any thread. However many appends are settled at
once, the loop is woken once, and lets others run after every `TURN` records.
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final, NamedTuple

from fanout.errors import SourceBusy, SourceError
from fanout.sources.base import LIMITS, Appended, Done, NewRecord

__all__ = ["Pending", "Ticket"]

TURN: Final = 500  # records answered in one turn of the loop, and the rest of their append: some 2 ms of callbacks


class Ticket(NamedTuple):
    """One admitted append."""

    records: Sequence[NewRecord]
    size: int  # bytes
    done: Done


class Pending:
    """The appends of one source that are not confirmed yet."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._records = 0
        self._bytes = 0
        self._settled: deque[tuple[Ticket, list[Appended] | SourceError]] = deque()  # no longer than what is admitted
        self._empty = asyncio.Event()
        self._empty.set()

    def admit(self, records: Sequence[NewRecord], done: Done) -> Ticket:
        """Counts an append. Raises SourceBusy when it would pass `LIMITS`, and counts nothing."""
        size = sum(record.size for record in records)
        if self._records + len(records) > LIMITS.append_records or self._bytes + size > LIMITS.append_bytes:
            raise SourceBusy(f"{self._records} records ({self._bytes} bytes) wait to be written to the log")
        self._records += len(records)
        self._bytes += size
        self._empty.clear()
        return Ticket(records, size, done)

    def settle(self, ticket: Ticket, outcome: list[Appended] | SourceError) -> None:
        """Notes how an append ended, once for each ticket; `wake` makes the loop hear of it."""
        self._settled.append((ticket, outcome))

    def wake(self) -> None:
        """Has the loop answer what was settled. To be called once after every batch of `settle`."""
        self._loop.call_soon_threadsafe(self._answer)

    async def drained(self, seconds: float) -> bool:
        """Waits until every admitted append is answered; False when that took longer than `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                await self._empty.wait()
        except TimeoutError:
            return False
        return True

    def _answer(self) -> None:
        answered = 0
        while self._settled and answered < TURN:
            ticket, outcome = self._settled.popleft()
            answered += max(1, len(ticket.records))
            self._records -= len(ticket.records)
            self._bytes -= ticket.size
            try:
                ticket.done(outcome)
            except Exception as error:  # one caller's fault must not cost the others their confirmation
                self._loop.call_exception_handler({"message": "a confirmation raised", "exception": error})
        if self._settled:
            self._loop.call_soon(self._answer)
        if not self._records:
            self._empty.set()
