"""What nodes say late of sessions: that others have gone on with them meanwhile is known, and kept."""

from collections.abc import Callable

import pytest

from fanout.control import Fact
from fanout.errors import SourceTimeout
from fanout.mqtt import service
from fanout.transports.mqtt_ports import Place, Subscription
from tests.unit.mqtt.bed import Client, FactLog, Node, settle, state_of

NewNode = Callable[[], Node]


async def test_what_a_frozen_node_writes_late_does_not_count(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LAST_WORD_S", 0.05)
    first, second, old, new = new_node(), new_node(), Client(), Client()
    await (await first.take(old)).subscribe([Subscription("a", 1)])
    first.is_deaf = True
    again = await second.take(new)
    new.stand(Place("a", "a", "a@9"))
    await again.subscribe([Subscription("b", 1)])
    first.is_deaf = False
    first.catch_up()
    await settle()
    assert old.ended is not None
    assert [one["filter"] for one in state_of(facts)["subscriptions"]] == ["a", "b"]  # also after compaction
    again.leave(expiry_s=None, lost=False)
    assert {one.filter for one in (await first.take(Client())).subscriptions} == {"a", "b"}


async def test_somebodys_late_word_about_a_name_is_answered(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    held = await node.take(Client())
    await held.subscribe([Subscription("a", 1)])
    node.control.tell("claim", '["app","alice"]', None)
    node.control.tell("state", '["app","alice"]', None)
    await settle()
    assert set(facts.newest()) == {'claim:["app","alice"]', 'state:["app","alice"]'}


async def test_somebodys_late_word_about_a_session_does_not_end_it_if_its_node_dies(
    facts: FactLog, new_node: NewNode
) -> None:
    first, second = new_node(), new_node()
    held = await second.take(Client())
    await held.subscribe([Subscription("a", 1)], [Place("a", "a", "a@0")])
    second.is_deaf = True  # it cannot answer
    first.control.tell("state", '["app","alice"]', None)
    await settle()
    first.gone.add("b")
    first.sessions.look_after()
    await settle()
    assert state_of(facts)["subscriptions"] == [{"filter": "a", "qos": 1}]  # also after compaction
    assert (await first.take(Client())).places == [Place("a", "a", "a@0", "a@3")]


@pytest.mark.parametrize("late", [None, {"generation": 1, "uid": "x", "expiry_s": 9, "ended_ms": 1}])
async def test_somebodys_late_word_about_a_session_without_a_connection_is_answered(
    facts: FactLog, new_node: NewNode, late: Fact
) -> None:
    first, second = new_node(), new_node()
    held = await second.take(Client())
    await held.subscribe([Subscription("a", 1)])
    held.leave(expiry_s=None, lost=False)
    await settle()
    before = state_of(facts)
    first.control.tell("state", '["app","alice"]', late)
    await settle()
    assert state_of(facts) == before
    assert (await first.take(Client())).present


async def test_a_session_that_is_taken_back_by_who_then_gives_up_its_name_is_over(
    facts: FactLog, new_node: NewNode
) -> None:
    node, other = new_node(), new_node()
    await other.take(Client())
    await settle()
    other.is_deaf = True
    for kind in ("state", "claim"):
        node.control.tell(kind, '["app","alice"]', None)
    await settle()
    assert node.sessions.counters()["sessions"] == 0
    assert not (await node.take(Client())).present


async def test_what_ends_a_session_is_taken_back_once_the_log_has_it(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    held = await node.take(Client())
    facts.failure = SourceTimeout("away")
    held.leave(expiry_s=0, lost=False)
    facts.failure = None
    written = len(facts.facts)
    node.sessions.save(1.0)
    await settle()
    assert [value is None for key, value in facts.facts[written:] if (key or b"").startswith(b"state")] == [False, True]
    assert facts.newest() == {}


async def test_a_late_word_does_not_hide_that_another_connection_went_on_with_the_session(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "LAST_WORD_S", 0.05)
    first, second, client = new_node(), new_node(), Client()
    held = await first.take(client)
    await held.subscribe([Subscription("a", 1)])
    client.stand(Place("a", "a", "a@0"))
    held.leave(expiry_s=None, lost=True)
    await settle()
    facts.slow = b"state:"
    await second.take(Client())  # it is given something, and freezes before that is written
    await settle()
    second.is_deaf = True
    first.control.tell("claim", '["app","alice"]', None)  # of the connection that it had, which the log took late
    await settle()
    assert (await first.take(Client())).places == [Place("a", "a", "a@0", "a@3")]
