"""What is delivered to an MQTT client when it subscribes to the same filter again."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from fanout.session.effects import Attach
from fanout.transports.mqtt_deliveries import Deliveries
from fanout.transports.mqtt_ports import Place, Subscription
from fanout.transports.mqtt_topics import Topics
from fanout.wire import ClientFrame

ONCE = Subscription("t", 1)


class Engine:
    """Says where the attachment stands, and remembers with what it was begun."""

    def __init__(self) -> None:
        self.stands: list[tuple[int, str, str | None]] = []
        self.begun: list[Any] = []

    def attach(self, connection: int, attachment: int, plan: Any, *_: Any, mqtt: Any, **_how: Any) -> None:
        self.begun.append(plan)

    def standing(self, connection: int, attachment: int | None = None) -> list[tuple[int, str, str | None]]:
        return self.stands


class Bed:
    """Deliveries of one connection that is subscribed to `t`; `asked` are the session's frames."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.engine = Engine()
        self.asked: list[ClientFrame] = []
        self.dup_until: list[str | None] = []
        monkeypatch.setattr(
            "fanout.transports.mqtt_deliveries.Mqtt", lambda **how: self.dup_until.append(how["dup_until"])
        )
        self.deliveries = Deliveries(self.engine, Topics(), self)
        self.deliveries.handle = 1
        self.subscribe(ONCE)
        self.begin()

    def say(self, frame: ClientFrame) -> None:
        self.asked.append(frame)

    def subscribe(self, subscription: Subscription) -> None:
        """As SUBSCRIBE does."""
        self.deliveries.subscriptions.add(subscription)
        if self.deliveries.is_begun("t"):
            self.deliveries.renew(subscription)
        else:
            self.deliveries.ask(subscription, "t", None)

    def begin(self) -> None:
        """The session's answer."""
        plan: Any = SimpleNamespace()
        spelling = self.deliveries.subscriptions.spelling("t", "t")
        assert self.deliveries.placed(Attach(7, plan, spelling, 1, True, False, None, {}))


@pytest.fixture
def bed(monkeypatch: pytest.MonkeyPatch) -> Bed:
    return Bed(monkeypatch)


@pytest.mark.parametrize("again", [ONCE, Subscription("t", 1, retain_handling=2)])
def test_what_is_to_be_given_as_before_is_not_touched(bed: Bed, again: Subscription) -> None:
    bed.engine.stands = [(7, "acknowledged", "given")]
    bed.subscribe(again)
    assert len(bed.asked) == len(bed.engine.begun) == 1


@pytest.mark.parametrize(
    ("again", "stands"),
    [(Subscription("t", 0), "given"), (Subscription("t", 1, no_local=True), "acknowledged")],
)
def test_what_is_to_be_given_otherwise_goes_on_from_where_it_stands(bed: Bed, again: Subscription, stands: str) -> None:
    bed.engine.stands = [(7, "acknowledged", "given")]
    bed.subscribe(again)
    assert bed.asked[-1].channel_serial == stands
    bed.engine.stands = [(7, "acknowledged", "given more")]  # while the log was asked
    bed.begin()
    assert bed.dup_until == [None, "given more"]


def test_what_was_all_acknowledged_while_the_log_was_asked_is_marked_too(bed: Bed) -> None:
    bed.engine.stands = [(7, "before", None)]
    bed.subscribe(Subscription("t", 1, identifier=2))
    bed.engine.stands = [(7, "behind", None)]
    bed.begin()
    assert bed.dup_until == [None, "behind"]


def test_of_what_nobody_knows_where_it_stands_the_newest_is_next(bed: Bed) -> None:
    bed.subscribe(Subscription("t", 0, identifier=2))
    assert bed.asked[-1].channel_serial is None


def test_what_is_yet_to_begin_is_known_by_where_it_is_to(bed: Bed) -> None:
    wild = Subscription("w/#", 1)
    bed.deliveries.subscriptions.add(wild)
    bed.deliveries.ask(wild, "w/a", "behind", "sent")
    to_begin = Place("w/#", "w/a", "behind", "sent")
    assert bed.deliveries.place("w/#", "w/a") == to_begin
    assert bed.deliveries.places() == [to_begin]
    bed.deliveries.kept = True
    bed.deliveries.end()
    assert bed.deliveries.places() == [to_begin]


async def test_nobody_waits_for_a_channel_of_which_the_log_cannot_be_asked_and_it_begins_by_itself(bed: Bed) -> None:
    other = Subscription("u", 1)
    bed.deliveries.subscriptions.add(other)
    spelling = bed.deliveries.subscriptions.spelling("u", "u")
    finding = asyncio.ensure_future(bed.deliveries.find(other, "u", Place("u", "u", "acknowledged", "given")))
    await asyncio.sleep(0)
    assert bed.asked[-1].channel_serial == "acknowledged"
    bed.deliveries.waits(spelling)
    assert await finding is None
    bed.deliveries.waits(spelling)  # and again
    bed.deliveries.ask(other, "u", None)  # subscribed to once more
    plan: Any = SimpleNamespace()
    effect = Attach(8, plan, spelling, 1, True, False, None, {})
    bed.deliveries.handle = 0
    assert bed.deliveries.placed(effect)
    assert len(bed.engine.begun) == 1, "CONNECT is not answered"
    bed.deliveries.handle = 1
    for early in bed.deliveries.early():
        assert bed.deliveries.placed(early)
    assert bed.dup_until == [None, "given"]
    assert not bed.deliveries.early()
