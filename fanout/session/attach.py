"""Attachments: where a connection's channels are attached, moved and left (Ably protocol, "ATTACH → ATTACHED").

An attachment is identified by its spelling and known to the engine by a number that stays with it: another ATTACH for
the same spelling moves it. ATTACHED says what became of the position that the client gave:

=======  ============================================================================================================
RESUMED  flag RESUMED; HAS_BACKLOG if messages follow
GAP      of memory: the log is asked; of the log: error 90003; what is left of the backlog follows
UNREAD   the log is asked; if it does not know either: error 90005; live only
FOREIGN  error 90005; live only
AHEAD    the question is put again for a while, then the log is asked: if it has got there the attachment waits, else
         error 90003; live only, or refused if the channel is not read here
FRESH    no position: live, or rewound; error 90004 if the rewind was cut off
=======  ============================================================================================================

Of a channel with snapshots "live" begins with the newest message of each key. CONFLATED is error 90020, said also when
a slow client is about to skip what was superseded; PARTIAL, an incomplete snapshot, is error 90021.

Where memory has passed a slow client and it is known where that stood, the log is asked likewise: it goes on from
there, and nothing is said to the client unless the log does not have it all.

While the log cannot be asked what concerns it alone waits: an ATTACH without an answer, an attachment that memory has
passed without messages. It is asked again after half of the time that it has waited, `AGAIN_MS` at least and at most,
until the client detaches, attaches anew or goes. An SDK that has lost patience sends ATTACH again: if that names no
position it has that of the one that waits, for the client was told nothing since.

A refusal is an ERROR that names the channel: it fails, the connection lives.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from fanout.auth.capabilities import allows
from fanout.auth.realms import realm_of
from fanout.errors import ClientError, ErrorInfo, error
from fanout.session.effects import Attach, Detach, Effect, Leave, Regrant, Replay, Reply, Retry, Sync, Watch
from fanout.session.kinds import Kinds, kinds_of
from fanout.session.limits import Limits
from fanout.session.modes import ChannelParams, granted_modes, parse_params, requested_modes
from fanout.session.names import parse_name
from fanout.session.ports import Channels, Outcome, PlanLike
from fanout.types import Identity
from fanout.wire import Action, ClientFrame, Flag

__all__ = ["AGAIN_MS", "Attachment", "Attachments", "Passed", "WaitingAttach"]

AGAIN_MS: Final = (500, 5_000)


class Attachment(msgspec.Struct, frozen=True, gc=False):
    """A channel that this connection is attached to."""

    number: int
    spelling: str
    channel: str
    requested: int  # `Flag`s
    granted: int
    params: ChannelParams
    filter: Any  # fanout._core.Filter; None for a channel that is not filtered


class WaitingAttach(msgspec.Struct, eq=False):
    """An ATTACH whose position this node has yet to read, or to find in the log. `since_ms` is when it first asked."""

    spelling: str
    frame: ClientFrame
    since_ms: int
    number: int | None = None
    """What the attachment will have, once it waits."""


class Passed(msgspec.Struct, frozen=True, eq=False):
    """An attachment that memory has passed at `place`, while the log is asked for what it was not given, since
    `since_ms`; `reason` is what its client is told if the log does not have that. Without a place it waits until this
    node reads all that may feed its channel, and is told then.
    """

    number: int
    place: str | None
    reason: ErrorInfo
    since_ms: int


class Attachments:
    """The attachments of one connection."""

    __slots__ = (
        "_attached", "_channels", "_echo", "_enters", "_limits", "_next_number", "_passed", "_waiting", "identity",
        "most",
    )  # fmt: skip

    def __init__(self, identity: Identity, channels: Channels, limits: Limits, *, echo: bool) -> None:
        """`echo` is the connection's: a channel may only turn it off."""
        self.identity = identity
        """Whose they are: changed by `regrant`."""
        self.most = limits.attachments
        """So many there may be at once."""
        self._channels = channels
        self._limits = limits
        self._echo = echo
        self._attached: dict[str, Attachment] = {}
        self._enters = False  # whether there may be members of this connection's
        self._waiting: dict[str, WaitingAttach] = {}
        self._next_number = 1
        self._passed: dict[int, Passed] | None = None  # by number; most clients never have one

    def find(self, spelling: str) -> Attachment | None:
        """The attachment that goes by this spelling."""
        return self._attached.get(spelling)

    def attach(self, spelling: str, frame: ClientFrame, now_ms: int) -> list[Effect]:
        """Answers ATTACH. A later ATTACH or DETACH of the same spelling takes the place of one that still waits."""
        waited = self._waiting.pop(spelling, None)
        if waited is not None and not frame.channel_serial and spelling not in self._attached:
            frame = replace(frame, channel_serial=waited.frame.channel_serial)
        number = None if waited is None else waited.number
        return self._attach(WaitingAttach(spelling, frame, now_ms, number), now_ms)

    def ensure(self, spelling: str, now_ms: int) -> list[Effect]:
        """Attaches as an ATTACH without wishes does, unless that is done or under way.

        Raises ClientError where that would be refused.
        """
        if spelling in self._attached or spelling in self._waiting:
            return []
        frame = ClientFrame(Action.ATTACH)
        self._requested(spelling, frame)
        return self.attach(spelling, frame, now_ms)

    def sync(self, spelling: str) -> list[Effect]:
        """Answers SYNC, by which a client asks for the presence set once more; not where it is not given that."""
        attached = self._attached.get(spelling)
        return [Sync(attached.number)] if attached and attached.granted & Flag.PRESENCE_SUBSCRIBE else []

    def retry(self, waiting: WaitingAttach | Passed, now_ms: int) -> list[Effect]:
        """Goes on with what waited, unless something else has taken its place."""
        if not self.awaits(waiting):
            return []
        if isinstance(waiting, Passed):
            attached = self._of_number(waiting.number)
            if attached is None:
                return []
            if waiting.place is None:
                self._forget_passed(waiting.number)
                return self.lost(waiting.number, waiting.reason, now_ms)
            return [Replay(attached.channel, waiting.place, waiting, again=True)]
        del self._waiting[waiting.spelling]
        return self._attach(waiting, now_ms)

    def unanswered(self, asked: WaitingAttach | Passed, now_ms: int) -> list[Effect]:
        """The log cannot be asked now, or says no more than that: what awaits it waits."""
        least, most = AGAIN_MS
        return [Retry(min(max((now_ms - asked.since_ms) // 2, least), most), asked, unanswered=True)]

    def awaits(self, asked: WaitingAttach | Passed) -> bool:
        """Whether what the log was asked for is still wanted."""
        if isinstance(asked, Passed):
            return self._passed is not None and self._passed.get(asked.number) is asked
        return self._waiting.get(asked.spelling) is asked

    def replayed(self, waiting: WaitingAttach, plan: PlanLike | None, now_ms: int) -> list[Effect]:
        """The log was asked for an ATTACH that awaits it, and this is its place; None if it has none, and memory has to
        do.
        """
        del self._waiting[waiting.spelling]
        return self._attach(waiting, now_ms, plan, asked=True)

    def detach(self, spelling: str) -> list[Effect]:
        """Answers DETACH with DETACHED, whether attached or not."""
        self._waiting.pop(spelling, None)
        return self._leave(spelling, {"action": Action.DETACHED, "channel": spelling})

    def regrant(self, identity: Identity, now_ms: int) -> list[Effect]:
        """Looks at every attachment again, by another identity's capability: what it asked for is remembered.

        One that is left nothing fails; one that gains or loses a mode goes on where it is.
        """
        self.identity = identity
        effects: list[Effect] = []
        for spelling, attached in list(self._attached.items()):
            granted = granted_modes(attached.requested, identity.capability, attached.channel)
            if not granted:
                refused = error(40160, "the new credential allows none of the channel's modes")
                effects += self._leave(spelling, _failed(spelling, refused))
            elif granted != attached.granted:
                self._attached[spelling] = replace(attached, granted=granted)
                self._enters |= bool(granted & Flag.PRESENCE)
                waits = self._passed is not None and attached.number in self._passed
                if kinds_of(granted) != kinds_of(attached.granted) and not waits:
                    effects.append(self._regranted(self._attached[spelling], now_ms))
        return effects

    def lost(self, number: int, reason: ErrorInfo, now_ms: int, place: str | None = None) -> list[Effect]:
        """The engine dropped or skips messages of an attachment: the client is told why, and is live again. If the
        position where it stood is known, the log is asked first.
        """
        attached = self._of_number(number)
        if attached is None:
            return []
        if place is not None and self._kinds(attached) & Kinds.LOGGED:
            passed = Passed(number, place, reason, now_ms)
            self._passed = {**(self._passed or {}), number: passed}
            return [Replay(attached.channel, place, passed)]
        plan = self._channels.locate(attached.channel, None, 0, 0, now_ms)
        if plan.outcome == Outcome.AHEAD:  # a partition that may feed it is yet to be read here
            passed = Passed(number, None, reason, now_ms)
            self._passed = {**(self._passed or {}), number: passed}
            return [Retry(AGAIN_MS[0], passed, unanswered=True)]
        return [self._attached_effect(attached, plan, reason)]

    def recovered(self, passed: Passed, plan: PlanLike | None, now_ms: int) -> list[Effect]:
        """The log was asked for what memory has passed, which awaits that, and this is its place; None if it does not
        have it.
        """
        attached = self._of_number(passed.number)
        self._forget_passed(passed.number)
        if attached is None:
            return []
        if plan is None:
            return self.lost(passed.number, passed.reason, now_ms)
        if plan.outcome == Outcome.RESUMED:
            return [self._regrant_effect(attached, plan)]
        return [self._attached_effect(attached, plan, passed.reason)]

    def _of_number(self, number: int) -> Attachment | None:
        return next((attached for attached in self._attached.values() if attached.number == number), None)

    def _forget_passed(self, number: int) -> None:
        if self._passed is not None and number in self._passed:
            del self._passed[number]
            self._passed = self._passed or None

    def _attach(
        self, waiting: WaitingAttach, now_ms: int, replay: PlanLike | None = None, *, asked: bool = False
    ) -> list[Effect]:
        """Attaches in memory, or in `replay`. `asked`: what memory does not have, the log has not either."""
        spelling = waiting.spelling
        try:
            attachment = self._requested(spelling, waiting.frame, waiting.number)
        except ClientError as refused:
            # A channel that the client now takes for failed must not go on being delivered.
            return self._leave(spelling, _failed(spelling, refused.info))
        if replay is None:
            plan, reason = self._locate(attachment, waiting.frame, now_ms)
        else:
            plan, reason = replay, _told(replay.outcome)
        if plan.outcome == Outcome.AHEAD and now_ms - waiting.since_ms < self._limits.ahead_wait_ms:
            self._wait(waiting, attachment.number)
            return [Retry(self._limits.ahead_retry_ms, waiting)]
        may_be_in_log = plan.outcome in (Outcome.GAP, Outcome.UNREAD, Outcome.AHEAD)
        if may_be_in_log and not asked and self._kinds(attachment) & Kinds.LOGGED:
            self._wait(waiting, attachment.number)
            again = now_ms - waiting.since_ms >= AGAIN_MS[0]
            return [Replay(attachment.channel, waiting.frame.channel_serial or "", waiting, again)]
        if plan.outcome == Outcome.AHEAD:
            plan = self._channels.locate(attachment.channel, None, 0, 0, now_ms)
            if plan.outcome == Outcome.AHEAD:
                return self._leave(spelling, _failed(spelling, error(50003, "this channel cannot be read now")))
            reason = error(90003, "nothing as late as this position has been read")
        self._attached[spelling] = attachment
        self._enters |= bool(attachment.granted & Flag.PRESENCE)
        self._forget_passed(attachment.number)
        self._next_number = max(self._next_number, attachment.number + 1)
        attached = self._attached_effect(attachment, plan, reason)
        return [attached, Watch(attachment.channel)] if attached.kinds & Kinds.META else [attached]

    def _wait(self, waiting: WaitingAttach, number: int) -> None:
        waiting.number = number
        self._next_number = max(self._next_number, number + 1)
        self._waiting[waiting.spelling] = waiting

    def _requested(self, spelling: str, frame: ClientFrame, number: int | None = None) -> Attachment:
        realm = realm_of(self.identity.key_name)
        channel, qualified, expression = parse_name(spelling, self._limits.channel_bytes, realm, filtered=True)
        params = parse_params(qualified | _texts(frame.params) if frame.params else qualified)
        requested = requested_modes(frame.flags or 0, params)
        if expression is not None:
            requested &= Flag.SUBSCRIBE
        granted = granted_modes(requested, self.identity.capability, channel)
        if not granted:
            raise ClientError(error(40160, "none of the modes asked for is allowed on this channel, or offered here"))
        if params.occupancy and not self._may_watch(channel):
            raise ClientError(error(40160, "occupancy takes the right to channel-metadata on this channel"))
        moved = self._attached.get(spelling)
        if moved is None and self._count() >= self.most:
            raise ClientError(error(90010, f"{self.most} is the limit"))
        number = moved.number if moved else number or self._next_number
        wanted = None if expression is None else self._filter(expression)
        return Attachment(number, spelling, channel, requested, granted, params, wanted)

    def _filter(self, expression: str) -> Any:
        try:
            return self._channels.filter(expression)
        except ValueError as unfit:
            raise ClientError(error(40010, f"of its filter, {unfit}")) from None

    def _count(self) -> int:
        """The spellings that are attached or about to be."""
        return len(self._attached.keys() | self._waiting.keys()) if self._waiting else len(self._attached)

    def _locate(self, wanted: Attachment, frame: ClientFrame, now_ms: int) -> tuple[PlanLike, ErrorInfo | None]:
        """The plan, and what the client must be told about it."""
        serial = frame.channel_serial or None
        resuming = serial is not None or (frame.flags or 0) & Flag.ATTACH_RESUME
        if wanted.params.rewinds and not resuming:
            return self._rewound(wanted, now_ms)
        plan = self._channels.locate(wanted.channel, serial, 0, 0, now_ms)
        return plan, _told(plan.outcome)

    def _rewound(self, wanted: Attachment, now_ms: int) -> tuple[PlanLike, ErrorInfo | None]:
        most, period = self._limits.rewind_messages, wanted.params.rewind_ms
        count = wanted.params.rewind_count
        if count and count <= most:
            return self._channels.locate(wanted.channel, None, count, period, now_ms), None
        # One more than may be sent is asked for first: if there is one more, the backlog is cut off, and only then.
        plan = self._channels.locate(wanted.channel, None, most + 1, period, now_ms)
        if plan.backlog <= most:
            return plan, None
        return self._channels.locate(wanted.channel, None, most, period, now_ms), error(90004, f"{most} is the limit")

    def _attached_effect(self, attachment: Attachment, plan: PlanLike, reason: ErrorInfo | None) -> Attach:
        flags = attachment.granted
        if plan.outcome == Outcome.RESUMED:
            flags |= Flag.RESUMED
        if plan.backlog:
            flags |= Flag.HAS_BACKLOG
        kinds = self._kinds(attachment)
        if plan.has_presence and kinds & Kinds.PRESENCE:
            flags |= Flag.HAS_PRESENCE
        frame: dict[str, Any] = {
            "action": Action.ATTACHED,
            "channel": attachment.spelling,
            "channelSerial": plan.serial,
            "flags": flags,
        }
        if attachment.params.recognised:
            frame["params"] = attachment.params.recognised
        if reason is not None:
            frame["error"] = reason.to_wire()
        return Attach(
            attachment=attachment.number,
            plan=plan,
            spelling=attachment.spelling,
            kinds=kinds,
            echo=self._echo and attachment.params.echo,
            delta=attachment.params.delta,
            filter=attachment.filter,
            frame=frame,
        )

    def _kinds(self, attachment: Attachment) -> Kinds:
        kinds = kinds_of(attachment.granted)
        if attachment.params.whole_appends:
            kinds |= Kinds.WHOLE_APPENDS
        return kinds | Kinds.META if attachment.params.occupancy and self._may_watch(attachment.channel) else kinds

    def _may_watch(self, channel: str) -> bool:
        return allows(self.identity.capability, channel, "channel-metadata")

    def _regranted(self, attachment: Attachment, now_ms: int) -> Regrant:
        return self._regrant_effect(attachment, self._channels.locate(attachment.channel, None, 0, 0, now_ms))

    def _regrant_effect(self, attachment: Attachment, plan: PlanLike) -> Regrant:
        return Regrant(
            attachment=attachment.number,
            plan=plan,
            spelling=attachment.spelling,
            kinds=self._kinds(attachment),
            echo=self._echo and attachment.params.echo,
        )

    def _leave(self, spelling: str, frame: dict[str, Any]) -> list[Effect]:
        """Ends an attachment, if there is one, and says so; the last of its channel takes the members with it."""
        attached = self._attached.pop(spelling, None)
        if attached is None:
            return [Reply(frame)]
        self._forget_passed(attached.number)
        detached = Detach(attached.number, frame)
        if not self._enters or any(other.channel == attached.channel for other in self._attached.values()):
            return [detached]
        return [Leave(attached.channel), detached]


def _told(outcome: int) -> ErrorInfo | None:
    """What a client must be told of what became of its position."""
    if outcome == Outcome.GAP:
        return error(90003)
    numbers = {Outcome.FOREIGN: 90005, Outcome.UNREAD: 90005, Outcome.CONFLATED: 90020, Outcome.PARTIAL: 90021}
    number = numbers.get(Outcome(outcome))
    return None if number is None else error(number)


def _failed(spelling: str, reason: ErrorInfo) -> dict[str, Any]:
    """The ERROR that fails one channel."""
    return {"action": Action.ERROR, "channel": spelling, "error": reason.to_wire()}


def _texts(params: Mapping[str, str | int | float | bool | None]) -> dict[str, str]:
    """A frame's parameters as text: some clients send numbers and booleans where the protocol has strings."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in params.items()
        if value is not None
    }
