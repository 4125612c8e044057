"""Wills: what is published for clients that are lost (MQTT 5.0 §3.1.2.5).

- The node that loses a client publishes its will, after its delay or when the session is over, whichever comes first;
  unless the client is back by then, on whichever node.
- Of a node that has died another publishes them, `LEASE_S` after it was last heard (`fanout.presence.leases`).
- A will has one id, so it is one message though two nodes publish it.
- One that the log does not take is tried again every second, until it does.

Belongs to the event loop.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from fanout.errors import ErrorInfo
from fanout.transports.mqtt_ports import Name, Will
from fanout.types import OutMessage

__all__ = ["Publish", "Wills"]

AGAIN_S: Final = 1.0

log = logging.getLogger(__name__)

Publish = Callable[[str, list[OutMessage], Callable[[list[str] | ErrorInfo], None]], None]
Retain = Callable[[str, OutMessage, str, Callable[[ErrorInfo | None], None]], None]


class Wills:
    """Wills of lost clients that are still to be published, one for each name; as many as there are names at most."""

    def __init__(self, publish: Publish, retain: Retain) -> None:
        """`publish` and `retain` as `fanout.publish.Publisher` and `fanout.mqtt.retained.Retained` do."""
        self._publish = publish
        self._retain = retain
        self._due: dict[Name, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        self._again: set[asyncio.TimerHandle] = set()  # of those that the log did not take
        self.published = 0

    def __len__(self) -> int:
        return len(self._due) + len(self._again)

    def __contains__(self, name: Name) -> bool:
        return name in self._due

    def lost(self, name: Name, will: Will, after_s: float, done: Callable[[], None]) -> None:
        """The client is lost: its will is published after so many seconds. `done` is called once when the log has it,
        perhaps before this returns; never if it is taken back.
        """
        self.take_back(name)
        if after_s > 0:
            then = partial(self.lost, name, will, 0.0, done)
            self._due[name] = asyncio.get_running_loop().call_later(after_s, then), then
            return

        def again(problem: ErrorInfo) -> None:
            log.warning("a will could not be published: %s (%d)", problem.message, problem.code)

            def once_more() -> None:
                self._again.discard(timer)
                self.lost(name, will, 0.0, done)

            timer = asyncio.get_running_loop().call_later(AGAIN_S, once_more)
            self._again.add(timer)

        def retained(problem: ErrorInfo | None) -> None:
            if problem is not None and problem.status >= 500:
                again(problem)
            else:
                self.published += 1
                done()

        def published(result: list[str] | ErrorInfo) -> None:
            if isinstance(result, ErrorInfo):
                again(result)
            elif will.retain:
                self._retain(will.channel, will.message, result[0], retained)
            else:
                retained(None)

        self._publish(will.channel, [will.message], published)

    def take_back(self, name: Name) -> None:
        """The client is back, or was taken away for good: what waits is not published."""
        if (due := self._due.pop(name, None)) is not None:
            due[0].cancel()

    def hurry(self, name: Name) -> None:
        """The client's session is over: what waits is published now."""
        if (due := self._due.pop(name, None)) is not None:
            due[0].cancel()
            due[1]()

    def close(self) -> None:
        """Publishes nothing more. What is still due, other nodes see to."""
        for name in list(self._due):
            self.take_back(name)
        for timer in self._again:
            timer.cancel()
        self._again.clear()
