"""The tasks that a node needs for as long as it runs: one that ends sooner is told of.

Each looks after something until it is cancelled, or has nothing to look after, and what it meets in the course of that
is its own affair. Should one end all the same, for an error that nobody expected, then nobody looks after that any
more, though all else goes on: so it is logged with the error, counted, and named as a reason why the node is not ready,
for clients are better served elsewhere. It is not begun anew: in what state it left what it looked after is not known.
"""

import asyncio
import logging
from collections.abc import Coroutine
from functools import partial
from typing import Any

__all__ = ["Tasks"]

log = logging.getLogger(__name__)


class Tasks:
    """The long-lived tasks of one node. Belongs to the event loop."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self.failed = 0
        """How many have ended for an error."""
        self.failure = ""
        """Which was the first, and why, in words for people; empty while all are running."""

    def start(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        """Runs that until `close`; `name` says to people what it looks after."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._running.add(task)
        task.add_done_callback(partial(self._ended, name))

    def close(self) -> None:
        """Cancels all of them: that is no failure."""
        running, self._running = self._running, set()
        for task in running:
            task.cancel()

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        problem = asyncio.CancelledError() if task.cancelled() else task.exception()
        if task not in self._running:
            return
        self._running.discard(task)
        if problem is None:
            return
        self.failed += 1
        self.failure = self.failure or f"{name} is looked after no more: {problem!r}"
        log.critical("%s is looked after no more: the node should be restarted", name, exc_info=problem)
