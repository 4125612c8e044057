"""Publishing on a connection: the msgSerial sequence, and answers in its order (Ably protocol, "Publish, ACK, NACK").

Messages, presence and annotations share one sequence; what a frame asks for is checked where its concept is.

- The sequence begins anywhere with the first frame of a transport, for clients give up on publishes while they are
  away, and is without gaps from there: frames cannot get lost on one transport, and an ACK past a gap would confirm
  what never came. A gap ends the connection.
- A frame that is sent again is answered again and not written again.
- The log may confirm in any order, since channels live in different partitions. Answers leave in the order in which
  the frames came; ACKs next to each other are merged.
"""

from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

from fanout.auth.capabilities import allows
from fanout.auth.realms import realm_of
from fanout.errors import ClientError, ErrorInfo, error
from fanout.session.annotations import check_annotations
from fanout.session.attach import Attachments
from fanout.session.changes import check_change, is_change
from fanout.session.effects import Change, Effect, Publish, Reply
from fanout.session.limits import Limits
from fanout.session.messages import check_messages
from fanout.session.names import parse_name
from fanout.session.resume import Answer, Publishes
from fanout.types import Identity
from fanout.wire import Action, ClientFrame, Flag

__all__ = ["Accepted", "Publisher"]


class _Given(TypedDict):
    wire: int
    identity: Identity
    connection_id: str | None
    id_base: str
    limits: Limits


class Accepted(NamedTuple):
    """A frame that goes to the log: what is to be done, its messages and bytes, counted until it is answered."""

    effects: list[Effect]
    messages: int
    size: int


