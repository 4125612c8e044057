"""A client in conversation with a session: frames in as a client writes them, effects out by kind."""

from dataclasses import dataclass
from typing import Any

import orjson

from fanout.auth.capabilities import EVERYTHING
from fanout.errors import ErrorInfo
from fanout.session.attach import WaitingAttach
from fanout.session.effects import Attach, Close, Detach, Effect, Publish, Replay, Reply, Retry
from fanout.session.limits import Limits
from fanout.session.params import ConnectParams
from fanout.session.ports import Outcome
from fanout.session.resume import ConnectionState
from fanout.session.session import Session
from fanout.types import Identity
from fanout.wire import JSON, ClientFrame, decode

CONNECTION_ID = "abcdefghijklmnop"

CONNECTED, ATTACH, DETACH, MESSAGE = 4, 10, 12, 15


@dataclass(frozen=True)
class FakePlan:
    outcome: int = Outcome.FRESH
    serial: str = "here"
    backlog: int = 0
    has_presence: bool = False

    @property
    def first(self) -> str:
        return self.serial


class FakeChannels:
    """Answers `locate` from a list of plans, the last of them for ever, and writes down what it was asked."""

    def __init__(self, *plans: FakePlan) -> None:
        self.plans = list(plans) or [FakePlan()]
        self.asked: list[tuple[str, str | None, int, int]] = []

    def locate(self, channel: str, serial: str | None, rewind_count: int, rewind_ms: int, now_ms: int, /) -> FakePlan:
        self.asked.append((channel, serial, rewind_count, rewind_ms))
        return self.plans.pop(0) if len(self.plans) > 1 else self.plans[0]

    def filter(self, expression: str, /) -> str:
        """Any text that does not end in the middle stands for a filter."""
        if expression.endswith("=="):
            raise ValueError("it is not JMESPath")
        return expression


class Conversation:
    """One transport of a client, and everything its session asked the driver to do, in order."""

    def __init__(
        self,
        *plans: FakePlan,
        client_id: str | None = "*",
        capability: dict[str, list[str]] | None = None,
        limits: Limits | None = None,
        state: ConnectionState | None = None,
        wire: int = JSON,
        echo: bool = True,
    ) -> None:
        self.channels = FakeChannels(*plans)
        rights = {name: frozenset(operations) for name, operations in (capability or {}).items()}
        limits = limits or Limits()
        self.state = state or ConnectionState(CONNECTION_ID, limits)
        self.effects: list[Effect] = []
        self.now_ms = 1_000_000
        self.session = Session(
            identity=Identity("app.key", client_id, rights or EVERYTHING),
            params=ConnectParams(version=5, wire=wire, echo=echo),
            channels=self.channels,
            state=self.state,
            greeting={"action": CONNECTED},
            limits=limits,
        )
        self.session.deliver = self.effects.extend

    def say(self, **fields: Any) -> list[Effect]:
        """The client sends a frame with these fields; returns what came of it alone."""
        return self.hand(decode(orjson.dumps(fields), JSON))

    def hand(self, frame: ClientFrame | WaitingAttach) -> list[Effect]:
        """Hands the session a frame, or what a `Retry` gave."""
        return self._did(self.session.receive(frame, self.now_ms))

    def replay(self, asked: Replay, answer: FakePlan | ErrorInfo | None) -> list[Effect]:
        """The log answers a `Replay`."""
        return self._did(self.session.replayed(asked.attach, answer, self.now_ms))

    def attach(self, channel: str = "news", **fields: Any) -> list[Effect]:
        return self.say(action=ATTACH, channel=channel, **fields)

    def publish(self, msg_serial: int, *messages: dict[str, Any], channel: str = "news", **fields: Any) -> list[Effect]:
        """Publishes these messages, or one with some data where none are given."""
        sent = list(messages) or [{"data": "hello"}]
        return self.say(action=MESSAGE, channel=channel, msgSerial=msg_serial, messages=sent, **fields)

    def confirm(self, msg_serial: int, *serials: str) -> list[Effect]:
        """The log confirms a publish."""
        return self._did(self.session.published(msg_serial, serials or (f"s{msg_serial}",)))

    def _did(self, effects: list[Effect]) -> list[Effect]:
        self.effects.extend(effects)
        return effects

    @property
    def published(self) -> list[Publish]:
        return [effect for effect in self.effects if isinstance(effect, Publish)]

    @property
    def replies(self) -> list[dict[str, Any]]:
        return frames(self.effects)


def frames(effects: list[Effect]) -> list[dict[str, Any]]:
    """The protocol messages among effects, as the client reads them."""
    found = [effect.frame for effect in effects if isinstance(effect, Reply | Attach | Detach)]
    return [orjson.loads(orjson.dumps(frame)) for frame in found]


def only_frame(effects: list[Effect]) -> dict[str, Any]:
    """The one protocol message among effects."""
    (frame,) = frames(effects)
    return frame


def only_attach(effects: list[Effect]) -> Attach:
    (effect,) = effects
    assert isinstance(effect, Attach)
    return effect


def only_retry(effects: list[Effect]) -> Retry:
    (effect,) = effects
    assert isinstance(effect, Retry)
    return effect


def only_replay(effects: list[Effect]) -> Replay:
    (effect,) = effects
    assert isinstance(effect, Replay)
    return effect


def only_close(effects: list[Effect]) -> Close:
    (effect,) = [effect for effect in effects if isinstance(effect, Close)]
    return effect


def error_code(frame: dict[str, Any]) -> tuple[int, int]:
    """Number and status of the error in a protocol message."""
    return frame["error"]["code"], frame["error"]["statusCode"]
