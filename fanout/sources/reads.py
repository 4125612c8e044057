"""Reading back beside what is read anyway: a few threads, a bound on what waits for them, an end to every wait.

Rules: `run` and `stop` belong to the loop. A job runs on one of `READERS` threads with a handle that is its own for as
long as it runs; it looks at its `Errand` at least every 0.1 s, or after each request, and gives up when that says so.
Handles are made when they are first needed, and kept. One that a job failed with, for whatever reason, is closed and
not used again.

A job that has waited `PATIENCE_S` for one partition (nobody leads it, or who leads it does not answer) gives its thread
away and begins anew on another, where those wait for each other that ask for such partitions. So do all who ask for
that partition from then on, until one of them had an answer: who asks for others is not held up.
"""

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, Generic, Protocol, TypeVar

from fanout.errors import SourceBusy, SourceError, SourceTimeout
from fanout.sources.base import LIMITS

__all__ = ["READ_S", "Errand", "Reads", "Where"]

READERS: Final = 2  # reading back is for whoever looks back: it may take what two threads can, and no more
READ_S: Final = 10.0  # for one read, the wait for its turn included
PATIENCE_S: Final = 1.0  # with a partition that does not answer

Where = tuple[str, int]
"""Topic and partition."""


class Handle(Protocol):
    """What a job reads with."""

    def close(self) -> object:
        """Frees it."""


H = TypeVar("H", bound=Handle)
T = TypeVar("T")


class _Stuck(Exception):
    """A partition does not answer."""

    def __init__(self, where: Where) -> None:
        self.where = where


class Errand:
    """One read that someone waits for, or has given up."""

    def __init__(self) -> None:
        self._deadline = time.monotonic() + READ_S
        self._given_up = threading.Event()
        self._asks: Where | None = None
        self._since = 0.0
        self._patience_s = PATIENCE_S

    def give_up(self) -> None:
        """Nobody waits any more."""
        self._given_up.set()

    def begin(self) -> None:
        """The job begins, perhaps anew: then it is borne with for longer, in case that Kafka is slow and not silent."""
        if self._asks is not None:
            self._patience_s *= 2
        self._asks = None

    def asks(self, where: Where) -> None:
        """The job begins to wait for this partition, or has heard from it and goes on waiting."""
        self._asks, self._since = where, time.monotonic()

    def check(self) -> None:
        """Raises what ends the job: nobody would hear of what it finds, or others are to have its thread."""
        now = time.monotonic()
        if self._given_up.is_set() or now > self._deadline:
            raise SourceTimeout(f"the log was not read within {READ_S:.0f} s")
        if self._asks is not None and now - self._since > self._patience_s:
            raise _Stuck(self._asks)


class _Threads:
    """Some threads, and the jobs that wait for one or have it."""

    def __init__(self, count: int, name: str) -> None:
        self._pool = ThreadPoolExecutor(count, name)
        self._jobs = 0

    def submit(self, work: Callable[[], T]) -> "asyncio.Future[T]":
        """Does the work when its turn comes. Raises SourceBusy if `LIMITS.reads` wait already."""
        if self._jobs >= LIMITS.reads:
            raise SourceBusy(f"{self._jobs} reads wait for the log")
        loop = asyncio.get_running_loop()
        try:
            future = self._pool.submit(work)
        except RuntimeError as problem:
            raise SourceError("the source is not running") from problem
        self._jobs += 1
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        return asyncio.wrap_future(future)

    def close(self) -> None:
        """Cancels what waits, and lets end what runs."""
        self._pool.shutdown(cancel_futures=True)

    def _done(self) -> None:
        self._jobs -= 1


class Reads(Generic[H]):
    """The reads of one source."""

    def __init__(self, name: str, make: Callable[[], H]) -> None:
        """`make` makes a handle, on the thread that will use it; threads are called `name`."""
        self._make = make
        self._quick = _Threads(READERS, name)
        self._slow = _Threads(1, f"{name}-slow")
        self._stuck: set[Where] = set()  # partitions that do not answer; told by the thread that found out
        self._free: deque[H] = deque()  # at most one a thread

    async def run(self, job: Callable[[H, Errand], T], asked: Collection[Where] = ()) -> T:
        """What `job` returns or raises, which is about the partitions that are `asked`; perhaps begun more than once.

        Raises SourceBusy if `LIMITS.reads` wait already, SourceTimeout after `READ_S`. Cancelled, it ends at once, and
        the job soon.
        """
        errand = Errand()
        try:
            async with asyncio.timeout(READ_S):
                while True:
                    is_quick = self._stuck.isdisjoint(asked)
                    threads = self._quick if is_quick else self._slow
                    try:
                        found: T = await threads.submit(partial(self._do, job, errand, asked if is_quick else ()))
                    except _Stuck:
                        pass
                    else:
                        self._stuck.difference_update(asked)
                        return found
        except TimeoutError:
            raise SourceTimeout(f"the log was not read within {READ_S:.0f} s") from None
        finally:
            errand.give_up()

    async def stop(self) -> None:
        """Refuses what waits, lets end what runs, and closes the handles."""
        await asyncio.to_thread(self._close)

    def _close(self) -> None:
        self._quick.close()
        self._slow.close()
        while self._free:
            self._free.pop().close()

    def _do(self, job: Callable[[H, Errand], T], errand: Errand, unless_stuck: Collection[Where]) -> T:
        for where in self._stuck.intersection(unless_stuck):  # found out since it was put there
            raise _Stuck(where)
        errand.begin()
        errand.check()
        handle = self._free.pop() if self._free else self._make()
        try:
            result = job(handle, errand)
        except BaseException as problem:
            handle.close()
            if isinstance(problem, _Stuck):
                self._stuck.add(problem.where)
            raise
        self._free.append(handle)
        return result
