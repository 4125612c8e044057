"""Retained messages: the last one of a channel, on every node, for whoever may have it."""

import asyncio
from collections.abc import Callable

import orjson
import pytest

from fanout.errors import ErrorInfo, SourceTimeout
from fanout.mqtt import retained
from fanout.transports.mqtt_ports import Subscription
from fanout.types import Identity, OutMessage
from tests.unit.mqtt.bed import EVERYBODY, Client, FactLog, Node, settle

NewNode = Callable[[], Node]
SERIALS = [f"{number:010}-0" for number in range(10)]


def message(text: str | bytes, expiry: int | None = None) -> OutMessage:
    extras = None if expiry is None else {"mqtt": {"retain": True, "expiry": expiry}, "headers": {"a": "1"}}
    return OutMessage("id", text, name="n", extras=extras)


async def keep(node: Node, channel: str, kept: OutMessage, serial: str) -> ErrorInfo | None:
    answers: list[ErrorInfo | None] = []
    node.sessions.retain(channel, kept, serial, answers.append)
    await settle()
    (answer,) = answers
    return answer


async def under(node: Node, topic_filter: str, identity: Identity = EVERYBODY) -> list[tuple[str, OutMessage]]:
    return list(await node.sessions.retained(Client(identity), Subscription(topic_filter, 1)))


async def test_it_is_there_for_whoever_comes_to_whichever_node(new_node: NewNode) -> None:
    first = new_node()
    assert await keep(first, "a/b", message(b"\xff\x00"), SERIALS[1]) is None
    assert await under(first, "a/b") == [("a/b", message(b"\xff\x00"))]
    second = new_node()
    await settle()
    assert await under(second, "a/+") == [("a/b", message(b"\xff\x00"))]
    assert await under(first, "a") == await under(first, "b/#") == []


