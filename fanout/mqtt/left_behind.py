"""What others have left behind: connections of nodes that have died, sessions whose time is over, old releases.

Every node looks after all of it, some at a time; what two of them do at once is done once, for facts of the log are the
same whoever writes them, and a will has one id. Belongs to the event loop.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

import msgspec

from fanout.control import Fact
from fanout.mqtt.held import Held
from fanout.mqtt.ports import Lives
from fanout.mqtt.records import STATE, Claim, will_of
from fanout.mqtt.releases import Releases
from fanout.mqtt.table import SessionTable
from fanout.mqtt.wills import Wills
from fanout.transports.mqtt_ports import Name

__all__ = ["LeftBehind"]

SLICE: Final = 200  # looked after at a time
RELEASES_SLICE: Final = 1_000


class LeftBehind:
    """See the module's text."""

    def __init__(
        self,
        table: SessionTable,
        held: Mapping[Name, Held],
        wills: Wills,
        releases: Releases,
        lives: Lives,
        *,
        node: str,
        tell: Callable[[str, Name, Fact], None],
        end: Callable[[Name, int], None],
        disclaim: Callable[[Name, str], None],
    ) -> None:
        """`held` are this node's own, `tell` writes a fact, `end` that the session of a generation is over; `disclaim`
        says that a connection has its name no more.
        """
        self._table = table
        self._held = held
        self._wills = wills
        self._releases = releases
        self._lives = lives
        self._node = node
        self._tell = tell
        self._end = end
        self._disclaim = disclaim

    def look_after(self, now_ms: int) -> None:
        """Acts for connections of nodes that have died, and lets go of what is over."""
        for node in self._table.nodes():
            if node != self._node and self._lives.is_gone(node):
                for name, claim in self._table.claims_of(node, SLICE):
                    self._lost_with_its_node(name, claim, now_ms)
        for name in self._table.over(now_ms, SLICE):
            if name not in self._held and self._table.claim(name) is None:
                self._end(name, self._table.generation(name))
        self._releases.sweep(self._is_over, self._is_free, RELEASES_SLICE)

    def _lost_with_its_node(self, name: Name, claim: Claim, now_ms: int) -> None:
        if name in self._held or name in self._wills:
            return
        state = self._table.state(name, now_ms)
        if state is not None and state.ended_ms is None:
            ended = msgspec.structs.replace(state, ended_ms=now_ms, is_exact=False)
            self._tell(STATE, name, msgspec.to_builtins(ended))
        done = partial(self._disclaim, name, claim.life)
        if claim.will is None:
            done()
            return
        will = will_of(claim.will)
        delay_s = min(will.delay_s, state.expiry_s if state is not None else 0)
        lost_ms = now_ms if claim.lost_ms is None else claim.lost_ms
        self._wills.lost(name, will, delay_s - (now_ms - lost_ms) / 1_000, done)

    def _is_over(self, name: Name) -> bool:
        """Whether nothing is left of a session: the next one of that name makes other ids."""
        return name not in self._held and self._table.generation(name) == 0

    def _is_free(self, name: Name, packet_id: int) -> bool:
        """Whether no message of that packet identifier is under way, as far as this node can tell for sure."""
        return (held := self._held.get(name)) is not None and not held.uses(packet_id)
