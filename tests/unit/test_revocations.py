"""Revocations as facts in the log: what is written, what is learnt, and what becomes of those that are over."""

import asyncio
from typing import Any

import pytest

from fanout import revocations as module
from fanout.auth.keys import Key
from fanout.auth.revoked import Fact, Revoked
from fanout.auth.token_requests import HOUR_MS
from fanout.errors import ClientError, SourceError
from fanout.revocations import REAUTH_MARGIN_MS, TARGET_CHARS, Revocations
from fanout.types import Identity

NOW_MS = 1_700_000_000_000
KEY = Key("app.key", "secret", revocable_tokens=True)


class Facts:
    """`Control` without a log: what is told is heard when a test says so."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str, Any]] = []
        self.problem: SourceError | None = None
        self.take: Any = None

    def listen(self, kind: str, take: Any) -> None:
        assert kind == "revoked"
        self.take = take

    def tell(self, kind: str, name: str, value: Any, done: Any = lambda problem: None) -> None:
        self.told.append((kind, name, value))
        done(self.problem)


class Node:
    def __init__(self) -> None:
        self.facts = Facts()
        self.revoked = Revoked()
        self.reviews = 0
        self.now_ms = NOW_MS
        self.revocations = Revocations(self.revoked, self.facts, self.review, lambda: self.now_ms)  # type: ignore[arg-type]

    def review(self) -> None:
        self.reviews += 1


@pytest.fixture
async def node() -> Node:
    return Node()


async def test_a_revocation_is_a_fact_that_counts_once_it_is_read_back(node: Node) -> None:
    (result,) = await node.revocations.revoke(KEY, ["clientId:a:b"], None, margin=False)
    assert result == {"target": "clientId:a:b", "issuedBefore": NOW_MS, "appliesAt": NOW_MS}
    name = f"app.key:{NOW_MS}:{NOW_MS}:clientId:a:b"
    assert node.facts.told == [("revoked", name, {})]
    assert len(node.revoked) == node.reviews == 0
    node.facts.take(name, {})
    assert len(node.revoked) == node.reviews == 1
    node.facts.take(name, None)
    assert len(node.revoked) == 0


async def test_no_revocation_takes_another_back(node: Node) -> None:
    """Not on this node, and not on one that reads the log when only the newest fact of each name is left."""
    await node.revocations.revoke(KEY, ["clientId:bob"], None, margin=False)
    await node.revocations.revoke(KEY, ["clientId:bob"], NOW_MS - 1_000, margin=False)
    node.now_ms += 10
    await node.revocations.revoke(KEY, ["clientId:bob"], None, margin=True)
    restarted = Node()
    for name, value in {name: value for _, name, value in node.facts.told}.items():
        restarted.facts.take(name, value)
    fact = restarted.revoked.find(Identity("app.key", "bob", {}, issued=NOW_MS - 1))
    assert fact is not None
    assert fact.applies_at == NOW_MS
    fact = restarted.revoked.find(Identity("app.key", "bob", {}, issued=NOW_MS + 1))
    assert fact is not None
    assert fact.applies_at == NOW_MS + 10 + REAUTH_MARGIN_MS


@pytest.mark.parametrize("moment", [-1, -(10**30), NOW_MS + 1, 10**30])
async def test_a_moment_that_is_none_or_yet_to_come_is_refused(node: Node, moment: int) -> None:
    with pytest.raises(ClientError) as caught:
        await node.revocations.revoke(KEY, ["clientId:bob"], moment, margin=False)
    assert caught.value.info.code == 40003
    assert node.facts.told == []


async def test_a_target_that_is_named_twice_is_written_once(node: Node) -> None:
    results = await node.revocations.revoke(KEY, ["clientId:a", "clientId:b", "clientId:a"], 5, margin=False)
    assert [result["target"] for result in results] == ["clientId:a", "clientId:b"]
    assert len(node.facts.told) == 2


async def test_a_revocation_may_give_time_and_speak_of_earlier_tokens_only(node: Node) -> None:
    (result,) = await node.revocations.revoke(KEY, ["clientId:bob"], NOW_MS - 5, margin=True)
    assert (result["issuedBefore"], result["appliesAt"]) == (NOW_MS - 5, NOW_MS + REAUTH_MARGIN_MS)


@pytest.mark.parametrize("target", ["", "bob", "clientId:", "userId:bob", ":bob", "channel:" + "x" * TARGET_CHARS])
async def test_a_target_that_is_none_is_refused_and_the_others_are_not(node: Node, target: str) -> None:
    refused, made = await node.revocations.revoke(KEY, [target, "clientId:bob"], None, margin=False)
    assert (refused["target"], refused["error"]["code"]) == (target, 40003)
    assert "error" not in made
    assert len(node.facts.told) == 1


async def test_a_log_that_is_away_is_told(node: Node) -> None:
    node.facts.problem = SourceError("away")
    (result,) = await node.revocations.revoke(KEY, ["clientId:bob"], None, margin=False)
    assert result["error"]["code"] == 50003


async def test_no_more_are_made_than_can_be_remembered(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FACTS_MAX", 1)
    with pytest.raises(ClientError) as caught:
        await node.revocations.revoke(KEY, ["clientId:a", "clientId:b"], None, margin=False)
    assert caught.value.info.code == 42910
    assert node.facts.told == []


@pytest.mark.parametrize(
    "name",
    ["", "app.key:clientId:bob", "app.key:1:clientId:bob", "app.key:1:-1:clientId:bob", "app.key:1:2:", "a:1:²:x"],
)
async def test_a_fact_of_another_form_says_nothing(node: Node, name: str) -> None:
    node.facts.take(name, {})
    node.facts.take(name, None)
    assert len(node.revoked) == node.reviews == 0


async def test_what_is_over_is_taken_back_from_the_log(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SWEEP_S", 0.001)
    node.revoked.learn(Fact("app.key", "clientId:old", NOW_MS - HOUR_MS, NOW_MS - HOUR_MS))
    node.revoked.learn(Fact("app.key", "clientId:new", NOW_MS, NOW_MS))
    sweeping = asyncio.create_task(node.revocations.sweep())
    for _ in range(400):
        if node.facts.told:
            break
        await asyncio.sleep(0.005)
    sweeping.cancel()
    assert node.facts.told == [("revoked", f"app.key:{NOW_MS - HOUR_MS}:{NOW_MS - HOUR_MS}:clientId:old", None)]
    assert len(node.revoked) == 1
