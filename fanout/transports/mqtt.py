"""One MQTT client (MQTT 5.0, MQTT 3.1.1): its packets become a session's frames, and the session's answers packets.

- CONNECT comes first, within 5 s, and is answered when the client's session is there and stands where it stood, but for
  channels of which the log cannot be asked now.
- SUBSCRIBE and UNSUBSCRIBE are answered when the session is kept with them; nothing else is heard meanwhile.
- PUBACK and PUBREC are said when the log has the message. One that it refuses is told by a reason code; clients of
  MQTT 3.1.1 know none, and are disconnected.
- Who says nothing for one and a half of the keep-alive time that it promised is disconnected.

What is delivered never passes through here. Belongs to the event loop.
"""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Final

from fanout import packets
from fanout._core import MQTT_V5, MqttReader
from fanout.auth.credentials import KeysAwaited
from fanout.errors import ClientError, ErrorInfo
from fanout.transports import mqtt_reasons as reasons
from fanout.transports.mqtt_deliveries import DELIVERIES_MAX
from fanout.transports.mqtt_driver import NORMAL, MqttDriver, Shared, Stage
from fanout.transports.mqtt_opening import (
    connection_id_of,
    credentials,
    new_client_id,
    remembered,
    session_name,
    will_of,
)
from fanout.transports.mqtt_ports import Held, Place, Subscription
from fanout.transports.mqtt_publishes import ALIASES_MAX, RECEIVE_MAXIMUM
from fanout.transports.mqtt_subscribing import TOKEN_EVENTS, Subscribing
from fanout.transports.mqtt_waiting import SECONDS
from fanout.transports.turns import BRIEF_BYTES
from fanout.types import Identity
from fanout.wire import Action, ClientFrame

__all__ = ["PACKET_BYTES", "MqttClient"]

log = logging.getLogger(__name__)

PACKET_BYTES: Final = 128 << 10
"""The largest packet that is taken: a message of the largest size, and what stands around it."""

_FOREVER: Final = 0xFFFF_FFFF  # seconds, MQTT 5.0 §3.1.2.11.2
_ONLY_BINARY: Final = 1003  # RFC 6455 §7.4.1
_TOLD: Final = (reasons.VERSION, reasons.TOPIC)  # faults of a CONNECT that can be read


