"""AUTH, both ways: a connection goes on with a newer token of the same client, and what it may do is looked at anew."""

from dataclasses import replace
from typing import Any

import pytest

from fanout.auth.connection_key import ConnectionKeys
from fanout.auth.credentials import Presented
from fanout.errors import ClientError, ErrorInfo, error
from fanout.session.effects import Authenticate, Detach, Effect, Leave, Regrant, Reply
from fanout.session.kinds import Kinds
from fanout.session.limits import SessionSettings
from fanout.session.opening import reauthenticate
from fanout.types import Identity
from tests.support.conversation import Conversation, error_code, frames, only_attach, only_close, only_frame
from tests.support.credentials import SECRET

PUBLISH, SUBSCRIBE = 1 << 17, 1 << 18
ALL = {"news": frozenset({"publish", "subscribe"}), "other": frozenset("*")}


class Door:
    """Knows one token: `new`."""

    def __init__(self, identity: Identity | ErrorInfo) -> None:
        self.identity = identity

    def identify(self, shown: Presented, now_ms: int) -> Identity:
        assert shown == Presented("new", is_token=True, client_id=None)
        if isinstance(self.identity, ErrorInfo):
            raise ClientError(self.identity)
        return self.identity


def shows(client: Conversation, answer: Identity | ErrorInfo) -> list[Effect]:
    """What comes of a token that means this identity, or none."""
    assert client.say(action=17, auth={"accessToken": "new"}) == [Authenticate("new")]
    return reauthenticate(
        client.session,
        "new",
        authenticator=Door(answer),
        connection_keys=ConnectionKeys(SECRET),
        settings=SessionSettings(),
        now_ms=client.now_ms,
    )


def conversation(capability: dict[str, frozenset[str]] = ALL, client_id: str | None = "bob") -> Conversation:
    rights = {resource: sorted(operations) for resource, operations in capability.items()}
    return Conversation(capability=rights, client_id=client_id)


def token(capability: dict[str, frozenset[str]] = ALL, client_id: str | None = "bob", **fields: Any) -> Identity:
    return Identity("app.key", client_id, capability, **({"expires": 2_000_000} | fields))


class TestANewerToken:
    def test_of_the_same_client_is_confirmed_with_connected_and_counts_from_then_on(self) -> None:
        client = conversation()
        identity = token()
        (effect,) = shows(client, identity)
        assert isinstance(effect, Reply)
        details = effect.frame["connectionDetails"]
        assert (effect.frame["action"], effect.frame["connectionId"]) == (4, client.session.connection_id)
        assert details["clientId"] == "bob"
        assert ConnectionKeys(SECRET).read(details["connectionKey"]).connection_id == client.session.connection_id
        assert client.session.identity is identity

    @pytest.mark.parametrize("client_id", [None, "bob", "*"])
    def test_for_anybody_leaves_the_client_who_it_is(self, client_id: str | None) -> None:
        client = conversation(client_id=client_id)
        (effect,) = shows(client, token(client_id="*"))
        assert isinstance(effect, Reply)
        assert effect.frame["connectionDetails"].get("clientId") == client_id
        assert client.session.identity.client_id == client_id

    @pytest.mark.parametrize(("before", "after"), [("bob", "eve"), ("bob", None), (None, "bob"), ("*", "bob")])
    def test_of_another_client_ends_the_connection(self, before: str | None, after: str | None) -> None:
        client = conversation(client_id=before)
        effects = shows(client, token(client_id=after))
        assert error_code(only_frame(effects)) == (40102, 401)
        assert not only_close(effects).resumable

    def test_of_another_application_ends_the_connection(self) -> None:
        effects = shows(conversation(), replace(token(), key_name="other.key"))
        assert error_code(only_frame(effects)) == (40102, 401)

    def test_that_is_refused_ends_the_connection(self) -> None:
        effects = shows(conversation(), error(40101))
        assert (only_frame(effects)["action"], error_code(only_frame(effects))) == (9, (40101, 401))
        assert not only_close(effects).resumable

    @pytest.mark.parametrize("code", [40141, 40142, 40144])
    def test_that_another_one_can_mend_lets_the_client_come_back(self, code: int) -> None:
        effects = shows(conversation(), error(code))
        assert (only_frame(effects)["action"], error_code(only_frame(effects))) == (9, (code, 401))
        assert only_close(effects).resumable

    @pytest.mark.parametrize("auth", [None, {}, {"accessToken": None}, {"accessToken": ""}])
    def test_that_is_missing_ends_the_connection(self, auth: dict[str, Any] | None) -> None:
        effects = conversation().say(action=17, auth=auth)
        assert error_code(only_frame(effects)) == (40101, 401)

    def test_comes_too_late_when_the_connection_has_ended(self) -> None:
        client = conversation()
        client.say(action=17, auth={"accessToken": "new"})
        client.session.closed()
        before = client.session.identity
        assert client.session.authenticated(token(), {}, 0) == []
        assert client.session.identity is before


