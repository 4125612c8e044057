"""Attachments that memory has passed: they go on from the log where it is known where they stood."""

from dataclasses import replace

import pytest

from fanout.errors import ErrorInfo, error
from fanout.session.effects import Close, Regrant, Replay, Reply
from fanout.session.kinds import Kinds
from fanout.session.ports import Outcome
from fanout.wire import Action, Flag
from tests.support.conversation import DETACH, Conversation, FakePlan, error_code, only_attach


def passed(client: Conversation) -> Replay:
    number = only_attach(client.attach("[?echo=false]news")).attachment
    (effect,) = client.session.lost(number, client.now_ms, "where it stood")
    assert isinstance(effect, Replay)
    assert (effect.channel, effect.serial) == ("news", "where it stood")
    return effect


def test_goes_on_from_the_log_without_a_word() -> None:
    client = Conversation()
    asked = passed(client)
    plan = FakePlan(Outcome.RESUMED)
    (effect,) = client.session.replayed(asked.attach, plan, client.now_ms)
    assert isinstance(effect, Regrant)
    assert (effect.attachment, effect.plan, effect.echo) == (1, plan, False)


def test_is_told_what_the_log_does_not_have_and_given_the_rest() -> None:
    client = Conversation()
    asked = passed(client)
    attach = only_attach(client.session.replayed(asked.attach, FakePlan(Outcome.GAP, serial="p9"), client.now_ms))
    assert (attach.frame["channelSerial"], error_code(attach.frame)) == ("p9", (80020, 400))
    assert not attach.frame["flags"] & Flag.RESUMED


def test_goes_on_live_and_is_told_if_the_log_has_nothing() -> None:
    client = Conversation()
    asked = passed(client)
    attach = only_attach(client.session.replayed(asked.attach, None, client.now_ms))
    assert (attach.plan.outcome, error_code(attach.frame)) == (Outcome.FRESH, (80020, 400))


def test_is_sent_away_if_the_log_does_not_answer_for_it_has_its_position() -> None:
    client = Conversation()
    asked = passed(client)
    told, closed = client.session.replayed(asked.attach, error(50003), client.now_ms)
    assert isinstance(told, Reply)
    assert (told.frame["action"], error_code(told.frame)) == (Action.DISCONNECTED, (80003, 400))
    assert isinstance(closed, Close)
    assert closed.resumable
    assert client.session.replayed(asked.attach, error(50003), client.now_ms) == [], "it is over"


@pytest.mark.parametrize("answer", [FakePlan(Outcome.RESUMED), error(50003)], ids=["a place", "an error"])
def test_an_answer_for_what_was_left_or_attached_anew_is_nothing(answer: FakePlan | ErrorInfo) -> None:
    client = Conversation()
    asked = passed(client)
    client.attach("[?echo=false]news")
    assert client.session.replayed(asked.attach, answer, client.now_ms) == []
    asked = passed(client)
    client.say(action=DETACH, channel="[?echo=false]news")
    assert client.session.replayed(asked.attach, answer, client.now_ms) == []
    asked = passed(client)
    client.session.closed()
    assert client.session.replayed(asked.attach, answer, client.now_ms) == []


def test_what_a_new_credential_allows_counts_once_the_log_has_answered() -> None:
    client = Conversation()
    asked = passed(client)
    identity = replace(client.session.identity, capability={"news": frozenset({"subscribe", "annotation-publish"})})
    assert client.session.authenticated(identity, {}, client.now_ms)[1:] == []
    (effect,) = client.session.replayed(asked.attach, FakePlan(Outcome.RESUMED), client.now_ms)
    assert isinstance(effect, Regrant)
    assert effect.kinds == Kinds.MESSAGES | Kinds.PRESENCE, "and no more what only publishers are given"
