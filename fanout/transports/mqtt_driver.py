"""What an MQTT client is told of its session: the session's answers as packets, and how a connection ends.

- What a subscription with QoS 1 is owed and cannot be given any more ends the connection, never passes in silence.
- Who is not let in is told by CONNACK, who is sent away by DISCONNECT; clients of MQTT 3.1.1 know no such packet of a
  server's.

Belongs to the event loop.
"""

import logging
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final

from fanout import packets
from fanout._core import MQTT, MQTT_FRAMED, mqtt_encode
from fanout.errors import ErrorInfo
from fanout.session.attach import WaitingAttach
from fanout.session.effects import Attach, Close, Detach, Effect, Reply, Retry, Watch
from fanout.session.effects import Publish as Write
from fanout.session.limits import Limits
from fanout.transports import mqtt_reasons as reasons
from fanout.transports.connections import Connections
from fanout.transports.driver import Driver
from fanout.transports.mqtt_deliveries import Deliveries
from fanout.transports.mqtt_keep_alive import KeepAlive
from fanout.transports.mqtt_ports import Held, Sessions
from fanout.transports.mqtt_publishing import Answer, Publishing
from fanout.transports.mqtt_topics import Topics
from fanout.transports.mqtt_waiting import Connection
from fanout.transports.waiting import Waiting
from fanout.wire import Action, ClientFrame

__all__ = ["NORMAL", "MqttDriver", "Shared", "Stage"]

log = logging.getLogger(__name__)

NORMAL: Final = 1000  # RFC 6455 §7.4.1
_Said = (
    packets.Connack
    | packets.Suback
    | packets.Unsuback
    | packets.Ack
    | packets.Publish
    | packets.Ping
    | packets.Disconnect
)
_TOO_MANY: Final = 90010
_TEXT_MAX: Final = 200  # of words for people


class Stage(Enum):
    """How far a connection is: CONNECT is awaited, the session is, nothing is, it is over."""

    NEW, OPENING, OPEN, OVER = range(4)


@dataclass(frozen=True, slots=True)
class Shared:
    """What the MQTT connections of a node have in common. `reference`: where clients are told to go on a drain."""

    connections: Connections
    sessions: Sessions
    topics: Topics
    limits: Limits
    waiting: Waiting[Connection]
    keep_alive: KeepAlive
    reference: str | None


