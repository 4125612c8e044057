"""The driver of sessions: carries out on one connection what its session decides, and hands the session what comes in.

- Effects are carried out in their order, and all of them before the session is handed anything else.
- A client that cannot be let in is told so in band (ERROR, then close): browsers cannot read a failed handshake.
- While the node catches up with its log a client is held, 8 s at most; then it is sent away to come back.
- A client with 1000 messages or 1 MiB under way is not heard until half of them are answered: so each client takes one
  large publish's time of the loop and no more. What waits for a log that cannot be asked does not count. When all
  together have too much under way, whoever publishes waits for the log (`fanout.backlog`).
- What clients send is heard for a bounded time in each turn of the loop; who comes later waits (`turns.py`).
- A connection has no task and no queue of its own: replies and deliveries wait in the engine alone.

Whatever the connection is made of, a WebSocket or a row of HTTP requests, the driver is the same; what it needs of
either is a `Link`. Everything belongs to the event loop.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from fanout.auth.credentials import KeysAwaited
from fanout.auth.keys import app_of
from fanout.errors import ClientError, ErrorInfo, error
from fanout.session import connection
from fanout.session.effects import (
    Attach,
    Authenticate,
    Change,
    Close,
    Detach,
    Effect,
    Leave,
    Present,
    Publish,
    Regrant,
    Replay,
    Reply,
    Retry,
    Sync,
    Watch,
)  # fmt: skip
from fanout.session.session import Session
from fanout.transports.http import Request
from fanout.transports.ports import Link, Node
from fanout.wire import JSON, ClientFrame, encode

__all__ = ["Driver"]

log = logging.getLogger(__name__)

_HOLD_SECONDS: Final = 8.0  # SDKs give a connection 10 s to come up
# One publish of the largest, or as many small ones as keep the log busy: messages or KiB, whichever are more.
_PENDING_MAX: Final = 1_000


class Driver:
    """One connection; a transport of a kind makes its `link` and hands over what comes in with `receive`."""

    __slots__ = (
        "_handle", "_node", "_paused", "_pending", "_request", "_session", "_steps", "_timer", "link", "wire",
    )  # fmt: skip

    link: Link

    def __init__(self, node: Node, request: Request | None, wire: int) -> None:
        """`request` is the one that the connection began with, if it was HTTP's; `wire` what its refusal would be
        encoded in.
        """
        self._node = node
        self._request = request
        self._session: Session | None = None
        self.wire = wire
        self._handle = 0
        self._timer: asyncio.TimerHandle | None = None
        self._steps: deque[Callable[[], Sequence[Effect]]] | None = None
        self._pending = 0  # under way; a retry counts as one message, but for what waits until the log can be asked
        self._paused = False

    # -- what the transport reports --

    def connected(self) -> None:
        """The link is there: begins the session, or waits for the node to be ready."""
        if self._node.ready.is_set():
            self.open()
            return
        self.link.pause()
        self._timer = asyncio.get_running_loop().call_later(_HOLD_SECONDS, self._send_away)
        self._node.hold(self)

    def may_speak(self, *, brief: bool) -> bool:
        """Whether a message of the client's, brief or not, is heard now; if not, it waits until its turn comes."""
        backlog = self._node.backlog
        if backlog.is_full and self._session is not None and self._session.publishes:
            backlog.wait(self)
        elif self._node.turns.take(self, brief=brief):
            return True
        self._pause()
        return False

    def receive(self, frame: ClientFrame) -> None:
        """The client has sent one protocol message."""
        session = self._session
        assert session is not None  # a client that is held, or was refused, is not heard
        self._run(partial(session.receive, frame, self._node.clock()))

    def fail(self, reason: ErrorInfo) -> None:
        """The client has sent something that ends the connection."""
        assert self._session is not None
        self._run(partial(self._session.fail, reason))

    def writable(self) -> None:
        """The link has room for what waits in the engine, or something has come there."""
        self._node.outgoing.add(self.link)

    def leaving(self) -> None:
        """The link is about to take the outgoing side from the engine."""

    def disconnected(self) -> None:
        """The link is gone, or about to be."""
        self._cancel_timer()
        self._node.terms.end(self)
        self._node.backlog.leave(self)
        self._node.left(self._handle, self)
        self._handle = 0
        if self._session is not None:
            self._session.closed()
            self._session.deliver = _to_nobody  # and no longer to us: the two would hold each other

    # -- what the node asks --

    @property
    def app(self) -> str | None:
        """The app whose client this is; None for one that was not let in, or not yet."""
        return None if self._session is None else app_of(self._session.identity.key_name)

    def open(self) -> None:
        """Begins the session, or refuses the client in band; or waits until it can be said who the client is."""
        request, self._request = self._request, None
        assert request is not None
        self._cancel_timer()
        try:
            session = self._node.open_session(request.query, request.headers.get("authorization"), self._node.clock())
        except KeysAwaited as awaited:
            self._request = request
            self.link.pause()
            self._node.hold_until(awaited.done, self)
            return
        except ClientError as refused:
            self._register("", heartbeats=False)
            self._run(partial(connection.ended, refused.info))
            return
        self.wire = session.params.wire
        self._register(session.connection_id, heartbeats=session.params.heartbeats)
        self._session = session
        session.deliver = self._deliver
        self._run(session.open)
        if session.identity.expires is not None:
            self._node.terms.begin(self, session.identity)
        self.link.resume()

    def lost(self, attachment: int) -> None:
        """The engine stopped delivering an attachment because its continuity was lost."""
        if self._session is not None:
            place = self._node.engine.lost_at(self._handle, attachment)
            self._run(partial(self._session.lost, attachment, self._node.clock(), place))

    def conflated(self, attachment: int) -> None:
        """The engine goes on with an attachment without what was superseded, once its client is told."""
        if self._session is not None:
            self._run(partial(self._session.conflated, attachment, self._node.clock()))

    def left(self) -> None:
        """A replay did not wait for the client."""
        if self._session is not None:
            self._run(self._session.left)

    def drain(self) -> None:
        """Sends the client away."""
        if self._session is not None:
            self._run(self._session.drain)
        elif self._handle == 0:
            self._send_away()

    def ask_for_token(self) -> None:
        """See `fanout.transports.terms.Client`."""
        if self._session is not None:
            self._run(self._session.ask_for_token)

    def unauthorized(self, reason: ErrorInfo) -> None:
        """See `fanout.transports.terms.Client`."""
        if self._session is not None:
            self._run(partial(self._session.unauthorized, reason))

    def cut(self) -> None:
        """Ends the connection at once."""
        self.link.cut()

    # -- effects --

    def _run(self, step: Callable[[], Sequence[Effect]]) -> None:
        """Takes a step of the session's and carries out what it decides, after what is being carried out now."""
        if self._steps is not None:
            self._steps.append(step)
            return
        self._steps = deque((step,))
        try:
            while self._steps:
                for effect in self._steps.popleft()():
                    self._perform(effect)
        finally:
            self._steps = None

    def _deliver(self, effects: Sequence[Effect]) -> None:
        """Takes effects that the session came to without being asked."""
        self._run(lambda: effects)

    def _perform(self, effect: Effect) -> None:
        if self._handle != 0:  # else the client is gone, and with it all that it could have been told
            self._carry_out(effect)

    def _carry_out(self, effect: Effect) -> None:
        engine = self._node.engine
        match effect:
            case Reply():
                engine.send(self._handle, encode(effect.frame, self.wire), 1 if self.wire == JSON else 2)
            case Attach():
                self._attach(effect, encode(effect.frame, self.wire))
            case Regrant():
                engine.regrant(self._handle, effect.attachment, effect.plan, effect.spelling, effect.kinds, effect.echo)
            case Detach():
                engine.detach(self._handle, effect.attachment, encode(effect.frame, self.wire))
            case Publish():
                weight = self._begin(len(effect.messages), effect.size)
                self._node.publisher.publish(
                    effect.channel, effect.messages, partial(self._answered, effect.msg_serial, weight)
                )
            case Present():
                weight = self._begin(len(effect.events), effect.size)
                self._node.presence.write(
                    self._connection_id(),
                    effect.channel,
                    effect.events,
                    partial(self._answered, effect.msg_serial, weight),
                )
            case Leave():
                self._node.presence.leave(self._connection_id(), effect.channel)
            case Sync():
                engine.sync(self._handle, effect.attachment)
            case Change():
                weight = self._begin(len(effect.changes), effect.size)
                self._node.mutator.change(
                    effect.channel,
                    effect.changes,
                    self._connection_id(),
                    partial(self._answered, effect.msg_serial, weight),
                )
            case Watch():
                self._node.watch(effect.channel)
            case Retry():
                weight = self._begin(0 if effect.unanswered else 1)
                asyncio.get_running_loop().call_later(effect.after_ms / 1000, self._retry, effect.frame, weight)
            case Replay():
                weight = self._begin(0 if effect.again else 1)
                answered = partial(self._replayed, effect.attach, weight)
                self._node.replays.resume(effect.channel, effect.serial, answered)
            case Authenticate():
                self._begin_alone()
                self._reauthenticate(effect.token)
            case Close():
                if effect.error is not None:
                    log.info("connection closed: %s (%d)", effect.error.message, effect.error.code)
                self.link.finish(effect.code)

    def _attach(self, effect: Attach, reply: bytes) -> None:
        """Sends `reply` and delivers from the plan's place on."""
        self._node.engine.attach(
            self._handle,
            effect.attachment,
            effect.plan,
            effect.spelling,
            effect.kinds,
            effect.echo,
            reply,
            delta=effect.delta,
            filter=effect.filter,
        )

    def _connection_id(self) -> str:
        assert self._session is not None
        return self._session.connection_id

    def _reauthenticate(self, token: str) -> None:
        session = self._session
        assert session is not None
        before = session.identity
        try:
            effects = self._node.reauthenticate(session, token, self._node.clock())
        except KeysAwaited as awaited:
            awaited.done.add_done_callback(lambda _: self._reauthenticate(token))
            return
        self._end(_PENDING_MAX)
        self._deliver(effects)
        if session.identity is not before:
            self._node.terms.begin(self, session.identity)

    def _answered(self, msg_serial: int, weight: int, result: Sequence[str | None] | ErrorInfo) -> None:
        session = self._session
        assert session is not None
        self._end(weight)
        if isinstance(result, ErrorInfo):
            self._run(partial(session.refused, msg_serial, result))
        else:
            self._run(partial(session.published, msg_serial, result))

    def _retry(self, frame: Any, weight: int) -> None:
        assert self._session is not None
        self._end(weight)
        self._run(partial(self._session.receive, frame, self._node.clock()))

    def _replayed(self, attach: Any, weight: int, answer: Any) -> None:
        session = self._session
        assert session is not None
        self._end(weight)
        self._run(partial(session.replayed, attach, answer, self._node.clock()))

    def _begin(self, count: int, size: int = 0) -> int:
        weight = max(count, size >> 10)
        self._pending += weight
        if self._pending >= _PENDING_MAX:
            self._pause()
        return weight

    def _begin_alone(self) -> int:
        """Nothing is heard until it ends."""
        return self._begin(_PENDING_MAX)

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.link.pause()

    def _end(self, weight: int) -> None:
        self._pending -= weight
        if self._paused and self._pending <= _PENDING_MAX // 2:
            asyncio.get_running_loop().call_soon(self.go_on)  # after the answers, and when others had their turn

    def go_on(self) -> None:
        """Hears the client again, first what had been read before. See `fanout.transports.turns.Caller`."""
        if self._handle == 0 or not self._paused or self._pending > _PENDING_MAX // 2:
            return
        self._paused = False
        self.hear_on()

    def hear_on(self) -> None:
        """Goes on with what has come meanwhile."""
        self.link.resume()

    # -- before the session --

    def _register(self, connection_id: str, *, heartbeats: bool) -> None:
        self._handle = self.link.register(self.wire, connection_id, heartbeats)
        self._node.entered(self._handle, self)

    def _send_away(self) -> None:
        self._cancel_timer()
        self._register("", heartbeats=False)
        self._run(partial(connection.disconnected, error(80003, "this node is not ready yet")))

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _to_nobody(_effects: Sequence[Effect]) -> None:
    """Carries nothing out."""
