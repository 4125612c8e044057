"""Leases: a node that answers for others says again and again that it is alive; who falls silent has died.

A node answers for presence members, and for MQTT clients, of whom `fanout.mqtt.service` looks after those of the dead.

- A lease is a fact of the log, `node:<name>`, told anew every few seconds while the node has any. Each node judges
  the others by its own clock, from when it heard them last: no clock of another's is trusted.
- When a lease has run out the other nodes let the dead node's members leave, a bounded group at a time. Each begins a
  little later than another, so that most find nothing left to do; a leave that is written twice changes nothing.
- Silence counts only while this node hears: not while the log is away or read back, nor while this node stood still;
  and only up to when it had last read all that there was.
- A node that stops hands its members over by the same rule: its clients come back elsewhere and enter again within the
  time, and who does not come back leaves. So does what a former life of this node has left behind.
"""

import asyncio
import logging
import time
import zlib
from collections.abc import Callable
from typing import Final

from fanout.control import Control, Fact
from fanout.errors import SourceError
from fanout.presence.records import Key
from fanout.presence.service import SLICE, PresenceSet, leaves_of
from fanout.routing import STATE_TOPICS
from fanout.sources.base import Appended, Appends, Source

__all__ = ["LEASE_S", "Leases"]

LEASE_S: Final = 15.0
"""As long as the members of a lost connection stay: a dead node's connections are nothing else."""

RENEW_S: Final = 3.0
SPREAD_S: Final = 3.0  # between the first and the last node that lets a dead node's members leave
TICK_S: Final = 1.0
HURRY_S: Final = 0.1  # between two groups that leave: the first is read back by then, and 5,000 leave in a second
STOOD_STILL_S: Final = 3.0  # between two ticks, or behind the log: this node was frozen, or hears late

log = logging.getLogger(__name__)


class Leases:
    """The lease of a node, and its view of the others'. Belongs to the event loop."""

    def __init__(
        self,
        present: PresenceSet,
        control: Control,
        source: Source,
        node: str,
        answers_for: Callable[[], int],
        *,
        log: Appends,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`answers_for` tells how many members and connections this node, `node`, answers for; leaves are written to
        `log`; `clock` reads seconds that never go back.
        """
        self._present = present
        self._control = control
        self._source = source
        self._log = log
        self._node = node
        self._answers_for = answers_for
        self._clock = clock
        self._heard: dict[str, float] = {}  # one for each node that tells, or has members
        self._renewed_at = -RENEW_S
        self._ticked_at = self._listening_since = self._current_at = clock()
        self._writing = False
        self._removing = False
        control.listen("node", self._hear)

    def _hear(self, node: str, fact: Fact) -> None:
        if fact is None:
            self._heard.pop(node, None)
        elif node != self._node:
            self._heard[node] = self._clock()

    async def run(self, ready: asyncio.Event) -> None:
        """Renews and judges until cancelled, from when the node is `ready`."""
        await ready.wait()
        self._listening_since = self._ticked_at = self._current_at = self._clock()
        while True:
            await asyncio.sleep(HURRY_S if self._removing else TICK_S)
            try:
                self.tick()
            except Exception:  # the lease must be renewed all the same
                log.exception("leases could not be looked after")

    def tick(self) -> None:
        """Renews this node's lease if it is time, and lets members of dead nodes leave."""
        now = self._clock()
        count = self._answers_for()
        if count and now - self._renewed_at >= RENEW_S:
            self._renewed_at = now
            self._control.tell("node", self._node, {"members": count})
        if not self._is_behind():
            self._current_at = now
        if now - self._ticked_at > STOOD_STILL_S or now - self._current_at > STOOD_STILL_S or not self._is_well():
            self._listening_since = now
        self._ticked_at = now
        nodes = self._present.presence_nodes()
        gone = [node for node in nodes if self._is_silent(node, now)]
        self._removing = bool(gone)
        if self._current_at == now:  # else the leaves that were just written may be yet to be read
            for node in gone:
                self._remove(node)
        for node in [node for node in self._heard if node not in nodes and self._silent(node, now) > 2 * LEASE_S]:
            del self._heard[node]
            self._control.tell("node", node, None)

    def is_gone(self, node: str) -> bool:
        """Whether another node has been silent for so long that this one is to act for it: for connections that it had
        without presence members too.
        """
        return self._current_at == self._ticked_at and self._is_silent(node, self._clock())

    def _is_silent(self, node: str, now: float) -> bool:
        return node != self._node and self._silent(node, now) > LEASE_S + self._turn(node)

    def _is_behind(self) -> bool:
        """Whether there is more to be heard: for a moment that is so after every record."""
        return any(lag for (topic, _), lag in self._source.lag().items() if topic in STATE_TOPICS)

    def _is_well(self) -> bool:
        health = self._source.health()
        return health.ok and not any(topic in STATE_TOPICS for topic, _ in health.held)

    def _silent(self, node: str, now: float) -> float:
        """For how long, up to when this node had last heard all that there was, it has heard nothing of another."""
        return self._current_at - max(self._heard.setdefault(node, now), self._listening_since)

    def _turn(self, node: str) -> float:
        """How much later than the first this node removes the members of that one."""
        return zlib.crc32(f"{self._node} {node}".encode()) / 2**32 * SPREAD_S

    def _remove(self, node: str) -> None:
        """Writes the leaves of some of a dead node's members; the next tick, which is soon, goes on."""
        if self._writing:
            return
        keys = (Key(*key) for key in self._present.members_of(node, SLICE))
        leaves = leaves_of(self._present, node, keys, self._node)
        if not leaves:
            return
        log.info("node %s is gone: %d of its presence members leave", node, len(leaves))
        self._writing = True

        def appended(result: list[Appended] | SourceError) -> None:
            self._writing = False

        try:
            self._log.append(leaves, appended)
        except SourceError:
            self._writing = False  # the next tick tries again
