"""What one MQTT client publishes, from PUBLISH to the acknowledgement that it is owed.

=====  ======================================================================================
QoS 0  written like all others; what becomes of it is not told
QoS 1  PUBACK when the log has it
QoS 2  PUBREC when the log has it, PUBCOMP when its identifier may be used again
=====  ======================================================================================

A message to be retained is acknowledged when it is. A refusal is a reason code; clients of MQTT 3.1.1 know none, and
are disconnected, since an acknowledgement would say that the log has it.

Belongs to the event loop.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from fanout.errors import ClientError, ErrorInfo
from fanout.packets import PUBACK, PUBCOMP, PUBREC, Ack, Publish
from fanout.session.effects import Publish as Write
from fanout.transports import mqtt_reasons as reasons
from fanout.transports.mqtt_messages import client_message
from fanout.transports.mqtt_ports import Held, Sessions
from fanout.transports.mqtt_publishes import Incoming, Owed
from fanout.transports.mqtt_topics import Topics
from fanout.types import OutMessage
from fanout.wire import Action, ClientFrame

__all__ = ["Answer", "Publishing", "Telling"]

log = logging.getLogger(__name__)

Answer = Sequence[str | None] | ErrorInfo
"""What became of a publish: the serials of its messages, or why it was refused."""


class Telling(Protocol):
    """How the client is told; the driver."""

    def say(self, frame: ClientFrame) -> None:
        """Hands the session a frame."""

    def send(self, packet: Ack, text: str | None = None) -> None:
        """Sends the client a packet, unless it is gone."""

    def finish(self, reason: int, text: str = "") -> None:
        """Sends the client away."""


class Publishing:
    """The publishing of one connection, from the time on at which it has its session."""

    __slots__ = ("_held", "_incoming", "_retained", "_sessions", "_telling", "_topics", "_version")

    def __init__(self, telling: Telling, sessions: Sessions, held: Held, topics: Topics, version: int) -> None:
        """`version` is 4 for MQTT 3.1.1, 5 for MQTT 5.0."""
        self._telling = telling
        self._sessions = sessions
        self._held = held
        self._topics = topics
        self._version = version
        self._incoming = Incoming()
        self._retained: dict[int, tuple[str, OutMessage]] = {}  # to be kept once they are written

    def publish(self, packet: Publish) -> None:
        """Takes a PUBLISH."""
        topic = self._incoming.topic(packet)
        if topic is None:
            self._telling.finish(reasons.TOPIC_ALIAS)
            return
        try:
            message = client_message(packet, self._held.received(packet.packet_id) if packet.qos == 2 else None)
        except ClientError as refused:
            self._answer(Owed(packet.packet_id, packet.qos, packet.retain), refused.info)
            return
        number = self._incoming.begin(packet)
        if number is None:
            self._telling.finish(reasons.RECEIVE_MAXIMUM)
            return
        channel = self._topics.channel(topic)
        self._telling.say(ClientFrame(Action.MESSAGE, channel=channel, msg_serial=number, messages=[message]))

    def writes(self, effect: Write) -> None:
        """The session has a publish written."""
        if self._incoming.retains(effect.msg_serial):
            self._retained[effect.msg_serial] = (effect.channel, effect.messages[0])

    def logged(self, number: int, result: Answer, then: Callable[[Answer], None]) -> None:
        """The log has answered: a message that it has is retained if it is to be, though its client may be gone by now.
        `then` is called with what became of it, perhaps before this returns.
        """
        retained = self._retained.pop(number, None)
        if retained is None or isinstance(result, ErrorInfo) or not result[0]:
            then(result)
        else:
            self._sessions.retain(*retained, result[0], lambda wrong: then(result if wrong is None else wrong))

    def written(self, number: int) -> None:
        """The log has a publish, and what is to be retained is."""
        owed = self._incoming.answered(number)
        if owed is not None:
            self._answer(owed, None)

    def refused(self, number: int, wrong: ErrorInfo) -> None:
        """The log has not got a publish, or not all that belongs to it."""
        owed = self._incoming.answered(number)
        if owed is not None:
            self._answer(owed, wrong)

    def release(self, packet_id: int) -> None:
        """Takes a PUBREL."""
        self._held.release(packet_id, partial(self._released, packet_id))

    def _answer(self, owed: Owed, wrong: ErrorInfo | None) -> None:
        if owed.qos == 0:
            if wrong is not None:
                log.debug("a message with QoS 0 was refused: %s", wrong.message)
            return
        if wrong is not None and self._version == 4:
            log.info("connection closed: %s (%d)", wrong.message, wrong.code)
            self._telling.finish(reasons.UNSPECIFIED)
            return
        if wrong is not None and owed.qos == 2:
            self._held.release(owed.packet_id, _unheard)
        if wrong is not None or owed.qos == 1:
            self._incoming.release(owed.packet_id)
        kind = PUBREC if owed.qos == 2 else PUBACK
        if wrong is None:
            self._telling.send(Ack(kind, owed.packet_id))
        else:
            self._telling.send(Ack(kind, owed.packet_id, reasons.puback(wrong)), wrong.message)

    def _released(self, packet_id: int, was_used: bool) -> None:
        self._incoming.release(packet_id)
        self._telling.send(Ack(PUBCOMP, packet_id, 0 if was_used else reasons.NOT_FOUND))


def _unheard(_was_used: bool) -> None:
    """Nobody waits for it: the client knows that it may use the identifier again."""
