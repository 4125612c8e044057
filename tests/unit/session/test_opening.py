"""How a conversation begins."""

import base64

import pytest

from fanout.auth.connection_key import CONNECTION_ID, ConnectionKey, ConnectionKeys
from fanout.errors import ClientError, ErrorInfo
from fanout.session.effects import Effect
from fanout.session.limits import SessionSettings
from fanout.session.opening import KEY_TTL_MS, open_session
from fanout.session.resume import ConnectionTable
from fanout.session.session import Session
from tests.support.conversation import FakeChannels, error_code, only_frame
from tests.support.credentials import SECRET, accepting

ACCEPTED = accepting("app.one:secret", "app.two:secret", "other.one:secret")


class Client:
    """What a client has of its connection: the session, and CONNECTED as it was told."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.connected = only_frame(session.open())

    @property
    def connection_key(self) -> str:
        key: str = self.connected["connectionDetails"]["connectionKey"]
        return key


class Node:
    """One node of a cluster whose nodes share a secret and nothing else."""

    def __init__(self, now_ms: int = 1_000_000_000) -> None:
        self.now_ms = now_ms
        self.table = ConnectionTable(ttl_ms=120_000, now=lambda: self.now_ms)
        self.connection_keys = ConnectionKeys(SECRET)

    def open(self, authorization: str | None = None, **query: str) -> Client:
        session = open_session(
            {"v": "5"} | query,
            authorization=authorization,
            authenticator=ACCEPTED,
            table=self.table,
            connection_keys=self.connection_keys,
            channels=FakeChannels(),
            settings=SessionSettings(),
            now_ms=self.now_ms,
        )
        return Client(session)

    def refusal(self, authorization: str | None = None, **query: str) -> ErrorInfo:
        with pytest.raises(ClientError) as caught:
            self.open(authorization, **query)
        return caught.value.info


@pytest.fixture
def node() -> Node:
    return Node()


def resumed(first: Client, second: Client) -> bool:
    """Whether the second conversation continues the first; a new one is told why it does not."""
    same = second.session.connection_id == first.session.connection_id
    assert same is ("error" not in second.connected)
    return same


class TestANewConnection:
    def test_gets_an_id_without_a_colon_and_a_key_that_says_it(self, node: Node) -> None:
        client = node.open(key="app.one:secret", clientId="bob")
        connection_id = client.session.connection_id
        assert CONNECTION_ID.fullmatch(connection_id)
        assert client.connected["connectionId"] == connection_id
        assert node.connection_keys.read(client.connection_key) == ConnectionKey(
            connection_id, "app.one", "bob", node.now_ms
        )

    def test_is_greeted_once(self, node: Node) -> None:
        assert node.open(key="app.one:secret").session.open() == []

    def test_is_known_by_what_it_asked_for(self, node: Node) -> None:
        session = node.open(key="app.one:secret", clientId="bob", format="msgpack", heartbeats="false").session
        assert (session.identity.key_name, session.identity.client_id) == ("app.one", "bob")
        assert (session.params.wire, session.params.heartbeats) == (1, False)

    def test_of_a_wrong_version_is_refused(self, node: Node) -> None:
        assert node.refusal(key="app.one:secret", v="1").code == 40017


class TestCredentials:
    def test_may_be_in_the_query_or_the_header(self, node: Node) -> None:
        header = "Basic " + base64.b64encode(b"app.two:secret").decode()
        assert node.open(header).session.identity.key_name == "app.two"
        assert node.open(header, key="app.one:secret").session.identity.key_name == "app.one"

    @pytest.mark.parametrize(
        ("query", "text"),
        [
            ({}, "there are none"),
            ({"key": "app.one:wrong"}, "no such key"),
            ({"access_token": "x"}, "no such token"),
            ({"accessToken": "x"}, "no such token"),
        ],
    )
    def test_that_are_missing_wrong_or_none_are_refused(self, node: Node, query: dict[str, str], text: str) -> None:
        info = node.refusal(**query)
        assert (info.code, info.status) == (40101, 401)
        assert text in info.message
        assert len(node.table) == 0

    def test_of_another_scheme_are_refused(self, node: Node) -> None:
        assert node.refusal("Bearer x").code == 40101

    def test_with_an_impossible_client_id_are_refused(self, node: Node) -> None:
        assert node.refusal(key="app.one:secret", clientId="").code == 40012

    def test_are_checked_before_a_resume(self, node: Node) -> None:
        first = node.open(key="app.one:secret")
        assert node.refusal(key="app.one:wrong", resume=first.connection_key).code == 40101
        assert first.session.drain() != [], "and the connection it named was left alone"


class TestAResume:
    def test_begins_a_generation_newer_than_any_known_where_it_arrives(self, node: Node) -> None:
        first = node.open(key="app.one:secret")
        second = node.open(key="app.one:secret", resume=first.connection_key)
        elsewhere = Node().open(key="app.one:secret", resume=second.connection_key)
        stale = node.open(key="app.one:secret", resume=first.connection_key)
        keys = [node.connection_keys.read(client.connection_key) for client in (first, second, elsewhere, stale)]
        assert [key.generation for key in keys] == [0, 1, 2, 2]
        assert elsewhere.session.state.generation == 2

    @pytest.mark.parametrize("parameter", ["resume", "recover"])
    def test_goes_on_with_the_id_under_a_new_key(self, node: Node, parameter: str) -> None:
        first = node.open(key="app.one:secret")
        first.session.closed()
        node.now_ms += 1
        second = node.open(key="app.one:secret", **{parameter: first.connection_key})
        assert resumed(first, second)
        assert second.connection_key != first.connection_key

    def test_supersedes_a_transport_that_is_still_open(self, node: Node) -> None:
        first = node.open(key="app.one:secret")
        told: list[Effect] = []
        first.session.deliver = told.extend
        assert resumed(first, node.open(key="app.one:secret", resume=first.connection_key))
        assert error_code(only_frame(told)) == (80016, 410)

    def test_works_on_a_node_that_never_saw_the_connection(self, node: Node) -> None:
        first = node.open(key="app.one:secret", clientId="bob")
        elsewhere = Node(node.now_ms + KEY_TTL_MS)
        assert resumed(first, elsewhere.open(key="app.one:secret", clientId="bob", resume=first.connection_key))

    def test_works_where_the_connection_was_lost_long_ago_and_has_been_elsewhere_since(self, node: Node) -> None:
        first = node.open(key="app.one:secret")
        first.session.closed()
        moved = Node(node.now_ms + 1).open(key="app.one:secret", resume=first.connection_key)
        node.now_ms += 120_001
        assert not resumed(first, node.open(key="app.one:secret", resume=first.connection_key))
        assert resumed(first, node.open(key="app.one:secret", resume=moved.connection_key))

    def test_works_where_the_client_was_cut_before_it_heard_of_its_key_and_has_been_elsewhere_since(
        self, node: Node
    ) -> None:
        first = node.open(key="app.one:secret")
        for _ in range(3):  # answers that it does not hear: the generation here runs ahead
            node.now_ms += 1
            node.open(key="app.one:secret", resume=first.connection_key).session.closed()
        elsewhere = Node(node.now_ms + 1)
        moved = elsewhere.open(key="app.one:secret", resume=first.connection_key)
        node.now_ms += 120_001
        back = node.open(key="app.one:secret", resume=moved.connection_key)
        assert resumed(first, back)
        assert back.session.state.generation == moved.session.state.generation + 1

    def test_works_with_another_key_of_the_same_app(self, node: Node) -> None:
        first = node.open(key="app.one:secret")
        first.session.closed()
        assert resumed(first, node.open(key="app.two:secret", resume=first.connection_key))

    def test_works_however_old_the_key_while_the_connection_is_known(self, node: Node) -> None:
        first = node.open(key="app.one:secret")
        node.now_ms += 10 * KEY_TTL_MS
        first.session.closed()
        node.now_ms += 120_000
        assert resumed(first, node.open(key="app.one:secret", resume=first.connection_key))


class TestARefusedResume:
    def refused(self, node: Node, first: Client, **query: str) -> tuple[int, int]:
        second = node.open(**({"key": "app.one:secret", "resume": first.connection_key} | query))
        assert not resumed(first, second)
        return error_code(second.connected)

    @pytest.mark.parametrize("presented", ["x", "not a key!", "ÿ", "a" * 10_000])
    def test_of_what_is_no_key(self, node: Node, presented: str) -> None:
        assert self.refused(node, node.open(key="app.one:secret"), resume=presented) == (80018, 400)

    def test_after_its_time_to_live(self, node: Node) -> None:
        first = node.open(key="app.one:secret")
        first.session.closed()
        node.now_ms += 120_001
        assert self.refused(node, first) == (80008, 400)

    def test_after_a_close(self, node: Node) -> None:
        first = node.open(key="app.one:secret")
        first.session.fail(ErrorInfo(40000, 400, "over"))
        assert self.refused(node, first) == (80008, 400)

    def test_after_a_close_also_of_the_keys_that_were_given_before(self, node: Node) -> None:
        first = node.open(key="app.one:secret")
        first.session.closed()
        node.now_ms += 1
        second = node.open(key="app.one:secret", resume=first.connection_key)
        second.session.fail(ErrorInfo(40000, 400, "over"))
        assert self.refused(node, second) == (80008, 400)
        assert self.refused(node, first) == (80008, 400)

    def test_of_an_old_key_on_a_node_that_never_saw_the_connection(self, node: Node) -> None:
        first = node.open(key="app.one:secret")
        assert self.refused(Node(node.now_ms + KEY_TTL_MS + 1), first) == (80008, 400)

    @pytest.mark.parametrize("query", [{"key": "other.one:secret"}, {"clientId": "eve"}])
    def test_by_other_credentials(self, node: Node, query: dict[str, str]) -> None:
        first = node.open(key="app.one:secret", clientId="bob")
        assert self.refused(node, first, **query) == (80015, 400)
        assert first.session.drain() != [], "and the connection was left alone"
