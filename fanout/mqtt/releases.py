"""Packet identifiers of QoS 2: under which id a message is published, so that it is one however often it is sent.

A client sends a PUBLISH again until it has PUBREC, perhaps to another node, and uses its packet identifier again only
after PUBCOMP (MQTT 5.0 §4.3.3). So a message's id is made of the session, the packet identifier, and when that was last
released; the log has a release before PUBCOMP is said. Whoever sees the PUBLISH, and whenever, makes the same id, and
who uses the identifier anew gets another.

A release is kept as long as a message of that id could be taken for a repeat. Belongs to the event loop.
"""

from collections import OrderedDict
from collections.abc import Callable
from itertools import islice
from typing import Final

from fanout._core import DEDUP_WINDOW_MS
from fanout.control import Control, Fact
from fanout.errors import SourceError
from fanout.mqtt.records import RELEASE, name_of, name_text
from fanout.transports.mqtt_ports import Name

__all__ = ["RELEASES_MAX", "Releases"]

RELEASES_MAX: Final = 200_000
"""Releases kept, of all sessions of the log: some 40 MiB. Past it the oldest are forgotten first: then a message that
is sent again just then may be there twice."""

KEPT_MS: Final = 2 * DEDUP_WINDOW_MS
"""Twice the time in which a repeat is recognised: clocks of nodes differ."""


class Releases:
    """The last release of each packet identifier that was used of late."""

    def __init__(self, control: Control, clock: Callable[[], int]) -> None:
        """`clock` reads the time in ms."""
        self._control = control
        self._clock = clock
        self._stamps: OrderedDict[tuple[Name, int], int] = OrderedDict()  # the one released first comes first
        control.listen(RELEASE, self._heard)

    def __len__(self) -> int:
        return len(self._stamps)

    def message_id(self, name: Name, uid: str, packet_id: int) -> str:
        """The id of what the session `uid` publishes under this identifier until it is released."""
        return f"{uid}:{packet_id}:{self._stamps.get((name, packet_id), 0)}"

    def release(self, name: Name, packet_id: int, done: Callable[[SourceError | None], None]) -> None:
        """The client is done with the identifier. `done` is called once, perhaps before this returns, when the log
        knows.
        """
        stamp = max(self._clock(), self._stamps.get((name, packet_id), 0) + 1)

        def told(problem: SourceError | None) -> None:
            if problem is None:
                self._put(name, packet_id, stamp)
            done(problem)

        self._control.tell(RELEASE, _text(name, packet_id), {"at_ms": stamp}, told)

    def sweep(self, may_forget: Callable[[Name, int], bool], most: int) -> None:
        """Has all nodes forget what is older than it has to be, where it `may_forget` that, and what is too much.

        Looks at so many at most.
        """
        horizon, too_many = self._clock() - KEPT_MS, len(self._stamps) - RELEASES_MAX
        for index, ((name, packet_id), stamp) in enumerate(list(islice(self._stamps.items(), most))):
            if index < too_many or (stamp < horizon and may_forget(name, packet_id)):
                self._control.tell(RELEASE, _text(name, packet_id), None)

    def _put(self, name: Name, packet_id: int, stamp: int) -> None:
        if stamp > self._stamps.get((name, packet_id), 0):
            self._stamps[name, packet_id] = stamp
            self._stamps.move_to_end((name, packet_id))

    def _heard(self, text: str, fact: Fact) -> None:
        names, _, number = text.rpartition(" ")
        name, packet_id = name_of(names), int(number)
        if fact is None:
            self._stamps.pop((name, packet_id), None)
        else:
            self._put(name, packet_id, int(fact["at_ms"]))


def _text(name: Name, packet_id: int) -> str:
    return f"{name_text(name)} {packet_id}"