class Publisher:
    """The publishing half of one transport. A client that only listens has none."""

    __slots__ = ("_attachments", "_connection_id", "_id_base", "_last", "_limits", "_publishes", "_waiting", "_wire")

    def __init__(
        self,
        *,
        connection_id: str,
        id_base: str,
        wire: int,
        attachments: Attachments,
        publishes: Publishes,
        limits: Limits,
    ) -> None:
        """Messages come from `connection_id`; ids that the client does not give begin with `id_base`, which only this
        msgSerial sequence has.
        """
        self._connection_id = connection_id
        self._id_base = id_base
        self._wire = wire
        self._attachments = attachments
        self._publishes = publishes
        self._limits = limits
        self._last: int | None = None
        # Answers that have not been sent, oldest first. Most often all but the newest few are known at once.
        self._waiting: list[Answer] = []

    def publish(self, spelling: str, frame: ClientFrame) -> list[Effect]:
        """Takes a MESSAGE. Raises like `take`."""
        return self.take(frame, lambda serial: self._accepted(serial, spelling, frame))

    def refuse(self, frame: ClientFrame, reason: ErrorInfo) -> list[Effect]:
        """Refuses a frame that takes part in the sequence but is not offered here. Raises like `take`."""

        def refused(_serial: int) -> Accepted:
            raise ClientError(reason)

        return self.take(frame, refused)

    def take(self, frame: ClientFrame, accept: Callable[[int], Accepted]) -> list[Effect]:
        """Takes a frame of the sequence; `accept` is given its msgSerial if it is new, and raises to refuse it.

        Raises ClientError for what ends the connection: see `_sequence`.
        """
        serial, known = self._sequence(frame)
        if known is not None:
            return self._answer_again(known)
        try:
            effects, count, size = accept(serial)
            self._waiting.append(self._publishes.begin(serial, count, size))
        except ClientError as refused:
            self._waiting.append(self._publishes.refuse(serial, refused.info))
            return self.answers()
        return effects

    def answers(self) -> list[Effect]:
        """The ACKs and NACKs that can leave now: all that are known, up to the first that is not."""
        known = next((at for at, answer in enumerate(self._waiting) if answer.result is None), len(self._waiting))
        ready = self._waiting[:known]
        del self._waiting[:known]
        effects: list[Effect] = []
        ack: dict[str, Any] | None = None
        for answer in ready:
            if isinstance(answer.result, ErrorInfo):
                ack = None
                effects.append(Reply(_nack(answer.msg_serial, answer.result)))
                continue
            serials = {"serials": list(answer.result or ())}
            if ack is not None and answer.msg_serial == ack["msgSerial"] + ack["count"]:
                ack["count"] += 1
                ack["res"].append(serials)
            else:
                ack = {"action": Action.ACK, "msgSerial": answer.msg_serial, "count": 1, "res": [serials]}
                effects.append(Reply(ack))
        return effects

    def _sequence(self, frame: ClientFrame) -> tuple[int, Answer | None]:
        """The frame's msgSerial, and what is known of it if it is sent again.

        Raises ClientError: 40000 for a msgSerial that is missing or leaves a gap, 42924 if too many answers wait.
        """
        serial = frame.msg_serial
        if serial is None:
            raise ClientError(error(40000, "msgSerial is missing"))
        if self._last is not None and serial > self._last + 1:
            raise ClientError(error(40000, f"msgSerial {serial} where {self._last + 1} was due"))
        if len(self._waiting) >= self._limits.answers_waiting:
            raise ClientError(error(42924, f"{len(self._waiting)} of them wait for an answer"))
        self._last = serial if self._last is None else max(serial, self._last)
        return serial, self._publishes.find(serial)

    def _answer_again(self, answer: Answer) -> list[Effect]:
        if not any(waiting is answer for waiting in self._waiting):
            self._waiting.append(answer)
        return self.answers()

    def annotate(self, spelling: str, frame: ClientFrame) -> list[Effect]:
        """Takes an ANNOTATION. Raises like `take`."""
        return self.take(frame, lambda serial: self._annotated(serial, spelling, frame))

    def _accepted(self, serial: int, spelling: str, frame: ClientFrame) -> Accepted:
        if (frame.params or {}).get("_forceNack") in (True, "true"):
            raise ClientError(error(40099))
        channel = self._channel(spelling, Flag.PUBLISH)
        messages = frame.messages or []
        if is_change(messages):
            change, size = check_change(messages, channel=channel, **self._given(serial))
            return Accepted([Change(serial, channel, [change], size)], 1, size)
        self._check_right(channel, "publish")
        checked, size = check_messages(messages, **self._given(serial))
        return Accepted([Publish(serial, channel, checked, size)], len(checked), size)

    def _annotated(self, serial: int, spelling: str, frame: ClientFrame) -> Accepted:
        channel = self._channel(spelling, Flag.ANNOTATION_PUBLISH)
        self._check_right(channel, "annotation-publish")
        annotations, size = check_annotations(frame.annotations or [], **self._given(serial))
        return Accepted([Change(serial, channel, annotations, size)], len(annotations), size)

    def _channel(self, spelling: str, mode: Flag) -> str:
        """The channel that is meant, unless it was attached without the mode that this takes."""
        channel = parse_name(
            spelling, self._limits.channel_bytes, realm_of(self._attachments.identity.key_name)
        ).channel
        attached = self._attachments.find(spelling)
        if attached is not None and not attached.requested & mode:
            raise ClientError(error(40165, f"{mode.name} was not among the modes asked for"))
        return channel

    def _check_right(self, channel: str, operation: str) -> None:
        if not allows(self._attachments.identity.capability, channel, operation):
            raise ClientError(error(40160, f"this credential does not allow {operation} on this channel"))

    def _given(self, serial: int) -> _Given:
        """What every check is to know of the client."""
        return {
            "wire": self._wire,
            "identity": self._attachments.identity,
            "connection_id": self._connection_id,
            "id_base": f"{self._id_base}:{serial}",
            "limits": self._limits,
        }


def _nack(msg_serial: int, reason: ErrorInfo) -> dict[str, Any]:
    return {"action": Action.NACK, "msgSerial": msg_serial, "count": 1, "error": reason.to_wire()}
