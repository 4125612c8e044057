"""Packet identifiers of QoS 2: one message has one id, wherever it is sent again, and two have two."""

from collections.abc import Callable

import pytest

from fanout.errors import SourceTimeout
from fanout.mqtt import held as held_module
from fanout.mqtt import left_behind, releases
from fanout.mqtt.held import Held
from fanout.transports.mqtt_ports import Name
from tests.unit.mqtt.bed import Client, FactLog, Node, settle

NewNode = Callable[[], Node]


def release(held: Held, packet_id: int) -> list[bool]:
    answers: list[bool] = []
    held.release(packet_id, answers.append)
    return answers


@pytest.mark.parametrize("expiry_s", [0, 60])
async def test_an_identifier_names_one_message_until_it_is_released(new_node: NewNode, expiry_s: int) -> None:
    held = await new_node().take(Client(), expiry_s=expiry_s)
    ids = [held.received(1), held.received(2)]
    assert ids == [held.received(1), held.received(2)]
    assert release(held, 1) == [True]
    ids += [held.received(1)]
    assert release(held, 1) == [True]
    ids += [held.received(1)]
    assert len(set(ids)) == 4


@pytest.mark.parametrize("expiry_s", [0, 60])
async def test_what_was_not_in_use_is_said_and_not_written(facts: FactLog, new_node: NewNode, expiry_s: int) -> None:
    held = await new_node().take(Client(), expiry_s=expiry_s)
    assert release(held, 9) == [False]
    await settle()
    assert [key for key in facts.newest() if key.startswith("release")] == []


async def test_another_node_makes_the_same_id_before_and_after_a_release(facts: FactLog, new_node: NewNode) -> None:
    first, second = new_node(), new_node()
    held = await first.take(Client())
    before = held.received(1)
    first.is_deaf = True  # and dies without a word
    second.gone.add("a")
    held = await second.take(Client())
    assert held.received(1) == before
    assert release(held, 1) == [True]
    after = held.received(1)
    held.leave(expiry_s=None, lost=True)
    third = new_node()
    held = await third.take(Client())
    assert held.received(1) == after != before
    assert release(held, 7) == [True]  # it may have been in use elsewhere


async def test_of_identifiers_that_nobody_knows_no_more_are_released_than_may_be_in_use(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_module, "RECEIVE_MAXIMUM", 3)
    node = new_node()
    (await node.take(Client())).leave(expiry_s=None, lost=True)
    held = await node.take(Client())
    held.received(9)
    assert [release(held, packet_id) for packet_id in range(1, 6)] == [[True]] * 3 + [[False]] * 2
    assert release(held, 9) == [True]
    await settle()
    assert len([key for key in facts.newest() if key.startswith("release")]) == 4


async def test_pubcomp_waits_for_the_log(facts: FactLog, new_node: NewNode) -> None:
    client = Client()
    held = await new_node().take(client)
    held.received(1)
    facts.failure = SourceTimeout("away")
    assert release(held, 1) == []
    assert client.ended is not None
    assert client.ended.code == 50003


async def test_two_clean_sessions_share_no_ids(new_node: NewNode) -> None:
    node = new_node()
    held = [await node.take(Client(), clean=True, expiry_s=0) for _ in range(2)]
    assert held[0].received(1) != held[1].received(1)


async def test_a_release_is_forgotten_once_no_repeat_is_possible(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    held = await node.take(Client())
    for packet_id in (1, 2):
        held.received(packet_id)
        release(held, packet_id)
    held.received(2)  # in use again: what would be sent again must have the same id
    node.now_ms += releases.KEPT_MS + 1
    node.sessions.look_after()
    await settle()
    assert [key for key in facts.newest() if key.startswith("release")] == ['release:["app","alice"] 2']


async def test_a_session_that_is_over_leaves_no_releases(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    held = await node.take(Client())
    held.received(1)
    release(held, 1)
    await settle()
    held.leave(expiry_s=0, lost=False)
    await settle()
    node.sessions.look_after()
    await settle()
    assert facts.newest() == {}
    assert len(node.sessions.releases) == 0


async def test_what_may_not_be_forgotten_yet_keeps_nothing_else(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(left_behind, "RELEASES_SLICE", 1)
    node = new_node()
    first, second = await node.take(Client()), await node.take(Client(), Name("app", "bob"))
    for held in (first, second):
        held.received(1)
        release(held, 1)
    first.received(1)
    node.now_ms += releases.KEPT_MS + 1
    for _ in range(2):
        node.sessions.look_after()
        await settle()
    assert [key for key in facts.newest() if key.startswith("release")] == ['release:["app","alice"] 1']


async def test_there_is_a_most_of_releases(facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(releases, "RELEASES_MAX", 30)
    node = new_node()
    quiet, busy = await node.take(Client(), Name("app", "quiet")), await node.take(Client())
    quiet.received(1)
    release(quiet, 1)
    of_quiet = quiet.received(1)
    given = {busy.received(packet_id) for packet_id in range(1, 101)}
    most = 0
    for packet_id in range(1, 101):
        release(busy, packet_id)
        await settle()
        most = max(most, len(node.sessions.releases))
    assert most == 30
    kept = [key for key in facts.newest() if key.startswith("release")]
    assert len(kept) <= 30
    given |= {busy.received(packet_id) for packet_id in range(1, 101)}
    assert len(given) == 200  # at once, and all others than before
    for held in (quiet, busy):
        held.leave(expiry_s=None, lost=True)
    await settle()
    later = new_node()
    await settle()
    quiet, busy = await later.take(Client(), Name("app", "quiet")), await later.take(Client())
    assert quiet.received(1) == of_quiet  # another one's releases are no burden to it
    assert {busy.received(packet_id) for packet_id in range(1, 101)} <= given


async def test_room_is_made_again_when_the_log_is_back(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = new_node()
    held = await node.take(Client())
    before = [held.received(packet_id) for packet_id in range(1, 6)]
    for packet_id in range(1, 6):
        release(held, packet_id)
    await settle()
    monkeypatch.setattr(releases, "RELEASES_MAX", 3)
    facts.failure = SourceTimeout("away")
    node.sessions.look_after()
    await settle()
    assert len(node.sessions.releases) == 5
    facts.failure = None
    node.sessions.look_after()
    await settle()
    assert len(node.sessions.releases) <= 3
    assert not set(before) & {held.received(packet_id) for packet_id in range(1, 6)}
