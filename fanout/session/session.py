"""A client's conversation: what it says goes in, what is to be done comes out.

A session decides without a socket, a clock or a log. Its driver hands it every frame and every answer of the log, and
carries out the effects that come back, in their order. This file only says who deals with what.

A session has three owners of state: its `Attachments`; its `Publisher`, once the client has published; and the
`ConnectionState`, which outlives it. It ends once, by any of: CLOSE, DISCONNECT, an error, `drain`, being superseded,
`closed`. After that it answers everything with nothing.

Everything here belongs to the event loop. No frame that `fanout.wire.decode` returns makes it raise.
"""

from collections.abc import Callable, Sequence
from typing import Any

from fanout.errors import ClientError, ErrorInfo, error
from fanout.session import auth, connection
from fanout.session.attach import Attachments, Passed, WaitingAttach
from fanout.session.effects import Authenticate, Close, Effect, Reply
from fanout.session.limits import Limits
from fanout.session.params import ConnectParams
from fanout.session.ports import Channels, PlanLike
from fanout.session.presence import accept_presence
from fanout.session.publish import Accepted, Publisher
from fanout.session.resume import ConnectionState
from fanout.types import Identity
from fanout.wire import Action, ClientFrame

__all__ = ["Session"]

_NO_OBJECTS = error(40160, "objects are not offered")


