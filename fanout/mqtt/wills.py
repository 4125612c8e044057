"""Wills: what is published for clients that are lost (MQTT 5.0 §3.1.2.5).

- The node that loses a client publishes its will, after its delay or when the session is over, whichever comes first;
  unless the client is back by then, on whichever node.
- Of a node that has died another publishes them, `LEASE_S` after it was last heard (`fanout.presence.leases`).
- A will has one id, so it is one message though two nodes publish it.
- One that the log does not take now is tried again until it does, of all of them `AT_ONCE` every `AGAIN_S`. One that it
  takes at no time, too large or for a channel that cannot be written to, is refused at once, and counted.

Belongs to the event loop.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Final

from fanout.errors import ErrorInfo
from fanout.transports.mqtt_ports import Name, Will
from fanout.types import OutMessage

__all__ = ["Publish", "Wills"]

AGAIN_S: Final = 0.25
AT_ONCE: Final = 100  # some 3 ms of the loop

_BUSY: Final = 42910  # the log's word for later

log = logging.getLogger(__name__)

Publish = Callable[[str, list[OutMessage], Callable[[list[str] | ErrorInfo], None]], None]
Retain = Callable[[str, OutMessage, str, Callable[[ErrorInfo | None], None]], None]


class Wills:
    """Wills of lost clients that are still to be published. Of each name one waits for its delay at most, and one for
    the log: there a later one takes the place of an earlier.
    """

    def __init__(self, publish: Publish, retain: Retain) -> None:
        """`publish` and `retain` as `fanout.publish.Publisher` and `fanout.mqtt.retained.Retained` do."""
        self._publish = publish
        self._retain = retain
        self._due: dict[Name, tuple[asyncio.TimerHandle, Callable[[], None]]] = {}
        self._again: dict[Name, Callable[[], None]] = {}  # what the log did not take, the oldest first
        self._timer: asyncio.TimerHandle | None = None
        self.published = 0
        """Those that the log has."""
        self.refused = 0
        """Those that it will never have."""

    def __len__(self) -> int:
        return len(self._due) + len(self._again)

    def __contains__(self, name: Name) -> bool:
        return name in self._due or name in self._again

    def lost(self, name: Name, will: Will, after_s: float, done: Callable[[], None]) -> None:
        """The client is lost: its will is published after so many seconds. `done` is called once when the log has it or
        refuses it for good, perhaps before this returns; never if it is taken back.
        """
        self.take_back(name)
        if after_s <= 0:
            self._publish_now(name, will, done)
            return

        def due() -> None:
            del self._due[name]
            self._publish_now(name, will, done)

        self._due[name] = asyncio.get_running_loop().call_later(after_s, due), due

    def _publish_now(self, name: Name, will: Will, done: Callable[[], None]) -> None:
        def published(result: list[str] | ErrorInfo) -> None:
            if isinstance(result, list):
                self.published += 1
                if will.retain:
                    self._retain_now(name, will, result[0], done)
                else:
                    done()
            elif result.status >= 500 or result.code == _BUSY:
                self._later(name, partial(self._publish_now, name, will, done), result)
            else:
                log.warning("a will is refused: %s (%d)", result.message, result.code)
                self.refused += 1
                done()

        self._publish(will.channel, [will.message], published)

    def _retain_now(self, name: Name, will: Will, serial: str, done: Callable[[], None]) -> None:
        def retained(problem: ErrorInfo | None) -> None:
            if problem is not None and problem.status >= 500:
                self._later(name, partial(self._retain_now, name, will, serial, done), problem)
                return
            if problem is not None:
                log.warning("a will is not retained: %s (%d)", problem.message, problem.code)
            done()

        self._retain(will.channel, will.message, serial, retained)

    def _later(self, name: Name, step: Callable[[], None], problem: ErrorInfo) -> None:
        log.log(
            logging.DEBUG if self._again else logging.WARNING,
            "a will could not be published yet: %s (%d)", problem.message, problem.code,
        )  # fmt: skip
        self._again.pop(name, None)
        self._again[name] = step
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(AGAIN_S, self._try_again)

    def _try_again(self) -> None:
        self._timer = None
        try:
            for name in list(islice(self._again, AT_ONCE)):
                self._again.pop(name)()
        finally:  # one that raises must not keep the others waiting
            if self._again and self._timer is None:
                self._timer = asyncio.get_running_loop().call_later(AGAIN_S, self._try_again)

    def take_back(self, name: Name) -> None:
        """The client is back, or was taken away for good: what waits is not published."""
        if (due := self._due.pop(name, None)) is not None:
            due[0].cancel()

    def hurry(self, name: Name) -> None:
        """The client's session is over: what waits is published now."""
        if (due := self._due.get(name)) is not None:
            due[0].cancel()
            due[1]()

    def close(self) -> None:
        """Publishes nothing more. What is still due, other nodes see to."""
        for name in list(self._due):
            self.take_back(name)
        self._again.clear()
        if self._timer is not None:
            self._timer.cancel()