class TestAttachmentsByANewerToken:
    def test_fail_if_it_leaves_them_nothing_and_the_others_go_on(self) -> None:
        client = conversation()
        number = only_attach(client.attach("news")).attachment
        client.attach("other")
        connected, left, failed = shows(client, token({"other": frozenset("*")}))
        assert left == Leave("news")
        assert isinstance(connected, Reply)
        assert isinstance(failed, Detach)
        assert failed.attachment == number
        assert (failed.frame["action"], failed.frame["channel"]) == (9, "news")
        assert error_code(failed.frame) == (40160, 401)
        client.publish(0, channel="news")
        assert error_code(client.replies[-1]) == (40160, 401)
        client.publish(1, channel="other")
        assert client.published[-1].channel == "other"

    def test_may_publish_once_it_allows_that_without_another_attach(self) -> None:
        client = conversation({"news": frozenset({"subscribe"})})
        client.attach("news")
        client.publish(0)
        assert error_code(client.replies[-1]) == (40160, 401)
        _, regranted = shows(client, token({"news": frozenset({"subscribe", "publish"})}))
        assert isinstance(regranted, Regrant)
        assert regranted.kinds & Kinds.PUBLISH
        client.publish(1)
        assert len(client.published) == 1

    def test_are_given_messages_once_it_allows_that_and_no_more_once_it_does_not(self) -> None:
        client = conversation({"news": frozenset({"publish"})})
        number = only_attach(client.attach("news")).attachment
        _, regrant = shows(client, token({"news": frozenset("*")}))
        assert isinstance(regrant, Regrant)
        assert (regrant.attachment, regrant.spelling, regrant.echo) == (number, "news", True)
        assert regrant.kinds & Kinds.MESSAGES
        _, regrant = shows(client, token({"news": frozenset({"publish"})}))
        assert isinstance(regrant, Regrant)
        assert not regrant.kinds & Kinds.MESSAGES

    def test_are_never_given_what_they_did_not_ask_for(self) -> None:
        client = conversation({"news": frozenset({"publish"})})
        client.attach("news", flags=PUBLISH)
        assert len(shows(client, token({"news": frozenset("*")}))) == 1

    def test_that_wait_for_their_position_are_looked_at_when_it_has_come(self) -> None:
        client = conversation()
        shows(client, token({"other": frozenset("*")}))
        assert error_code(frames(client.attach("news"))[0]) == (40160, 401)


class TestTheServer:
    def test_asks_for_a_newer_token(self) -> None:
        client = conversation()
        assert frames(client.session.ask_for_token()) == [{"action": 17}]
        client.session.closed()
        assert client.session.ask_for_token() == []

    def test_sends_a_client_away_whose_token_is_over_to_come_back_with_another(self) -> None:
        effects = conversation().session.unauthorized(error(40142))
        assert (only_frame(effects)["action"], error_code(only_frame(effects))) == (6, (40142, 401))
        assert only_close(effects).resumable