class MqttDriver(Driver):
    """One connection, without what its client says."""

    __slots__ = (
        "_connect", "_deliveries", "_draining", "_held", "_lost", "_publishing", "_shared", "_stage", "_wrong",
    )  # fmt: skip

    def __init__(self, shared: Shared, *, framed: bool) -> None:
        """`framed`: its packets are in WebSocket messages."""
        super().__init__(shared.connections, None, MQTT + (MQTT_FRAMED if framed else 0))
        self._shared = shared
        self._stage = Stage.NEW
        self._connect: packets.Connect | None = None
        self._deliveries = Deliveries(shared.connections.engine, shared.topics, self)
        self._held: Held | None = None
        self._publishing: Publishing | None = None
        self._lost = True
        self._draining = False
        self._wrong: ErrorInfo | None = None

    def send(self, packet: _Said, text: str | None = None) -> None:
        """Says something, with words for people if the client wants any. What is larger than it takes is said with less
        beside it; a message that cannot be counts as said, and an answer that cannot be ends the connection
        (MQTT 5.0 §3.1.2.11.4).
        """
        connect = self._connect
        if connect is None or not self._handle:
            return
        moved = self._draining and isinstance(packet, packets.Disconnect)
        said = text[:_TEXT_MAX] if text and connect.wants_reasons else None
        reference = self._shared.reference if moved else None
        for words, where in ((said, reference), (None, reference), (None, None)):
            encoded = mqtt_encode(packet, connect.version, words, where)
            if len(encoded) <= (connect.packet_maximum or len(encoded)):
                self._node.engine.send(self._handle, encoded)
                return
        if not isinstance(packet, packets.Publish):
            self.finish(reasons.TOO_LARGE, "the client takes less than it has to be told")

    def finish(self, reason: int, text: str = "") -> None:
        """Sends the client away, or does not let it in; `text` is for people."""
        stage, self._stage = self._stage, Stage.OVER
        if stage is Stage.OVER:
            return
        self._cancel_timer()
        connect = self._connect
        if connect is not None and not self._handle:
            self._register("", heartbeats=False)
        try:
            if connect is not None and stage is not Stage.OPEN:
                self._lost = False  # whoever is not let in has left no will
                code = reason if connect.version == 5 else reasons.return_code(reason)
                self.send(packets.Connack(False, code), text)
            elif connect is not None and connect.version == 5:
                self.send(packets.Disconnect(reason), text)
        except Exception:  # whatever it was, who is sent away must go, and who took its place is not to suffer
            log.exception("a client could not be told why it is sent away")
        self.link.finish(NORMAL)

    def _publisher(self) -> Publishing:
        """What a client that only listens has not got."""
        if self._publishing is None:
            shared, connect, held = self._shared, self._connect, self._held
            assert connect is not None
            assert held is not None
            self._publishing = Publishing(self, shared.sessions, held, shared.topics, connect.version)
        return self._publishing

    # -- the session --

    def lost(self, attachment: int) -> None:
        """See `Driver`: goes on from where it was stopped, by way of the log, where that is known."""
        if not self._deliveries.go_on(attachment):
            super().lost(attachment)

    def drain(self) -> None:
        """See `Driver`. It is no loss: the client goes on elsewhere."""
        self._draining = True
        self._lost = False
        super().drain()

    def say(self, frame: ClientFrame) -> None:
        """Hands the session a frame."""
        session = self._session
        assert session is not None
        self._run(partial(session.receive, frame, self._node.clock()))

    def _perform(self, effect: Effect) -> None:
        if self._stage is Stage.OVER:
            return
        match effect:
            case Reply():
                self._told(effect.frame)
            case Attach():
                if not self._deliveries.placed(effect):
                    self.finish(reasons.CONTINUITY, "what comes next is no longer held")
            case Retry(unanswered=True, frame=WaitingAttach(spelling)):
                self._carry_out(effect)
                self._deliveries.waits(spelling)
            case Detach():
                self._deliveries.detach(effect.attachment)
                self._told(effect.frame)
            case Write():
                self._publisher().writes(effect)
                self._carry_out(effect)
            case Close():
                self._sent_away()
            case Watch():
                pass  # how many use a channel is told on other wires
            case _:
                self._carry_out(effect)

    def _answered(self, msg_serial: int, weight: int, result: Answer) -> None:
        """See `Driver`."""
        answered = partial(super()._answered, msg_serial, weight)
        self._publisher().logged(msg_serial, result, answered)

    def _told(self, frame: dict[str, Any]) -> None:
        """Says in MQTT what the session does."""
        match frame:
            case {"action": Action.ACK, "msgSerial": first, "res": answers}:
                for index in range(len(answers)):
                    self._publisher().written(first + index)
            case {"action": Action.NACK, "msgSerial": number, "error": wrong}:
                self._publisher().refused(number, _info(wrong))
            case {"action": Action.AUTH}:
                self.token_ends()
            case {"channel": spelling, "error": wrong}:
                if not self._deliveries.refused(spelling, _info(wrong)) and wrong["code"] == _TOO_MANY:
                    self.finish(reasons.QUOTA, wrong["message"])
            case {"error": wrong}:
                self._wrong = _info(wrong)

    def token_ends(self) -> None:
        """What the client was let in with is good for a short while only."""

    def _sent_away(self) -> None:
        wrong = self._wrong
        if wrong is None:
            self.finish(reasons.UNSPECIFIED)
        elif self._draining and self._shared.reference is not None:
            self.finish(reasons.MOVED, wrong.message)
        else:
            self._send_off(wrong)

    def _send_off(self, wrong: ErrorInfo) -> None:
        """Sends the client away by DISCONNECT, or does not let it in by CONNACK: they know different reason codes."""
        told = reasons.disconnect if self._stage is Stage.OPEN else reasons.connack
        self.finish(told(wrong), wrong.message)


def _info(wrong: dict[str, Any]) -> ErrorInfo:
    return ErrorInfo(wrong["code"], wrong["statusCode"], wrong["message"])
