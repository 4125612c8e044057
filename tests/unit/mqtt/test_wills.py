"""Wills: published for clients that are lost, by whichever node sees it, once."""

import asyncio
from collections.abc import Callable

import pytest

from fanout.errors import error
from fanout.mqtt import wills
from fanout.transports.mqtt_ports import Name, Subscription, Will
from fanout.types import OutMessage
from tests.support.sources import eventually
from tests.unit.mqtt.bed import ALICE, EVERYBODY, Client, FactLog, Node, settle

NewNode = Callable[[], Node]
LAST = OutMessage("life:will", b"gone", client_id="alice")
WILL = Will("status", LAST)


async def test_a_lost_clients_will_is_published_and_forgotten(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    held = await node.take(Client(), expiry_s=0, will=WILL)
    held.leave(expiry_s=None, lost=True)
    await settle()
    assert node.published == [("status", LAST)]
    assert facts.newest() == {}


async def test_a_client_that_says_goodbye_has_no_will(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    (await node.take(Client(), expiry_s=0, will=WILL)).leave(expiry_s=None, lost=False)
    await settle()
    assert node.published == []
    assert facts.newest() == {}


async def test_a_will_waits_for_its_delay_and_no_longer_than_the_session(new_node: NewNode) -> None:
    node = new_node()
    delayed = Will("status", LAST, delay_s=60)
    (await node.take(Client(), expiry_s=0, will=delayed)).leave(expiry_s=None, lost=True)
    assert len(node.published) == 1
    (await node.take(Client(), expiry_s=3_600, will=delayed)).leave(expiry_s=None, lost=True)
    await settle()
    assert len(node.published) == 1
    node.sessions.wills.hurry(ALICE)
    assert len(node.published) == 2


async def test_a_client_that_is_back_in_time_has_no_will(facts: FactLog, new_node: NewNode) -> None:
    first, second = new_node(), new_node()
    delayed = Will("status", LAST, delay_s=60)
    (await first.take(Client(), will=delayed)).leave(expiry_s=None, lost=True)
    await settle()
    assert len(first.sessions.wills) == 1
    await second.take(Client())
    await settle()
    assert len(first.sessions.wills) == 0
    assert first.published == second.published == []


async def test_who_begins_anew_ends_the_session_and_so_the_delay(new_node: NewNode) -> None:
    first, second = new_node(), new_node()
    (await first.take(Client(), will=Will("status", LAST, delay_s=60))).leave(expiry_s=None, lost=True)
    await second.take(Client(), clean=True)
    await settle()
    assert first.published == [("status", LAST)]


@pytest.mark.parametrize(("delay_s", "published"), [(0, 1), (60, 0)])
async def test_a_client_that_connects_again_elsewhere_was_lost(new_node: NewNode, delay_s: int, published: int) -> None:
    first, second = new_node(), new_node()
    await first.take(Client(), will=Will("status", LAST, delay_s=delay_s))
    await second.take(Client())
    await settle()
    assert len(first.published) == published


async def test_a_dead_nodes_wills_are_published_by_another(facts: FactLog, new_node: NewNode) -> None:
    first, second = new_node(), new_node()
    held = await first.take(Client(), expiry_s=0, will=WILL)
    await held.subscribe([Subscription("a", 0)])
    first.is_deaf = True
    second.sessions.look_after()
    await settle()
    assert second.published == []
    second.gone.add("a")
    for _ in range(2):
        second.sessions.look_after()
        await settle()
    assert second.published == [("status", LAST)]
    assert facts.newest() == {}


async def test_of_a_dead_node_a_will_under_way_keeps_its_delay(facts: FactLog, new_node: NewNode) -> None:
    first, second = new_node(), new_node()
    (await first.take(Client(), will=Will("status", LAST, delay_s=60))).leave(expiry_s=None, lost=True)
    await settle()
    first.sessions.wills.close()  # it stops
    second.gone.add("a")
    second.now_ms += 30_000
    second.sessions.look_after()
    await settle()
    assert ALICE in second.sessions.wills
    second.sessions.wills.close()
    second.now_ms += 30_000
    second.sessions.look_after()
    assert second.published == [("status", LAST)]


async def test_a_will_that_the_log_does_not_take_is_tried_again(
    new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wills, "AGAIN_S", 0.01)
    node = new_node()
    node.refusal = error(50003)
    (await node.take(Client(), expiry_s=0, will=WILL)).leave(expiry_s=None, lost=True)
    await asyncio.sleep(0.03)
    assert len(node.sessions.wills) == 1
    node.refusal = None
    await eventually(lambda: node.published)
    assert node.published == [("status", LAST)]
    assert len(node.sessions.wills) == 0


@pytest.mark.parametrize("code", [40009, 40013, 40160])
async def test_a_will_that_is_refused_for_good_is_counted_and_forgotten(
    facts: FactLog, new_node: NewNode, code: int
) -> None:
    node = new_node()
    node.refusal = error(code)
    (await node.take(Client(), expiry_s=0, will=WILL)).leave(expiry_s=None, lost=True)
    await settle()
    assert (node.sessions.counters()["wills_refused"], len(node.sessions.wills)) == (1, 0)
    assert facts.newest() == {}


async def test_with_the_log_away_a_name_has_one_will_that_is_tried_again(
    new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wills, "AGAIN_S", 0.01)
    first, second = new_node(), new_node()
    await first.take(Client(), expiry_s=0, will=WILL)
    first.is_deaf = True
    second.gone.add("a")
    second.refusal = error(50003)
    for _ in range(3):
        second.sessions.look_after()
        await settle()
    assert len(second.sessions.wills) == 1
    second.refusal = None
    await eventually(lambda: second.published)
    assert second.published == [("status", LAST)]


async def test_a_will_that_is_tried_again_leaves_a_later_one_its_delay(
    new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wills, "AGAIN_S", 0.01)
    node = new_node()
    node.refusal = error(50003)
    (await node.take(Client(), will=WILL)).leave(expiry_s=None, lost=True)
    node.refusal = None
    (await node.take(Client(), will=Will("later", LAST, delay_s=60))).leave(expiry_s=None, lost=True)
    await eventually(lambda: node.published)
    assert node.published == [("status", LAST)]
    assert ALICE in node.sessions.wills


async def test_of_many_wills_that_the_log_did_not_take_a_few_are_tried_at_once(
    new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wills, "AGAIN_S", 0.01)
    node, most = new_node(), wills.AT_ONCE
    node.refusal = error(50003)
    for number in range(2 * most + 1):
        node.sessions.wills.lost(Name("app", str(number)), WILL, 0.0, lambda: None)
    node.refusal = None
    counts = [0]
    while counts[-1] < 2 * most + 1:
        await asyncio.sleep(0)
        if len(node.published) != counts[-1]:
            counts.append(len(node.published))
    assert counts == [0, most, 2 * most, 2 * most + 1]


async def test_one_that_fails_keeps_no_other_from_being_tried_again(
    new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wills, "AGAIN_S", 0.01)
    node, done = new_node(), list[str]()
    node.refusal = error(50003)

    def fail() -> None:
        raise OverflowError

    node.sessions.wills.lost(Name("app", "broken"), WILL, 0.0, fail)
    node.sessions.wills.lost(Name("app", "other"), WILL, 0.0, lambda: done.append("other"))
    node.refusal = None
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: None)
    await eventually(lambda: done)
    assert done == ["other"]


async def test_a_will_may_be_retained(new_node: NewNode) -> None:
    node = new_node()
    will = Will("status", LAST, retain=True)
    (await node.take(Client(), expiry_s=0, will=will)).leave(expiry_s=None, lost=True)
    await settle()
    assert await node.sessions.retained(Client(EVERYBODY), Subscription("status", 0)) == [("status", LAST)]
