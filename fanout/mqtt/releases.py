"""Packet identifiers of QoS 2: under which id a message is published, so that it is one however often it is sent.

A client sends a PUBLISH again until it has PUBREC, perhaps to another node, and uses its packet identifier again only
after PUBCOMP (MQTT 5.0 §4.3.3). So a message's id is made of the session, the packet identifier, and when that was last
released; the log has a release before PUBCOMP is said. Whoever sees the PUBLISH, and whenever, makes the same id, and
who uses the identifier anew gets another.

A release is kept as long as a message of that id could be taken for a repeat. Where there are too many, those of the
session that has most are forgotten, oldest first, and one stamp that is newer than all of them stands for them: a later
message has the id of no earlier one, though one that is sent again just then, to another node, may be there twice.

Belongs to the event loop.
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
"""Releases kept, of all sessions of the log: some 40 MiB. Past it room is made."""

KEPT_MS: Final = 2 * DEDUP_WINDOW_MS
"""Twice the time in which a repeat is recognised: clocks of nodes differ."""

ROOM_AT_ONCE: Final = 500
"""Forgotten in one turn of the loop where there are too many: 4 ms. So many are as many as come meanwhile."""

_ALL_OTHERS: Final = 0
"""No packet has this identifier: its stamp counts for those of the session that have none of their own."""


class Releases:
    """The last release of each packet identifier that was used of late."""

    def __init__(self, control: Control, clock: Callable[[], int]) -> None:
        """`clock` reads the time in ms."""
        self._control = control
        self._clock = clock
        # By session, the identifier that was released first comes first.
        self._stamps: OrderedDict[Name, OrderedDict[int, int]] = OrderedDict()
        self._count = 0
        self._makes_room = False
        control.listen(RELEASE, self._heard)

    def __len__(self) -> int:
        return self._count

    def message_id(self, name: Name, uid: str, packet_id: int) -> str:
        """The id of what the session `uid` publishes under this identifier until it is released."""
        return f"{uid}:{packet_id}:{self._stamp(name, packet_id)}"

    def release(self, name: Name, packet_id: int, done: Callable[[SourceError | None], None]) -> None:
        """The client is done with the identifier. `done` is called once, perhaps before this returns, when the log
        knows.
        """
        stamp = max(self._clock(), self._stamp(name, packet_id) + 1)

        def told(problem: SourceError | None) -> None:
            if problem is None:
                self._put(name, packet_id, stamp)
                self._make_room()
            done(problem)

        self._control.tell(RELEASE, _text(name, packet_id), {"at_ms": stamp}, told)

    def sweep(self, is_over: Callable[[Name], bool], is_free: Callable[[Name, int], bool], most: int) -> None:
        """Has all nodes forget what sessions have left that are over, and of others what is older than it has to be,
        where the identifier `is_free` for sure.

        Looks at so many at most, and at others the next time.
        """
        horizon = self._clock() - KEPT_MS
        for _ in range(min(len(self._stamps), most)):
            name, stamps = next(iter(self._stamps.items()))
            self._stamps.move_to_end(name)
            over = is_over(name)
            for packet_id, stamp in list(islice(stamps.items(), most)):
                most -= 1
                if not over and stamp >= horizon:
                    break
                if over or (packet_id != _ALL_OTHERS and is_free(name, packet_id)):
                    self._control.tell(RELEASE, _text(name, packet_id), None)
            if most <= 0:
                break
        self._make_room()

    def _stamp(self, name: Name, packet_id: int) -> int:
        stamps = self._stamps.get(name)
        return 0 if stamps is None else stamps.get(packet_id, stamps.get(_ALL_OTHERS, 0))

    def _make_room(self) -> None:
        """Of half of the session that has most, one stamp is left; once the log has that, the others are forgotten."""
        if self._makes_room or self._count <= RELEASES_MAX:
            return
        name, stamps = max(self._stamps.items(), key=lambda one: len(one[1]))  # 4 ms with all there may be
        if len(stamps) < 2:
            return
        most = min(ROOM_AT_ONCE, len(stamps) // 2 + 1)
        oldest = [one for one in islice(stamps.items(), most) if one[0] != _ALL_OTHERS]
        floor = 1 + max(self._clock(), stamps.get(_ALL_OTHERS, 0), *(stamp for _, stamp in oldest))

        def told(problem: SourceError | None) -> None:
            self._makes_room = False
            if problem is not None:
                return
            self._put(name, _ALL_OTHERS, floor)
            for packet_id, stamp in oldest:
                if self._stamps[name].get(packet_id) == stamp:
                    self._drop(name, packet_id)
                    self._control.tell(RELEASE, _text(name, packet_id), None)

        self._makes_room = True
        self._control.tell(RELEASE, _text(name, _ALL_OTHERS), {"at_ms": floor}, told)

    def _put(self, name: Name, packet_id: int, stamp: int) -> None:
        stamps = self._stamps.setdefault(name, OrderedDict())
        before = stamps.get(packet_id, 0)
        if stamp > before:
            self._count += before == 0
            stamps[packet_id] = stamp
            stamps.move_to_end(packet_id)

    def _drop(self, name: Name, packet_id: int) -> None:
        stamps = self._stamps.get(name)
        if stamps is not None and stamps.pop(packet_id, None) is not None:
            self._count -= 1
            if not stamps:
                del self._stamps[name]

    def _heard(self, text: str, fact: Fact) -> None:
        names, _, number = text.rpartition(" ")
        name, packet_id = name_of(names), int(number)
        if fact is None:
            self._drop(name, packet_id)
        else:
            self._put(name, packet_id, int(fact["at_ms"]))


def _text(name: Name, packet_id: int) -> str:
    return f"{name_text(name)} {packet_id}"
