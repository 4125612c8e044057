"""Revoked tokens: which ones a fact is about, and when it is forgotten."""

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


def test_of_two_facts_the_later_moment_counts() -> None:
    revoked = known("clientId:bob", before=AT + 10)
    revoked.learn(Fact("app.key", "clientId:bob", AT + 5, AT))
    fact = revoked.find(BOB)
    assert fact is not None
    assert fact.issued_before == AT + 10
    assert len(revoked) == 1


def test_a_fact_ends_when_no_token_is_left_that_it_could_be_about() -> None:
    revoked = known("clientId:bob", before=AT)
    revoked.learn(Fact("app.key", "clientId:eve", AT, AT))
    assert revoked.ended(AT + HOUR_MS - 1, 10) == []
    assert revoked.ended(AT + HOUR_MS, 1) == [Fact("app.key", "clientId:bob", AT, AT)]
    assert len(revoked.ended(AT + HOUR_MS, 10)) == 1
    assert len(revoked) == 0


def test_a_fact_that_was_renewed_or_taken_back_does_not_end_again() -> None:
    revoked = known("clientId:bob", before=AT)
    revoked.learn(Fact("app.key", "clientId:bob", AT + 10, AT))
    revoked.learn(Fact("app.key", "clientId:eve", AT, AT))
    revoked.forget("app.key", "clientId:eve")
    revoked.forget("app.none", "clientId:eve")
    assert revoked.ended(AT + HOUR_MS, 10) == []
    assert len(revoked.ended(AT + HOUR_MS + 10, 10)) == 1


def test_when_no_more_can_be_known_the_one_that_ends_first_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FACTS_MAX", 2)
    revoked = Revoked()
    for number in range(3):
        revoked.learn(Fact("app.key", f"clientId:{number}", AT + number, AT))
    assert len(revoked) == 2
    assert revoked.find(Identity("app.key", "0", {}, AT, AT - 1)) is None
    assert revoked.find(Identity("app.key", "2", {}, AT, AT - 1)) is not None
