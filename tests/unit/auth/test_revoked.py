"""Revoked tokens: which ones a fact is about, and when it is forgotten."""

import itertools
from dataclasses import replace

import pytest

from fanout.auth import revoked as module
from fanout.auth.revoked import Fact, Revoked
from fanout.auth.token_requests import HOUR_MS
from fanout.types import Identity

AT = 1_000_000
BOB = Identity("app.key", "bob", {"a:*": frozenset("*"), "b": frozenset("*")}, AT + 5, AT, "group")


def known(target: str, *, key_name: str = "app.key", before: int = AT + 1, applies_at: int = AT) -> Revoked:
    revoked = Revoked()
    revoked.learn(Fact(key_name, target, before, applies_at))
    return revoked


@pytest.mark.parametrize("target", ["clientId:bob", "revocationKey:group", "channel:a:*", "channel:b"])
def test_a_fact_is_about_the_tokens_of_its_target(target: str) -> None:
    assert known(target).find(BOB) == Fact("app.key", target, AT + 1, AT)


@pytest.mark.parametrize("target", ["clientId:eve", "revocationKey:bob", "channel:a:b", "channel:bob", "clientId:"])
def test_a_fact_is_about_no_others(target: str) -> None:
    assert known(target).find(BOB) is None


def test_a_fact_is_about_tokens_of_its_own_key_that_were_issued_before_its_moment() -> None:
    assert known("clientId:bob", key_name="app.other").find(BOB) is None
    assert known("clientId:bob", before=AT).find(BOB) is None


def test_a_fact_is_about_no_key() -> None:
    assert known("clientId:bob").find(Identity("app.key", "bob", BOB.capability)) is None


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_what_one_fact_took_back_stays_so_whatever_comes_before_or_after_it(order: tuple[int, ...]) -> None:
    revoked = Revoked()
    facts = [
        Fact("app.key", "clientId:bob", AT + 1, AT),
        Fact("app.key", "clientId:bob", AT + 10, AT + 40),
        Fact("app.key", "clientId:bob", AT + 20, AT + 30),
        Fact("app.key", "clientId:bob", AT - 50, AT + 10),
    ]
    for number in order:
        revoked.learn(facts[number])
        revoked.learn(facts[number])
    assert len(revoked) == 4

    def applies(issued: int) -> int | None:
        fact = revoked.find(replace(BOB, issued=issued))
        return None if fact is None else fact.applies_at

    assert [applies(at) for at in (AT - 51, AT, AT + 1, AT + 19, AT + 20)] == [AT, AT, AT + 30, AT + 30, None]


def test_of_facts_about_several_targets_the_first_in_force_counts() -> None:
    revoked = known("channel:b", applies_at=AT + 30)
    revoked.learn(Fact("app.key", "clientId:bob", AT + 1, AT))
    revoked.learn(Fact("app.key", "revocationKey:group", AT + 1, AT + 5))
    assert revoked.find(BOB) == Fact("app.key", "clientId:bob", AT + 1, AT)


def test_a_fact_ends_when_no_token_is_left_that_it_could_be_about() -> None:
    revoked = known("clientId:bob", before=AT)
    revoked.learn(Fact("app.key", "clientId:eve", AT, AT))
    assert revoked.ended(AT + HOUR_MS - 1, 10) == []
    assert revoked.ended(AT + HOUR_MS, 1) == [Fact("app.key", "clientId:bob", AT, AT)]
    assert len(revoked.ended(AT + HOUR_MS, 10)) == 1
    assert len(revoked) == 0


def test_each_fact_ends_once_also_one_that_says_less_and_none_that_was_taken_back() -> None:
    revoked = known("clientId:bob", before=AT)
    revoked.learn(Fact("app.key", "clientId:bob", AT + 10, AT))
    eve = Fact("app.key", "clientId:eve", AT, AT)
    revoked.learn(eve)
    revoked.forget(eve)
    revoked.forget(eve)
    revoked.forget(Fact("app.none", "clientId:eve", AT, AT))
    assert revoked.ended(AT + HOUR_MS, 10) == [Fact("app.key", "clientId:bob", AT, AT)]
    assert revoked.find(replace(BOB, issued=AT + 9)) is not None
    assert revoked.ended(AT + HOUR_MS + 10, 10) == [Fact("app.key", "clientId:bob", AT + 10, AT)]
    assert revoked.find(replace(BOB, issued=AT - 1)) is None
    assert len(revoked) == 0


def test_when_no_more_can_be_known_the_one_that_ends_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FACTS_MAX", 2)
    revoked = Revoked()
    for number in range(3):
        revoked.learn(Fact("app.key", f"clientId:{number}", AT + number, AT))
    assert len(revoked) == 2
    assert revoked.find(Identity("app.key", "0", {}, AT, AT - 1)) is None
    assert revoked.find(Identity("app.key", "2", {}, AT, AT - 1)) is not None
