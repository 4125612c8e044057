"""What a driver needs of the node that it is on, and of the connection that it drives: the borders of `driver.py`."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from fanout.errors import ErrorInfo
from fanout.session.effects import Effect
from fanout.session.session import Session
from fanout.transports.outgoing import Outgoing
from fanout.transports.terms import Terms
from fanout.transports.turns import Turns
from fanout.types import OutAnnotation, OutChange, OutMessage, PresenceEvent

if TYPE_CHECKING:
    from fanout.transports.driver import Driver

__all__ = [
    "Backlog", "Link", "Mutator", "Node", "Opener", "Presence", "Publisher", "Renewer", "Replays",
]  # fmt: skip


class Publisher(Protocol):
    """Writes to the log; `fanout.publish.Publisher` answers this."""

    def publish(
        self, channel: str, messages: Sequence[OutMessage], done: Callable[[list[str] | ErrorInfo], None]
    ) -> None:
        """Writes the messages next to each other. `done` is called once, on the loop, perhaps before this returns."""


class Presence(Protocol):
    """Writes who is present to the log; `fanout.presence.service.Presence` answers this."""

    def write(
        self,
        connection_id: str,
        channel: str,
        events: Sequence[PresenceEvent],
        done: Callable[[list[None] | ErrorInfo], None],
    ) -> None:
        """Writes the events next to each other. `done` is called once, on the loop, perhaps before this returns."""

    def leave(self, connection_id: str, channel: str) -> None:
        """Lets the connection's members leave the channel."""


class Mutator(Protocol):
    """Writes changes and annotations to the log; `fanout.mutate.Mutator` answers this."""

    def change(
        self,
        channel: str,
        changes: Sequence[OutChange | OutAnnotation],
        who: str,
        done: Callable[[list[str] | ErrorInfo], None],
    ) -> None:
        """Writes the changes that `who` asks for next to each other.

        `done` is called once, on the loop, perhaps before this returns.
        """


class Backlog(Protocol):
    """What is on its way to the log; `fanout.backlog.Backlog` answers this."""

    is_full: bool

    def wait(self, speaker: "Driver", /) -> None:
        """Has the client go on once there is room."""

    def leave(self, speaker: "Driver", /) -> None:
        """The client waits no more."""


class Replays(Protocol):
    """Resumes from the log; `fanout.replay.Replays` answers this."""

    def resume(self, channel: str, serial: str, answer: Callable[[Any], None]) -> None:
        """Finds a place. `answer` is called once, on the loop, perhaps before this returns: with a plan, an ErrorInfo,
        or None.
        """


class Opener(Protocol):
    """Begins a session; `fanout.session.opening.open_session` with what the node knows."""

    def __call__(self, query: Mapping[str, str], authorization: str | None, now_ms: int, /) -> Session:
        """Raises ClientError for a client that is not let in."""


class Renewer(Protocol):
    """Lets a client go on with another token; `fanout.session.opening.reauthenticate` with what the node knows."""

    def __call__(self, session: Session, token: str, now_ms: int, /) -> list[Effect]:
        """What is to be done then."""


class Link(Protocol):
    """One connection as its driver sees it: something that hears, and an outgoing side that is the engine's."""

    def register(self, wire: int, connection_id: str, heartbeat_frames: bool, /) -> int:
        """Gives the outgoing side to the engine and returns its handle."""

    def pause(self) -> None:
        """Hears nothing more, until `resume`."""

    def resume(self) -> None:
        """Goes on with what has come meanwhile. Not called while something that came in is being handed over."""

    def write_some(self) -> bool:
        """Sends on a piece of what the engine has for it, if the loop is to; whether there may be more to send now."""

    def finish(self, code: int, /) -> None:
        """Ends the connection after all that was queued; nothing more is heard from the client."""

    def cut(self) -> None:
        """Ends the connection at once."""


class Node(Protocol):
    """What the connections of a node share; `fanout.transports.connections.Connections` answers this."""

    engine: Any
    publisher: Publisher
    presence: Presence
    mutator: Mutator
    backlog: Backlog
    replays: Replays
    watch: Callable[[str], None]
    open_session: Opener
    reauthenticate: Renewer
    terms: Terms
    ready: asyncio.Event
    clock: Callable[[], int]
    turns: Turns
    outgoing: Outgoing

    def hold(self, driver: "Driver", /) -> None:
        """Has the driver opened when the node is ready."""

    def hold_until(self, done: "asyncio.Future[None]", driver: "Driver", /) -> None:
        """Has the driver opened once that is done."""

    def entered(self, handle: int, driver: "Driver", /) -> None:
        """The connection has its handle."""

    def left(self, handle: int, driver: "Driver", /) -> None:
        """The connection is gone."""
