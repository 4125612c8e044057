"""What a session may ask while it decides: questions answered at once, from memory, without I/O."""

from enum import IntEnum
from typing import Any, Protocol

from fanout.auth.credentials import Presented
from fanout.types import Identity

__all__ = ["Authenticator", "Channels", "Members", "Outcome", "PlanLike"]


class Outcome(IntEnum):
    """What a position turned out to be; the numbers are those of `fanout._core`."""

    FRESH = 0
    """No position was given: live, or rewound."""
    RESUMED = 1
    """Continues exactly after it."""
    GAP = 2
    """Messages after it are no longer held: continues with the earliest that is."""
    FOREIGN = 3
    """It is not a position of this channel in this log: live."""
    AHEAD = 4
    """It is beyond what this node has read so far; so may be what a rewind would show."""
    CONFLATED = 5
    """Continues with the newest message of each key: those that were superseded are left out."""
    PARTIAL = 6
    """No position was given, and of the newest messages of all keys there was no room for some."""
    UNREAD = 7
    """What it says is known once the log has been asked: live, as far as memory can tell."""


class PlanLike(Protocol):
    """Where an attachment would start; `fanout._core.Plan` answers this."""

    @property
    def outcome(self) -> int:
        """An `Outcome`."""
        ...

    @property
    def serial(self) -> str:
        """The position to put into ATTACHED."""
        ...

    @property
    def first(self) -> str:
        """The position of who was given nothing yet."""
        ...

    @property
    def backlog(self) -> int:
        """Messages that will follow before live ones."""
        ...

    @property
    def has_presence(self) -> bool:
        """Whether somebody is present."""
        ...


class Channels(Protocol):
    """The node's channels; `fanout._core.Engine` answers this."""

    def locate(self, channel: str, serial: str | None, rewind_count: int, rewind_ms: int, now_ms: int, /) -> PlanLike:
        """Finds where an attachment starts, as an `Outcome`. Of `rewind_*`, 0 = no such limit; both 0 = no rewind.

        A rewind starts at the earliest held message that both limits admit.
        """
        ...

    def filter(self, expression: str, /) -> Any:
        """Compiles the expression of a filtered channel. Raises ValueError, fit for the client, if it is none."""
        ...


class Authenticator(Protocol):
    """Who is let in; `fanout.auth.known.KnownCredentials` answers this, or a program's own rule."""

    def identify(self, shown: Presented, now_ms: int, /) -> Identity:
        """Who presents this credential. Raises ClientError for nobody that is let in."""
        ...


class Members(Protocol):
    """The presence members of this node's connections; `fanout.presence.service.Presence` answers this.

    A connection that has none may be named too.
    """

    def lost(self, connection_id: str, remain_ms: int, /) -> None:
        """The transport is gone: its members leave after so long, unless the connection is continued."""

    def resumed(self, connection_id: str, /) -> None:
        """A lost connection is continued: its members stay."""

    def ended(self, connection_id: str, /) -> None:
        """The connection is over: its members leave now."""