class MqttClient(MqttDriver):
    """The driver of one connection, and its sessions' `fanout.transports.mqtt_ports.Client`."""

    __slots__ = (
        "_expiry_s", "_idle_s", "_last", "_reader", "_subscribing", "_task", "acknowledged",
    )  # fmt: skip

    def __init__(self, shared: Shared, *, framed: bool) -> None:
        """`framed`: its packets are in WebSocket messages."""
        super().__init__(shared, framed=framed)
        self._reader = MqttReader(PACKET_BYTES)
        self._subscribing: Subscribing | None = None
        self._task: asyncio.Task[None] | None = None
        self._expiry_s: int | None = None
        self._last = self._idle_s = 0.0
        self.acknowledged = 0
        """See `fanout.transports.mqtt_ports.Client`."""

    # -- what the link reports --

    def connected(self) -> None:
        """The connection is there: its CONNECT is awaited."""
        self._shared.waiting.enter(self)
        self._timer = asyncio.get_running_loop().call_later(SECONDS, self.cut)

    def message(self, payload: bytes, is_text: bool) -> None:
        """A WebSocket message has come (MQTT 5.0 §6)."""
        if not is_text:
            self.feed(payload)
            return
        self._stage = Stage.OVER
        if not self._handle:
            self._register("", heartbeats=False)
        self.link.finish(_ONLY_BINARY)

    def feed(self, data: bytes) -> None:
        """Bytes have come."""
        self._reader.feed(data)
        self._hear()
        if self._stage in (Stage.NEW, Stage.OPENING):
            self._shared.waiting.holds(self, self._reader.held)

    def may_speak(self, *, brief: bool) -> bool:
        """See `Driver`. A WebSocket's frame may hold any part of packets, which are asked for one by one in `_hear`."""
        return True

    def leaving(self) -> None:
        """See `Driver`: where the client stands is known a last time."""
        self._deliveries.end()

    def disconnected(self) -> None:
        """See `Driver`."""
        self._stage = Stage.OVER
        self._shared.waiting.leave(self)
        if self._task is not None:
            self._task.cancel()
        if self._session is not None:
            self._session.receive(ClientFrame(Action.CLOSE), self._node.clock())  # what goes on is the MQTT session
        super().disconnected()
        if self._held is not None:
            self._held.leave(expiry_s=self._expiry_s, lost=self._lost)

    # -- what the sessions ask --

    @property
    def identity(self) -> Identity:
        """See `fanout.transports.mqtt_ports.Client`."""
        assert self._session is not None
        return self._session.identity

    def attach(self, subscription: Subscription, topic: str, position: str, sent: str = "") -> None:
        """See `fanout.transports.mqtt_ports.Client`."""
        if subscription.filter in self._deliveries.subscriptions:
            self._deliveries.ask(subscription, topic, position, sent)

    def place(self, filter: str, topic: str) -> Place | None:  # noqa: A002  the specification's word
        """See `fanout.transports.mqtt_ports.Client`."""
        return self._deliveries.place(filter, topic) if filter in self._deliveries.subscriptions else None

    def places(self) -> Sequence[Place]:
        """See `fanout.transports.mqtt_ports.Client`."""
        return self._deliveries.places()

    def end(self, reason: ErrorInfo) -> None:
        """See `fanout.transports.mqtt_ports.Client`."""
        self._send_off(reason)

    # -- packets --

    def hear_on(self) -> None:
        """See `Driver`."""
        self._hear()
        if not self._paused:
            super().hear_on()

    def _hear(self) -> None:
        """Takes the packets that are there, unless others have their turn or an answer is awaited."""
        while self._stage in (Stage.NEW, Stage.OPEN) and not self._paused and (said := self._reader.held):
            if self._stage is Stage.OPEN and not super().may_speak(brief=said <= BRIEF_BYTES):
                return
            packet = self._reader.take()
            if packet is None:
                return
            self._last = asyncio.get_running_loop().time()
            try:
                self._take(packet)
            except Exception:
                log.exception("a packet could not be dealt with")
                self.cut()

    def _take(self, packet: packets.Packet) -> None:
        match packet:
            case packets.Publish():
                self._publisher().publish(packet)
            case packets.Ack(packets.PUBACK, packet_id):
                self.acknowledged += 1
                self._node.engine.acked(self._handle, packet_id)
                if self._subscribing is not None:
                    self._subscribing.acknowledged()
            case packets.Ack(packets.PUBREL, packet_id):
                self._publisher().release(packet_id)
            case packets.Ack(packets.PUBREC, packet_id, reason) if reason < reasons.UNSPECIFIED:  # nothing has QoS 2
                self.send(packets.Ack(packets.PUBREL, packet_id, reasons.NOT_FOUND))
            case packets.Ack():
                pass
            case packets.Ping():
                self.send(packet)
            case packets.Subscribe():
                self._while_deaf(self._subscribe(packet))
            case packets.Unsubscribe():
                self._while_deaf(self._unsubscribe(packet))
            case packets.Connect():
                self._begin_with(packet)
            case packets.Disconnect():
                self._leave(packet)
            case packets.Fault(reason, text):
                if self._connect is None:
                    self._connect = self._unread(reason)
                self.finish(reason, text)
            case _:
                self.finish(reasons.PROTOCOL, "AUTH without an authentication method")

    def _leave(self, packet: packets.Disconnect) -> None:
        """The client goes, and says how (MQTT 5.0 §3.14)."""
        connect = self._connect
        assert connect is not None
        if packet.session_expiry and not connect.session_expiry:
            self.finish(reasons.PROTOCOL, "a session that was to end is to be kept")
            return
        self._expiry_s = packet.session_expiry
        self._lost = packet.reason != 0  # another reason than that all is well is no farewell (§3.14.4)
        self._stage = Stage.OVER
        self.link.finish(NORMAL)

    def _unread(self, reason: int) -> packets.Connect | None:
        """A CONNECT with a fault in it, if its client is told so by CONNACK: one that can be read. Whoever cannot say
        CONNECT is told nothing (MQTT 3.1.1 §3.1.4; MQTT 5.0 §4.13.1 allows it).
        """
        if reason not in _TOLD:
            return None
        return remembered(self._reader.version or 4, wants_reasons=False, kept=False, packet_maximum=0)

    # -- the beginning --

    def _begin_with(self, connect: packets.Connect) -> None:
        self._cancel_timer()
        self._connect = connect
        self._stage = Stage.OPENING
        if connect.version == 5:
            self.wire += MQTT_V5
        if connect.authenticates:
            self.finish(reasons.BAD_AUTHENTICATION, "there is no authentication beside a key or a token")
        elif connect.version == 4 and not connect.client_id and not connect.clean:
            self.finish(reasons.CLIENT_ID)
        else:
            super().connected()

    def open(self) -> None:
        """Lets the client in, or refuses it; or waits until it can be said who it is."""
        self._cancel_timer()
        connect = self._connect
        assert connect is not None
        self.link.pause()
        try:
            session = self._session = self._node.open_session(credentials(connect), None, self._node.clock())
            session.deliver = self._deliver
            session.allow(DELIVERIES_MAX)
            name = session_name(session, connect.client_id or new_client_id())
            session.connection_id = connection_id_of(name)
            will = will_of(connect, session, self._shared.topics, self._shared.limits)
        except KeysAwaited as awaited:
            self._node.hold_until(awaited.done, self)
            return
        except ClientError as refused:
            self.finish(reasons.connack(refused.info), refused.info.message)
            return
        if session.identity.expires is not None:
            self._node.terms.begin(self, session.identity)
        self._run(session.open)
        asked = _FOREVER if connect.version == 4 and not connect.clean else connect.session_expiry or 0
        taking = self._shared.sessions.take(name, self, clean=connect.clean, expiry_s=asked, will=will)
        self._task = asyncio.get_running_loop().create_task(self._let_in(taking, connect, name.client_id, asked))

    async def _let_in(
        self, taking: Coroutine[Any, Any, Held], connect: packets.Connect, client_id: str, asked_s: int
    ) -> None:
        session, engine = self._session, self._node.engine
        assert session is not None
        try:
            held = self._held = await taking
            self._deliveries.kept = held.expiry_s > 0
            subscribing = self._subscribing = Subscribing(
                engine, self, self._shared.sessions, held, self._deliveries, connect, session.connection_id
            )
            present = held.present and await subscribing.resume()
        except ClientError as refused:
            self.finish(reasons.connack(refused.info), refused.info.message)
            return
        except Exception:
            log.exception("a session could not be begun")
            self.cut()
            return
        if self._stage is not Stage.OPENING:
            return
        self._task = None
        self._shared.waiting.leave(self)
        self._register(session.connection_id, heartbeats=False)
        self._deliveries.handle = self._handle
        engine.window(self._handle, connect.receive_maximum, connect.packet_maximum)
        self.send(
            packets.Connack(
                present,
                0,
                session_expiry=None if held.expiry_s == asked_s else held.expiry_s,
                receive_maximum=RECEIVE_MAXIMUM,
                packet_maximum=PACKET_BYTES,
                client_id=None if connect.client_id else client_id,
                alias_maximum=ALIASES_MAX,
                no_wildcards=not self._shared.sessions.wildcards,
                no_shared=True,
            )
        )
        if self._stage is not Stage.OPENING:
            return
        self._stage = Stage.OPEN
        self._connect = remembered(
            connect.version,
            wants_reasons=connect.wants_reasons,
            kept=bool(connect.session_expiry),
            packet_maximum=connect.packet_maximum,
        )
        subscribing.go_on()
        for effect in self._deliveries.early():
            self._perform(effect)
        if connect.keep_alive:
            self._idle_s = connect.keep_alive * 1.5
            self._shared.keep_alive.watch(self._handle, self._last + self._idle_s)
        self._hear()
        if not self._paused:
            self.link.resume()

    def silent_from(self, now: float) -> float:
        """See `fanout.transports.mqtt_keep_alive.Promising`. One that is not heard just now cannot keep its promise."""
        if self._stage is not Stage.OPEN:
            return now + self._idle_s
        return (now if self._paused else self._last) + self._idle_s

    def silent(self) -> None:
        """See `fanout.transports.mqtt_keep_alive.Promising`."""
        self.finish(reasons.KEEP_ALIVE, "nothing was heard for too long")

    # -- subscribing --

    def _while_deaf(self, work: Coroutine[Any, Any, None]) -> None:
        """Hears nothing else until that is done."""
        weight = self._begin_alone()

        async def run() -> None:
            try:
                await work
            except Exception:
                log.exception("a subscription could not be dealt with")
                self.cut()
            finally:
                self._task = None
                self._end(weight)

        self._task = asyncio.get_running_loop().create_task(run())

    async def _subscribe(self, packet: packets.Subscribe) -> None:
        assert self._subscribing is not None
        assert self._connect is not None
        told, begin = await self._subscribing.subscribe(packet)
        if self._connect.version == 4:
            told = tuple(min(reason, reasons.UNSPECIFIED) for reason in told)
        self.send(packets.Suback(packet.packet_id, told))
        begin()

    def token_ends(self) -> None:
        """See `MqttDriver`. A client cannot show another token without connecting again."""
        if self._subscribing is not None and self._subscribing.token_events:
            warning = packets.Publish(TOKEN_EVENTS, b"expirywarning", 0, False, False, 0, 0, packets.Properties(True))
            self.send(warning)

    async def _unsubscribe(self, packet: packets.Unsubscribe) -> None:
        assert self._subscribing is not None
        self.send(packets.Unsuback(packet.packet_id, await self._subscribing.unsubscribe(packet)))
