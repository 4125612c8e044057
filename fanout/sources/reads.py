"""Reading back beside what is read anyway: a few threads, a bound on what waits for them, an end to every wait.

Rules: `run` and `stop` belong to the loop. A job runs on one of `READERS` threads with a handle that is its own for as
long as it runs; it looks at its `Errand` at least every 0.1 s, and gives up when that says so. Handles are made when
they are first needed, and kept. One that a job failed with, for whatever reason, is closed and not used again.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, Generic, Protocol, TypeVar

from fanout.errors import SourceBusy, SourceError, SourceTimeout
from fanout.sources.base import LIMITS

__all__ = ["READ_S", "Errand", "Reads"]

READERS: Final = 2  # reading back is for whoever looks back: it may take what two threads can, and no more
READ_S: Final = 10.0  # for one read, the wait for its turn included


class Handle(Protocol):
    """What a job reads with."""

    def close(self) -> object:
        """Frees it."""


H = TypeVar("H", bound=Handle)
T = TypeVar("T")


class Errand:
    """One read that someone waits for, or has given up."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + READ_S
        self._given_up = threading.Event()

    def give_up(self) -> None:
        """Nobody waits any more."""
        self._given_up.set()

    def check(self) -> None:
        """Raises SourceTimeout when the job may end, since nobody would hear of what it finds."""
        if self._given_up.is_set() or time.monotonic() > self._deadline:
            raise SourceTimeout(f"the log was not read within {READ_S:.0f} s")


class Reads(Generic[H]):
    """The reads of one source."""

    def __init__(self, name: str, make: Callable[[], H]) -> None:
        """`make` makes a handle, on the thread that will use it; threads are called `name`."""
        self._make = make
        self._pool = ThreadPoolExecutor(READERS, name)
        self._free: deque[H] = deque()  # at most one a thread
        self._waiting = 0

    async def run(self, job: Callable[[H, Errand], T]) -> T:
        """What `job` returns or raises. Raises SourceBusy if `LIMITS.reads` wait already, SourceTimeout after `READ_S`.

        Cancelled, it ends at once, and the job soon.
        """
        if self._waiting >= LIMITS.reads:
            raise SourceBusy(f"{self._waiting} reads wait for the log")
        loop, errand = asyncio.get_running_loop(), Errand()
        try:
            future = self._pool.submit(self._do, job, errand)
        except RuntimeError as problem:
            raise SourceError("the source is not running") from problem
        self._waiting += 1
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        try:
            async with asyncio.timeout(READ_S):
                return await asyncio.wrap_future(future)
        except TimeoutError:
            raise SourceTimeout(f"the log was not read within {READ_S:.0f} s") from None
        finally:
            errand.give_up()

    async def stop(self) -> None:
        """Refuses what waits, lets end what runs, and closes the handles."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._pool.shutdown(cancel_futures=True)
        while self._free:
            self._free.pop().close()

    def _done(self) -> None:
        self._waiting -= 1

    def _do(self, job: Callable[[H, Errand], T], errand: Errand) -> T:
        errand.check()
        handle = self._free.pop() if self._free else self._make()
        try:
            result = job(handle, errand)
        except BaseException:
            handle.close()
            raise
        self._free.append(handle)
        return result
