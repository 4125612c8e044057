"""What outlives a transport: a connection's publishes, and the table of connections that can be continued.

A client that comes back with its connection key goes on with its connection id and its `msgSerial` sequence, and sends
again what it has no answer for (Ably protocol, "Connection life"). So per connection there is kept, by msgSerial:

- every publish still in flight: sent again, it is not written again, and its answer goes to the transport that is
  there when the answer comes;
- the answers of late, `Limits.answers_kept` of them. A publish older than those is written again, under the same
  message ids, and recognised by everybody who reads the log. The same holds on a node that never saw the connection.

A lost connection is kept for its time to live, up to a bound on their number and one on all their answers together;
past either the one that was lost first is forgotten, and continued as on a node that never saw it. One that has expired
or was closed is remembered by its id and the last key that was given for it here, to refuse that, and of one that was
closed all that are older: whoever has another one may have been on another node since, and goes on. Generations would
not tell: a client that is cut before it hears of its new key shows the old one elsewhere, and two nodes count on from
the same. All of this belongs to the event loop.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from fanout.errors import ClientError, ErrorInfo, error
from fanout.session.limits import Limits
from fanout.session.params import REMAIN_MS
from fanout.session.ports import Members

__all__ = ["Answer", "ConnectionState", "ConnectionTable", "Holder", "Publishes"]

LOST_CONNECTIONS: Final = 20_000
"""Lost connections kept at once, as many as a process can hold open: about 1 KiB each, besides their answers."""

LOST_ANSWERS: Final = 200_000
"""Answers that all lost connections keep together, counted in messages: about 300 bytes each, 450 for a refusal, and so
90 MB at most. One connection keeps 2000 of them, up to 850 KiB."""

ENDED_CONNECTIONS: Final = 100_000
"""Ended connections remembered. One that is forgotten is continued as on a node that never saw it."""


class Answer:
    """What became of one publish: `result` is None while it is in flight, then its serials or the refusal."""

    __slots__ = ("messages", "msg_serial", "result", "size")

    def __init__(self, msg_serial: int, messages: int, size: int, result: ErrorInfo | None = None) -> None:
        """`messages` and `size` (bytes) are what counts against the bounds while it is in flight."""
        self.msg_serial = msg_serial
        self.messages = messages
        self.size = size
        self.result: tuple[str | None, ...] | ErrorInfo | None = result


class Holder(Protocol):
    """The session that speaks for a connection now."""

    def answered(self) -> None:
        """A publish that an earlier transport handed over has its answer."""

    def superseded(self) -> None:
        """Another transport has taken the connection over."""


class Publishes:
    """The publishes of one connection, over all its transports."""

    __slots__ = ("_bytes_in_flight", "_done", "_in_flight", "_kept", "_limits", "_messages_in_flight")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._in_flight: dict[int, Answer] = {}
        self._done: OrderedDict[int, Answer] = OrderedDict()
        self._messages_in_flight = 0
        self._bytes_in_flight = 0
        self._kept = 0

    @property
    def answers(self) -> int:
        """Answers that are kept or will be, counted in messages."""
        return self._kept + self._messages_in_flight

    def find(self, msg_serial: int) -> Answer | None:
        """What is known of a publish: None if it is new, or so old that it is forgotten."""
        return self._in_flight.get(msg_serial) or self._done.get(msg_serial)

    def begin(self, msg_serial: int, messages: int, size: int) -> Answer:
        """A publish is about to be handed to the log. Raises ClientError 42911 if too much is in flight."""
        if self._messages_in_flight + messages > self._limits.messages_in_flight:
            raise ClientError(error(42911, f"{self._messages_in_flight} messages wait for the log"))
        if self._bytes_in_flight + size > self._limits.bytes_in_flight:
            raise ClientError(error(42911, f"{self._bytes_in_flight} bytes wait for the log"))
        self._messages_in_flight += messages
        self._bytes_in_flight += size
        answer = self._in_flight[msg_serial] = Answer(msg_serial, messages, size)
        return answer

    def refuse(self, msg_serial: int, info: ErrorInfo) -> Answer:
        """A publish was refused before it came to the log."""
        answer = Answer(msg_serial, 1, 0, info)
        self._keep(answer)
        return answer

    def finish(self, msg_serial: int, result: tuple[str | None, ...] | ErrorInfo) -> None:
        """The log has answered. Ignored for a publish that is not in flight."""
        answer = self._in_flight.pop(msg_serial, None)
        if answer is None:
            return
        answer.result = result
        self._messages_in_flight -= answer.messages
        self._bytes_in_flight -= answer.size
        self._keep(answer)

    def _keep(self, answer: Answer) -> None:
        self._done[answer.msg_serial] = answer
        self._kept += answer.messages
        while self._kept > self._limits.answers_kept:
            _, oldest = self._done.popitem(last=False)
            self._kept -= oldest.messages


class ConnectionState:
    """One connection, over all its transports. Most clients only listen: those have no `Publishes`."""

    __slots__ = (
        "_limits", "_on_release", "_publishes", "connection_id", "generation", "holder", "key_issued",
        "remain_present_ms",
    )  # fmt: skip

    def __init__(
        self,
        connection_id: str,
        limits: Limits,
        on_release: Callable[["ConnectionState", bool], None] = lambda state, resumable: None,
    ) -> None:
        """`on_release` hears when the last transport is gone, and whether the connection can be continued."""
        self.connection_id = connection_id
        self.generation = 0  # how often it has been continued, on any node
        self.key_issued = 0  # when the last key was given for it here, in ms since 1970
        self.holder: Holder | None = None
        self.remain_present_ms = REMAIN_MS  # as the newest transport said
        self._limits = limits
        self._on_release = on_release
        self._publishes: Publishes | None = None

    @property
    def publishes(self) -> Publishes:
        """The connection's publishes, from the first on."""
        if self._publishes is None:
            self._publishes = Publishes(self._limits)
        return self._publishes

    @property
    def answers(self) -> int:
        """See `Publishes.answers`."""
        return 0 if self._publishes is None else self._publishes.answers

    def claim(self, holder: Holder) -> None:
        """Makes `holder` the connection's session; the one before is told."""
        before, self.holder = self.holder, holder
        if before is not None:
            before.superseded()

    def release(self, holder: Holder, *, resumable: bool) -> None:
        """`holder` has ended. Nothing happens if another has taken over, or when it is said twice."""
        if self.holder is holder:
            self.holder = None
            self._on_release(self, resumable)


