"""What a session asks its driver to do: the whole vocabulary between a conversation and the world.

A session decides, a driver acts. The driver carries the effects out in the order of the list, before it hands the
session anything else, so the order on the connection is the order of the effects.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from fanout.errors import ErrorInfo
from fanout.types import OutAnnotation, OutChange, OutMessage, PresenceEvent

__all__ = [
    "Attach", "Authenticate", "Change", "Close", "Detach", "Effect", "Leave", "Present", "Publish", "Regrant", "Replay",
    "Reply", "Retry", "Sync", "Watch",
]  # fmt: skip


class Reply(msgspec.Struct, frozen=True):
    """Send one protocol message, encoded for the connection's wire."""

    frame: dict[str, Any]


class Attach(msgspec.Struct, frozen=True):
    """Send `frame` (ATTACHED), then deliver from the plan's place on. Replaces an attachment of that number."""

    attachment: int
    plan: Any  # fanout._core.Plan, from the port's `locate`
    spelling: str
    kinds: int
    """What is delivered: a `fanout.session.kinds.Kinds`."""
    echo: bool
    """Whether its own connection's messages are among it."""
    delta: bool
    """Whether payloads are delivered as deltas where there are some."""
    filter: Any  # fanout._core.Filter, from the port's `filter`; None for all messages
    frame: dict[str, Any]


class Detach(msgspec.Struct, frozen=True):
    """Stop delivering, then send `frame` (DETACHED)."""

    attachment: int
    frame: dict[str, Any]


class Publish(msgspec.Struct, frozen=True):
    """Write the messages to the log, next to each other; answer with `Session.published` or `Session.refused`."""

    msg_serial: int
    channel: str
    messages: Sequence[OutMessage]
    size: int
    """Bytes, by the rule of `fanout.session.limits.Limits.message_bytes`."""


class Present(msgspec.Struct, frozen=True):
    """Write the events to the log, next to each other; answer with `Session.published`, None for each, or `refused`."""

    msg_serial: int
    channel: str
    events: Sequence[PresenceEvent]
    size: int


class Leave(msgspec.Struct, frozen=True):
    """Let the connection's members leave the channel."""

    channel: str


class Sync(msgspec.Struct, frozen=True):
    """Send the channel's presence set once more."""

    attachment: int


class Change(msgspec.Struct, frozen=True):
    """Write changes or annotations of messages of `channel` to the log, if the messages are there and may be changed;
    answer with `Session.published` or `Session.refused`.
    """

    msg_serial: int
    channel: str
    changes: Sequence[OutChange | OutAnnotation]
    size: int


class Watch(msgspec.Struct, frozen=True):
    """Tell who has just attached how many use the channel, and go on telling."""

    channel: str


class Retry(msgspec.Struct, frozen=True):
    """Hand `frame` to `Session.receive` again after a while: this node has yet to read what it is about."""

    after_ms: int
    frame: Any  # opaque: a fanout.session.attach.WaitingAttach or Passed
    unanswered: bool = False
    """The log could not be asked: that may last, and whoever waits for this alone need not."""


class Replay(msgspec.Struct, frozen=True):
    """Find a place in the log for who comes back with a position that memory does not reach back to, or was passed by
    memory there; answer with `Session.replayed`.
    """

    channel: str
    serial: str
    attach: Any  # opaque: a fanout.session.attach.WaitingAttach or Passed
    again: bool = False
    """Whether it has waited for some time already."""


class Regrant(msgspec.Struct, frozen=True):
    """Deliver other kinds to an attachment, from the place on where it is; from the plan's, if it was given nothing."""

    attachment: int
    plan: Any  # fanout._core.Plan, from the port's `locate`
    spelling: str
    kinds: int
    echo: bool


class Authenticate(msgspec.Struct, frozen=True):
    """Find out whose `token` it is, and carry out what `fanout.session.opening.reauthenticate` makes of it.

    The client is not heard before.
    """

    token: str


class Close(msgspec.Struct, frozen=True):
    """End the connection once everything before this is written. `code` is WebSocket's (RFC 6455 §7.4).

    `resumable` says whether the connection's state is kept for a client that comes back. `error` is for the log.
    """

    code: int = 1000
    resumable: bool = False
    error: ErrorInfo | None = None


Effect = (
    Reply
    | Attach
    | Regrant
    | Detach
    | Publish
    | Change
    | Present
    | Leave
    | Sync
    | Watch
    | Retry
    | Replay
    | Authenticate
    | Close
)
