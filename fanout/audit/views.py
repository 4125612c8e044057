"""What subscribers were given, kept so that ten million deliveries fit into memory: four bytes each.

Each distinct message is kept once, in the catalogue of its channel, and has a number there. A view is what one
subscriber was given of one channel: those numbers in the order in which they came, and between them the gaps that it
was told of. A catalogue grows with what the log has, a view with what is delivered; whoever runs an audit bounds both.
"""

import base64
from array import array
from collections.abc import Iterable
from typing import Any, NamedTuple, Self

__all__ = ["Catalogue", "Gap", "Received", "View", "received"]


class Received(NamedTuple):
    """One message: its id, empty where the wire has none, and its payload as text, bytes in hex."""

    id: str
    text: str


def received(message: dict[str, Any]) -> Received:
    """What a message of a MESSAGE frame comes to."""
    data: Any = message.get("data")
    if message.get("encoding") == "base64":
        data = base64.b64decode(data)
    return Received(message["id"], data.hex() if isinstance(data, bytes) else str(data))


class Gap(NamedTuple):
    """The server said that it could not continue: after so many messages, with that code. None: it gave none."""

    at: int
    code: int | None


class Catalogue:
    """Numbers the distinct messages of one channel, from 0."""

    __slots__ = ("_messages", "_numbers")

    def __init__(self) -> None:
        self._numbers: dict[Received, int] = {}
        self._messages: list[Received] = []

    def number(self, message: Received) -> int:
        """The message's number; it gets one if it has none."""
        number = self._numbers.get(message)
        if number is None:
            number = self._numbers[message] = len(self._messages)
            self._messages.append(message)
        return number

    def message(self, number: int) -> Received:
        """The message of a number that `number` gave."""
        return self._messages[number]


class View:
    """What one subscriber was given of one channel."""

    __slots__ = ("catalogue", "gaps", "numbers")

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.numbers = array("I")
        self.gaps: list[Gap] = []

    @classmethod
    def of(cls, messages: Iterable[Received], catalogue: Catalogue | None = None) -> Self:
        """A view of these messages, without a gap."""
        view = cls(Catalogue() if catalogue is None else catalogue)
        for message in messages:
            view.take(message)
        return view

    def take(self, message: Received) -> None:
        """One more message came."""
        self.numbers.append(self.catalogue.number(message))

    def gap(self, code: int | None) -> None:
        """The server said here that it does not continue where it was."""
        self.gaps.append(Gap(len(self.numbers), code))