async def test_who_was_told_that_it_is_kept_finds_it(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    facts.holds_back = True
    await keep(node, "a", message("x"), SERIALS[1])
    assert await under(node, "a") == [("a", message("x"))]


async def test_the_later_message_counts_whatever_is_told_first(facts: FactLog, new_node: NewNode) -> None:
    first, second = new_node(), new_node()
    facts.holds_back = True
    first.sessions.retain("a", message("new"), SERIALS[2], lambda _: None)
    second.sessions.retain("a", message("old"), SERIALS[1], lambda _: None)
    facts.holds_back = False
    assert await keep(first, "b", message("x"), SERIALS[3]) is None
    for node in (first, second):
        assert await under(node, "a") == [("a", message("new"))]
    written = len(facts.facts)
    assert await keep(first, "a", message("old"), SERIALS[1]) is None
    assert len(facts.facts) == written


@pytest.mark.parametrize("text", ["x", ""])
async def test_serials_that_begin_anew_count_after_some_time(new_node: NewNode, text: str) -> None:
    first, second = new_node(), new_node()
    await keep(first, "a", message("of a topic that is no more"), SERIALS[9])
    first.now_ms += retained.LATE_MS
    assert await keep(first, "a", message(text), SERIALS[1]) is None
    for node in (first, second):
        assert await under(node, "a") == ([("a", message(text))] if text else [])


@pytest.mark.parametrize("nothing", [None, "", b""])
async def test_one_without_payload_takes_it_back(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch, nothing: str | bytes | None
) -> None:
    node = new_node()
    await keep(node, "a", message("x"), SERIALS[1])
    assert await keep(node, "a", OutMessage("id", nothing), SERIALS[2]) is None
    assert await under(node, "#") == await under(new_node(), "a") == []
    assert await keep(node, "a", message("late"), SERIALS[1]) is None
    assert await under(node, "#") == []
    node.now_ms += retained.LATE_MS
    monkeypatch.setattr(retained, "_SWEEP_S", 0.001)
    sweep = asyncio.create_task(node.sessions.messages.sweep())
    while facts.newest():
        await settle()
    sweep.cancel()
    assert node.sessions.messages.bytes == 0


async def test_one_without_payload_takes_back_nothing_that_is_newer(facts: FactLog, new_node: NewNode) -> None:
    first, second = new_node(), new_node()
    facts.holds_back = True
    first.sessions.retain("a", message("new"), SERIALS[2], lambda _: None)
    second.sessions.retain("a", OutMessage("id", ""), SERIALS[1], lambda _: None)
    facts.holds_back = False
    assert await keep(first, "b", message("x"), SERIALS[3]) is None
    for node in (first, second):
        assert await under(node, "a") == [("a", message("new"))]
    kept = facts.newest()["retained:a"]
    assert orjson.loads(kept)["serial"] == SERIALS[2]  # for nodes that start when the log is compacted
    written = len(facts.facts)
    assert await keep(first, "a", OutMessage("id", ""), SERIALS[1]) is None
    assert len(facts.facts) == written


@pytest.mark.parametrize("bound", ["RETAINED_BYTES", "RETAINED_MAX"])
async def test_with_no_room_for_more_one_is_taken_back_all_the_same(
    facts: FactLog, new_node: NewNode, monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    node = new_node()
    await keep(node, "a", message("x"), SERIALS[1])
    monkeypatch.setattr(retained, bound, 0)
    assert await keep(node, "a", OutMessage("id", ""), SERIALS[2]) is None
    assert await under(node, "a") == []
    assert facts.newest() == {}


async def test_a_client_is_given_what_it_may_subscribe_to(new_node: NewNode) -> None:
    node = new_node()
    for channel in ("a", "b", "$x", "_tmp_1\x1fa", "_tmp_2\x1fa"):
        await keep(node, channel, message(channel), SERIALS[1])
    some = Identity("app.key", None, {"a": frozenset({"subscribe"}), "b": frozenset({"publish"})})
    assert [topic for topic, _ in await under(node, "#", some)] == ["a"]
    assert await under(node, "b", some) == []
    assert sorted(topic for topic, _ in await under(node, "#")) == ["a", "b"]
    provisioned = Identity("_tmp_1.key", None, {"*": frozenset("*")})
    assert await under(node, "+", provisioned) == await under(node, "a", provisioned)
    assert await under(node, "a", provisioned) == [("a", message("_tmp_1\x1fa"))]


async def test_it_expires_and_says_how_soon(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    await keep(node, "a", message("x", expiry=10), SERIALS[1])
    node.now_ms += 3_500
    ((_, aged),) = await under(node, "a")
    assert aged == message("x", expiry=7)
    node.now_ms += 6_500
    assert await under(node, "a") == await under(node, "+") == []


async def test_there_is_a_most(new_node: NewNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retained, "RETAINED_MAX", 2)
    node = new_node()
    assert await keep(node, "a", message("x"), SERIALS[1]) is None
    assert await keep(node, "b", message("x"), SERIALS[1]) is None
    refused = await keep(node, "c", message("x"), SERIALS[1])
    assert refused is not None
    assert refused.code == 42910
    assert await keep(node, "a", message("y"), SERIALS[2]) is None
    monkeypatch.setattr(retained, "RETAINED_BYTES", node.sessions.messages.bytes)
    assert await keep(node, "a", message("longer"), SERIALS[3]) is not None
    assert await keep(node, "a", message("z"), SERIALS[4]) is None


async def test_a_log_that_does_not_take_it_is_told(facts: FactLog, new_node: NewNode) -> None:
    node = new_node()
    facts.failure = SourceTimeout("away")
    refused = await keep(node, "a", message("x"), SERIALS[1])
    assert refused is not None
    assert refused.code == 50003


async def test_many_are_looked_through_a_few_at_a_time(new_node: NewNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retained, "SLICE", 2)
    node = new_node()
    for number in range(7):
        await keep(node, f"a/{number}", message("x"), SERIALS[1])
    assert len(await under(node, "a/+")) == 7
