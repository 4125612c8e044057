"""A connection's own life: how it begins, lives and ends."""

from typing import Any

import pytest

from fanout.errors import ErrorInfo, error
from fanout.session.connection import connected, ended
from fanout.session.effects import Close
from fanout.session.limits import SessionSettings
from fanout.session.params import ConnectParams
from fanout.types import Identity
from fanout.wire import JSON
from tests.support.conversation import (
    CONNECTION_ID,
    Conversation,
    error_code,
    frames,
    only_close,
    only_frame,
)


def told(
    client_id: str | None = "*", interval_ms: int | None = None, reason: ErrorInfo | None = None
) -> dict[str, Any]:
    """CONNECTED for such a client."""
    return connected(
        connection_id=CONNECTION_ID,
        connection_key="the key",
        identity=Identity("app.key", client_id, {}),
        params=ConnectParams(5, JSON, heartbeat_interval_ms=interval_ms),
        settings=SessionSettings(),
        resume_error=reason,
    )


class TestConnected:
    def test_is_who_the_client_is_and_the_numbers_it_needs(self) -> None:
        assert told("bob") == {
            "action": 4,
            "connectionId": CONNECTION_ID,
            "connectionDetails": {
                "clientId": "bob",
                "connectionKey": "the key",
                "connectionStateTtl": 120_000,
                "maxFrameSize": 524_288,
                "maxIdleInterval": 15_000,
                "maxMessageSize": 65_536,
                "serverId": "fanout",
            },
        }

    @pytest.mark.parametrize(("client_id", "name"), [("*", "*"), (None, None)])
    def test_tells_who_may_be_anybody_and_is_silent_to_the_anonymous(
        self, client_id: str | None, name: str | None
    ) -> None:
        assert told(client_id)["connectionDetails"].get("clientId") == name

    @pytest.mark.parametrize(("asked", "given"), [(60_000, 60_000), (5_000, 15_000), (None, 15_000)])
    def test_grants_a_longer_idle_time_but_no_shorter_one(self, asked: int | None, given: int) -> None:
        assert told(interval_ms=asked)["connectionDetails"]["maxIdleInterval"] == given

    def test_says_why_it_is_not_the_connection_that_the_client_wanted(self) -> None:
        assert error_code(told(reason=error(80018))) == (80018, 400)


class TestHeartbeat:
    def test_is_answered_at_once_with_its_id(self) -> None:
        assert frames(Conversation().say(action=0, id="ping 1")) == [{"action": 0, "id": "ping 1"}]
        assert frames(Conversation().say(action=0)) == [{"action": 0}]


class TestClose:
    def test_is_answered_and_keeps_nothing(self) -> None:
        effects = Conversation().say(action=7)
        assert only_frame(effects) == {"action": 8}
        assert effects[-1] == Close(1000, resumable=False)


class TestDisconnect:
    def test_drops_the_transport_and_keeps_the_connection(self) -> None:
        assert Conversation().say(action=5) == [Close(1000, resumable=True)]


class TestDrain:
    def test_sends_the_client_away_to_come_back(self) -> None:
        effects = Conversation().session.drain()
        frame = only_frame(effects)
        assert (frame["action"], error_code(frame)) == (6, (80003, 400))
        close = only_close(effects)
        assert (close.code, close.resumable) == (1001, True)


class TestAnError:
    def test_that_no_retry_cures_is_final_and_names_no_channel(self) -> None:
        effects = Conversation().session.fail(error(40000, "not JSON"))
        assert frames(effects) == [
            {"action": 9, "error": {"code": 40000, "statusCode": 400, "message": "bad request: not JSON"}}
        ]
        close = only_close(effects)
        assert (close.code, close.resumable) == (1008, False)

    def test_that_a_retry_cures_is_a_disconnection(self) -> None:
        effects = ended(error(42910))
        frame = only_frame(effects)
        assert (frame["action"], error_code(frame)) == (6, (42910, 429))
        assert only_close(effects).resumable

    def test_of_ours_is_a_disconnection_without_a_status_of_5xx(self) -> None:
        frame = only_frame(ended(error(50000)))
        assert (frame["action"], error_code(frame)) == (6, (80003, 400))


class TestWhatIsNotForAServer:
    @pytest.mark.parametrize("action", [1, 2, 3, 4, 6, 8, 9, 11, 13, 16, 18, 20, 77, 2**40])
    def test_is_ignored(self, action: int) -> None:
        client = Conversation()
        assert client.say(action=action, channel="news", msgSerial=0) == []
        assert client.say(action=0) != []


class TestAfterTheEnd:
    @pytest.mark.parametrize("how", ["CLOSE", "DISCONNECT", "an error", "drain", "closed"])
    def test_there_is_nothing(self, how: str) -> None:
        client = Conversation()
        client.attach()
        client.publish(0)
        match how:
            case "CLOSE":
                client.say(action=7)
            case "DISCONNECT":
                client.say(action=5)
            case "an error":
                client.session.fail(error(40000))
            case "drain":
                client.session.drain()
            case "closed":
                client.session.closed()
        assert client.say(action=0) == []
        assert client.confirm(0) == []
        assert client.session.lost(1, client.now_ms) == []
        assert client.session.drain() == []
        assert client.session.fail(error(40000)) == []
        client.session.closed()
        assert client.state.holder is None