class _Lost(NamedTuple):
    """A connection without a transport: since when, and with how many answers then."""

    at_ms: int
    answers: int
    state: ConnectionState


class ConnectionTable:
    """The connections of a node, open and lost."""

    def __init__(
        self, *, ttl_ms: int, now: Callable[[], int], limits: Limits | None = None, members: Members | None = None
    ) -> None:
        """`ttl_ms` counts from the loss of the transport; `now` reads the time in ms. `members` hears of each loss,
        return and end.
        """
        self._ttl_ms = ttl_ms
        self._now = now
        self._limits = limits or Limits()
        self._members = members
        self._open: dict[str, ConnectionState] = {}
        self._lost: OrderedDict[str, _Lost] = OrderedDict()  # the one lost first comes first
        self._lost_answers = 0
        self._ended = OrderedDict[str, tuple[int, bool]]()  # when the last key of each was issued; if it was closed
        self._on_release = self._released  # bound once, for all connections

    def __len__(self) -> int:
        """Connections kept, open and lost."""
        return len(self._open) + len(self._lost)

    def __contains__(self, connection_id: str) -> bool:
        """Whether this connection is kept here, open or lost."""
        return connection_id in self._open or connection_id in self._lost

    def may_live(self, connection_id: str, issued: int, elsewhere: bool) -> bool:
        """Whether a connection whose key was issued then (ms) can be continued: as known here, else as `elsewhere` says
        of those on other nodes.
        """
        self._expire()
        return connection_id in self or (elsewhere and not self._has_ended(connection_id, issued))

    def open(self, connection_id: str) -> ConnectionState:
        """The state of a new connection, or of one that this node never saw."""
        self._expire()
        state = self._open[connection_id] = ConnectionState(connection_id, self._limits, self._on_release)
        return state

    def resume(self, connection_id: str, issued: int) -> ConnectionState | None:
        """The state of a connection that is continued, whose client has the key that was issued then (ms); None if it
        has ended since. An open one is superseded by `claim`.
        """
        self._expire()
        if self._has_ended(connection_id, issued):
            return None
        if connection_id in self._open:
            return self._open[connection_id]
        if connection_id in self._lost:
            state = self._take_lost(connection_id)
            self._open[connection_id] = state
            if self._members is not None:
                self._members.resumed(connection_id)
            return state
        return self.open(connection_id)

    def _has_ended(self, connection_id: str, issued: int) -> bool:
        last, was_closed = self._ended.get(connection_id, (-1, False))
        return issued == last or (was_closed and issued < last)

    def _released(self, state: ConnectionState, resumable: bool) -> None:
        connection_id = state.connection_id
        del self._open[connection_id]
        if not resumable:
            self._end(state, was_closed=True)
            return
        if self._members is not None:
            self._members.lost(connection_id, state.remain_present_ms)
        self._lost[connection_id] = lost = _Lost(self._now(), state.answers, state)
        self._lost_answers += lost.answers
        while len(self._lost) > LOST_CONNECTIONS or self._lost_answers > LOST_ANSWERS:
            self._take_lost(next(iter(self._lost)))
        self._expire()

    def _take_lost(self, connection_id: str) -> ConnectionState:
        lost = self._lost.pop(connection_id)
        self._lost_answers -= lost.answers
        return lost.state

    def _expire(self) -> None:
        horizon = self._now() - self._ttl_ms
        while self._lost:
            connection_id, lost = next(iter(self._lost.items()))
            if lost.at_ms >= horizon:
                return
            self._end(self._take_lost(connection_id))

    def _end(self, state: ConnectionState, *, was_closed: bool = False) -> None:
        if self._members is not None:
            self._members.ended(state.connection_id)
        self._ended[state.connection_id] = state.key_issued, was_closed
        self._ended.move_to_end(state.connection_id)
        if len(self._ended) > ENDED_CONNECTIONS:
            self._ended.popitem(last=False)
