"""What all replays of a node may hold.

`ACTIVE` read at a time, each with a ring of its own, the others in the order in which they come. Who has read all
needs no place, but for the bytes that it still holds for those who have yet to be given them: of these `KEPT_BYTES`.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

__all__ = ["Room"]

ACTIVE: Final = 8  # with what a replay holds, 64 MiB at most
KEPT_BYTES: Final = 32 << 20


class Room:
    """See the module's text. Belongs to the event loop."""

    def __init__(self) -> None:
        self._places = asyncio.Semaphore(ACTIVE)
        self._waiting = 0
        self.kept = 0
        """Bytes that are held without a place."""

    @property
    def is_awaited(self) -> bool:
        """Whether somebody waits for a place."""
        return self._waiting > 0

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """A place, once it is there. May be cancelled."""
        self._waiting += 1
        try:
            await self._places.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._places.release()

    def keep(self, size: int) -> bool:
        """Whether there is room for so many bytes without a place; then they are counted until they are freed."""
        if self.kept + size > KEPT_BYTES:
            return False
        self.kept += size
        return True

    def free(self, size: int) -> None:
        """They are held no more."""
        self.kept -= size
