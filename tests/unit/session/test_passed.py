"""Attachments that memory has passed: they go on from the log where it is known where they stood."""

from dataclasses import replace

import pytest

from fanout.errors import ErrorInfo, error
from fanout.session.attach import AGAIN_MS
from fanout.session.effects import Regrant, Replay
from fanout.session.kinds import Kinds
from fanout.session.ports import Outcome
from fanout.wire import Flag
from tests.support.conversation import (
    ATTACH,
    DETACH,
    Conversation,
    FakePlan,
    error_code,
    only_attach,
    only_replay,
    only_retry,
)  # fmt: skip


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


def test_waits_while_the_log_cannot_be_asked_and_asks_again_for_the_same_place() -> None:
    client = Conversation()
    asked = passed(client)
    client.now_ms += 20
    retry = only_retry(client.replay(asked, error(50003)))
    assert retry.unanswered
    assert retry.after_ms == AGAIN_MS[0]
    client.now_ms += retry.after_ms
    again = only_replay(client.hand(retry.frame))
    assert (again.channel, again.serial, again.again) == (asked.channel, asked.serial, True)
    (effect,) = client.replay(again, FakePlan(Outcome.RESUMED))
    assert isinstance(effect, Regrant)
    assert client.hand(retry.frame) == [], "once"


def test_without_a_place_waits_until_all_that_may_feed_the_channel_is_read() -> None:
    client = Conversation(FakePlan(), FakePlan(Outcome.AHEAD), FakePlan(Outcome.AHEAD), FakePlan())
    number = only_attach(client.attach("news")).attachment
    retry = only_retry(client.session.lost(number, client.now_ms))
    retry = only_retry(client.hand(retry.frame))
    attach = only_attach(client.hand(retry.frame))
    assert (attach.attachment, error_code(attach.frame)) == (number, (80020, 400))
    assert client.hand(retry.frame) == [], "once"


@pytest.mark.parametrize("left", [False, True])
def test_does_not_ask_again_for_what_was_left_or_attached_anew(left: bool) -> None:
    client = Conversation()
    retry = only_retry(client.replay(passed(client), error(50003)))
    client.say(action=DETACH if left else ATTACH, channel="[?echo=false]news")
    assert client.hand(retry.frame) == []


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