class Session:
    """The conversation on one transport. Made by `fanout.session.opening.open_session`."""

    __slots__ = (
        "_attachments", "_greeting", "_limits", "_over", "_publisher", "connection_id", "deliver", "params", "state",
    )  # fmt: skip

    def __init__(
        self,
        *,
        identity: Identity,
        params: ConnectParams,
        channels: Channels,
        state: ConnectionState,
        greeting: dict[str, Any],
        limits: Limits,
    ) -> None:
        """Takes the connection over: a session that held `state` before is superseded at once.

        `greeting` is CONNECTED (`fanout.session.connection.connected`).
        """
        self.params = params
        self.connection_id = state.connection_id
        """Where its messages come from; `echo` goes by it. A driver may set another, before anything is published, that
        all connections of one client share."""
        self.deliver: Callable[[list[Effect]], None] = _unheard
        """Set by the driver, before `open`: carries out effects that no call of its own brought about. These are the
        answer to a publish of an earlier transport, and the end when a newer transport supersedes this one."""
        self._limits = limits
        self._greeting: dict[str, Any] | None = greeting
        self.state = state
        """What outlives the session."""
        state.remain_present_ms = params.remain_present_ms
        self._over = False
        self._attachments = Attachments(identity, channels, limits, echo=params.echo)
        self._publisher: Publisher | None = None
        state.claim(self)

    @property
    def identity(self) -> Identity:
        """Whose conversation it is."""
        return self._attachments.identity

    @property
    def publishes(self) -> bool:
        """Whether the client has sent anything for the log over this transport."""
        return self._publisher is not None

    def allow(self, attachments: int) -> None:
        """Lets the client have so many channels at once: its driver finds them for it, and bounds them."""
        self._attachments.most = attachments

    def open(self) -> list[Effect]:
        """CONNECTED, the first frame; once."""
        greeting, self._greeting = self._greeting, None
        return [] if greeting is None else [Reply(greeting)]

    def receive(self, frame: ClientFrame | WaitingAttach | Passed, now_ms: int) -> list[Effect]:
        """Takes one frame of the client's, or what a `Retry` gave back."""
        if self._over:
            return []
        if isinstance(frame, WaitingAttach | Passed):
            return self._attachments.retry(frame, now_ms)
        try:
            return self._dispatch(frame, now_ms)
        except ClientError as refused:
            return self.fail(refused.info)

    def published(self, msg_serial: int, serials: Sequence[str | None]) -> list[Effect]:
        """The log has a publish: the serials of its messages, None where there is none."""
        return self._settled(msg_serial, tuple(serials))

    def refused(self, msg_serial: int, error: ErrorInfo) -> list[Effect]:
        """The log has refused a publish, or failed."""
        return self._settled(msg_serial, error)

    def lost(self, attachment: int, now_ms: int, place: str | None = None) -> list[Effect]:
        """The engine dropped messages of this attachment, or had to skip some: says so, and goes on live; or goes on
        from the log without a word, if the position of its `place` is known and the log has all behind it.
        """
        return [] if self._over else self._attachments.lost(attachment, error(80020), now_ms, place)

    def conflated(self, attachment: int, now_ms: int) -> list[Effect]:
        """The engine is about to skip what was superseded of what this attachment has not been given: says so."""
        return [] if self._over else self._attachments.lost(attachment, error(90020), now_ms)

    def replayed(
        self, attach: WaitingAttach | Passed, answer: PlanLike | ErrorInfo | None, now_ms: int
    ) -> list[Effect]:
        """The answer to a `Replay`: a place, None if the log has none, or an error: then it is asked again later, and
        the client's other channels go on.
        """
        if self._over or not self._attachments.awaits(attach):
            return []
        if isinstance(answer, ErrorInfo):
            return self._attachments.unanswered(attach, now_ms)
        if isinstance(attach, Passed):
            return self._attachments.recovered(attach, answer, now_ms)
        return self._attachments.replayed(attach, answer, now_ms)

    def left(self) -> list[Effect]:
        """A replay did not wait for an attachment: the client comes back, and goes on from where it is."""
        return self._end(connection.disconnected(error(80003, "what was missed is read too slowly: connect again")))

    def fail(self, reason: ErrorInfo) -> list[Effect]:
        """Ends the connection for an error, for example a frame that cannot be decoded."""
        return self._end(connection.ended(reason))

    def ask_for_token(self) -> list[Effect]:
        """What the client was let in with is good for a short while only: it is to send something newer."""
        return [] if self._over else auth.ask()

    def authenticated(self, identity: Identity, greeting: dict[str, Any], now_ms: int) -> list[Effect]:
        """The client has shown a newer token. `greeting` is CONNECTED; what the client may do is looked at anew."""
        if self._over:
            return []
        return [Reply(greeting), *self._attachments.regrant(identity, now_ms)]

    def unauthorized(self, reason: ErrorInfo) -> list[Effect]:
        """What the client was let in with is good no more: it may come back with something newer."""
        return self._end(connection.disconnected(reason))

    def drain(self) -> list[Effect]:
        """Sends the client to another node, or to this one once it is back."""
        return self._end(connection.disconnected(error(80003)))

    def closed(self) -> None:
        """The transport is gone; unless the conversation was over already, its state is kept for a while."""
        self._end([Close(resumable=True)])

    def answered(self) -> None:
        """See `fanout.session.resume.Holder`."""
        effects = self._answers()
        if effects:
            self.deliver(effects)

    def superseded(self) -> None:
        """See `fanout.session.resume.Holder`."""
        self.deliver(self._end(connection.disconnected(error(80016))))

    def _dispatch(self, frame: ClientFrame, now_ms: int) -> list[Effect]:
        match frame.action:
            case Action.HEARTBEAT:
                return [Reply(connection.heartbeat(frame))]
            case Action.MESSAGE:
                return self._publishing().publish(_channel(frame), frame)
            case Action.ATTACH:
                return self._attachments.attach(_channel(frame), frame, now_ms)
            case Action.DETACH:
                return self._attachments.detach(_channel(frame))
            case Action.PRESENCE:
                return self._present(_channel(frame), frame, now_ms)
            case Action.SYNC:
                return self._attachments.sync(_channel(frame))
            case Action.ANNOTATION:
                return self._publishing().annotate(_channel(frame), frame)
            case Action.OBJECT:
                return self._publishing().refuse(frame, _NO_OBJECTS)
            case Action.CLOSE:
                return self._end(connection.closed())
            case Action.DISCONNECT:
                return self._end([Close(resumable=True)])
            case Action.AUTH:
                return [Authenticate(auth.shown_token(frame))]
            case _:
                return []  # the protocol's rule: what is not known is ignored

    def _present(self, spelling: str, frame: ClientFrame, now_ms: int) -> list[Effect]:
        def accept(serial: int) -> Accepted:
            return accept_presence(
                serial,
                spelling,
                frame,
                attachments=self._attachments,
                identity=self.identity,
                connection_id=self.connection_id,
                generation=self.state.generation,
                wire=self.params.wire,
                limits=self._limits,
                now_ms=now_ms,
            )

        return self._publishing().take(frame, accept)

    def _settled(self, msg_serial: int, result: tuple[str | None, ...] | ErrorInfo) -> list[Effect]:
        self.state.publishes.finish(msg_serial, result)
        if self.state.holder is self:
            return self._answers()
        if self.state.holder is not None:
            self.state.holder.answered()
        return []

    def _publishing(self) -> Publisher:
        if self._publisher is None:
            self._publisher = Publisher(
                connection_id=self.connection_id,
                id_base=self.state.connection_id,
                wire=self.params.wire,
                attachments=self._attachments,
                publishes=self.state.publishes,
                limits=self._limits,
            )
        return self._publisher

    def _answers(self) -> list[Effect]:
        return [] if self._publisher is None else self._publisher.answers()

    def _end(self, effects: list[Effect]) -> list[Effect]:
        if self._over:
            return []
        self._over = True
        resumable = any(isinstance(effect, Close) and effect.resumable for effect in effects)
        self.state.release(self, resumable=resumable)
        return effects


def _unheard(effects: list[Effect]) -> None:
    """Takes the effects of a session that has no driver yet: there are none."""


def _channel(frame: ClientFrame) -> str:
    if frame.channel is None:
        raise ClientError(error(40000, "channel is missing"))
    return frame.channel
