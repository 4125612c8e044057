"""Facts of MQTT clients on their way to the log: told again until it takes them.

Of each name and kind only the newest word waits. A last word is taken back once the log has it. One that is too large
for the log is not kept at all: what the log has of it is taken back. With `WORDS_MAX` waiting nobody new is let in, for
the log does not say then how many there are. Belongs to the event loop.
"""

import logging
from itertools import islice
from typing import Final

from fanout.control import Control, Fact
from fanout.errors import SourceError, SourceTooLarge
from fanout.mqtt.records import name_text
from fanout.transports.mqtt_ports import Name

__all__ = ["WORDS_MAX", "Telling"]

WORDS_MAX: Final = 100_000
"""Of 0.5 KiB each, where nothing is kept of a client: of those that come and go while the log is away."""

AT_ONCE: Final = 200  # told again in one turn of the loop

log = logging.getLogger(__name__)


class Telling:
    """See the module's text."""

    def __init__(self, control: Control) -> None:
        self._control = control
        self._untold: dict[tuple[str, Name], tuple[Fact, bool]] = {}  # what the log did not take; if that is the last
        self._under_way: dict[tuple[str, Name], object] = {}

    @property
    def has_room(self) -> bool:
        """Whether words of others may come."""
        return len(self._untold) + len(self._under_way) < WORDS_MAX

    def tell(self, kind: str, name: Name, fact: Fact) -> None:
        """Writes a fact, now or later."""
        self._tell(kind, name, fact, is_last=False)

    def tell_last(self, kind: str, name: Name, fact: Fact) -> None:
        """Writes a fact, now or later, and takes it back when the log has it."""
        self._tell(kind, name, fact, is_last=True)

    def _tell(self, kind: str, name: Name, fact: Fact, *, is_last: bool) -> None:
        key, mark = (kind, name), object()
        self._untold.pop(key, None)
        self._under_way[key] = mark

        def told(problem: SourceError | None) -> None:
            if self._under_way.get(key) is not mark:
                return
            del self._under_way[key]
            if isinstance(problem, SourceTooLarge) and fact is not None:
                log.warning("what is to be kept of an MQTT client is too large for the log: it is not kept")
                self.tell(kind, name, None)
            elif problem is not None:
                self._untold[key] = fact, is_last
            elif is_last:
                self.tell(kind, name, None)

        self._control.tell(kind, name_text(name), fact, told)

    def forget(self, kind: str, name: Name) -> None:
        """What waits counts no more: a newer word is on its way."""
        self._untold.pop((kind, name), None)
        self._under_way.pop((kind, name), None)

    def again(self) -> None:
        """Tells what the log did not take, some of it."""
        for (kind, name), (fact, is_last) in list(islice(self._untold.items(), AT_ONCE)):
            self._tell(kind, name, fact, is_last=is_last)
