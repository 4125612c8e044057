"""When credentials end: who is asked for another, who is sent away, and why."""

import asyncio

import pytest

from fanout.auth.revoked import Fact, Revoked
from fanout.errors import ErrorInfo
from fanout.transports import terms
from fanout.transports.terms import ASK_BEFORE_MS, Terms
from fanout.types import Identity


class Clock:
    """A clock that a test sets, and the loop's timers with it: a timer's time is what `Terms` asked for."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000

    def __call__(self) -> int:
        return self.now_ms


class Client:
    def __init__(self) -> None:
        self.heard: list[int | str] = []

    def ask_for_token(self) -> None:
        self.heard.append("ask")

    def unauthorized(self, reason: ErrorInfo) -> None:
        self.heard.append(reason.code)


class Broken(Client):
    """One that cannot be spoken to."""

    def ask_for_token(self) -> None:
        raise OverflowError

    def unauthorized(self, reason: ErrorInfo) -> None:
        raise OverflowError


class Node:
    def __init__(self) -> None:
        self.clock = Clock()
        self.revoked = Revoked()
        self.terms = Terms(self.revoked, self.clock)

    def lets_in(self, client: Client, lives_ms: int | None, client_id: str = "bob") -> Identity:
        now_ms = self.clock.now_ms
        expires = None if lives_ms is None else now_ms + lives_ms
        identity = Identity("app.key", client_id, {"news": frozenset("*")}, expires=expires, issued=now_ms)
        self.terms.begin(client, identity)
        return identity

    def after(self, ms: int) -> None:
        """Lets time pass, to the moment when the timer rings."""
        self.clock.now_ms += ms
        self.terms._due()

    def revokes(self, target: str, applies_in_ms: int = 0) -> None:
        now_ms = self.clock.now_ms
        self.revoked.learn(Fact("app.key", target, now_ms + 1, now_ms + applies_in_ms))
        self.terms.review()


@pytest.fixture
async def node() -> Node:
    return Node()


class TestAClientWhoseCredentialExpires:
    async def test_is_asked_for_another_before_and_sent_away_at_its_end(self, node: Node) -> None:
        client = Client()
        node.lets_in(client, ASK_BEFORE_MS + 5_000)
        node.after(4_999)
        assert client.heard == []
        node.after(1)
        assert client.heard == ["ask"]
        node.after(ASK_BEFORE_MS - 1)
        assert client.heard == ["ask"]
        node.after(1)
        assert client.heard == ["ask", 40142]
        assert len(node.terms) == 0

    async def test_is_not_asked_if_it_has_only_just_come(self, node: Node) -> None:
        client = Client()
        node.lets_in(client, ASK_BEFORE_MS)
        node.after(ASK_BEFORE_MS)
        assert client.heard == [40142]

    async def test_goes_on_with_another(self, node: Node) -> None:
        client = Client()
        node.lets_in(client, 5_000)
        node.lets_in(client, 60_000)
        node.after(5_000)
        assert client.heard == []
        node.after(55_000)
        assert client.heard == [40142]

    async def test_goes_on_for_ever_with_a_key(self, node: Node) -> None:
        client = Client()
        node.lets_in(client, 5_000)
        node.lets_in(client, None)
        node.after(10**9)
        assert client.heard == []

    async def test_is_forgotten_when_it_is_gone(self, node: Node) -> None:
        client = Client()
        node.lets_in(client, 5_000)
        node.terms.end(client)
        node.terms.end(client)
        node.after(5_000)
        assert client.heard == []

    async def test_leaves_little_behind_however_many_come_and_go(self, node: Node) -> None:
        stays = Client()
        node.lets_in(stays, 10**9)
        for _ in range(1_000):
            client = Client()
            node.lets_in(client, 10**9)
            node.terms.end(client)
        assert len(node.terms._heap) <= 70
        for _ in range(3):  # what was left behind takes its turns too
            node.after(10**9)
        assert stays.heard == [40142]

    async def test_takes_its_turn_if_many_end_at_once(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(terms, "DUE_PER_TURN", 2)
        clients = [Client() for _ in range(5)]
        for client in clients:
            node.lets_in(client, 1_000)
        node.after(1_000)
        assert sum(client.heard == [40142] for client in clients) == 2
        node.after(0)
        node.after(0)
        assert all(client.heard == [40142] for client in clients)

    async def test_ends_also_if_the_end_of_another_fails(self, node: Node) -> None:
        client = Client()
        for each in (Broken(), client):
            node.lets_in(each, ASK_BEFORE_MS + 1_000)
        for ms, heard in ((1_000, ["ask"]), (ASK_BEFORE_MS, ["ask", 40142])):
            with pytest.raises(OverflowError):
                node.after(ms)
            assert node.terms._timer is not None, "the rest is seen to in another turn"
            node.after(0)
            assert client.heard == heard

    async def test_may_live_longer_than_a_timer_can_wait(self, node: Node) -> None:
        client = Client()
        node.lets_in(client, 10**15)
        node.after(86_400_000)
        assert client.heard == []
        assert node.terms._timer is not None

    async def test_is_left_alone_once_the_node_has_stopped(self, node: Node) -> None:
        client = Client()
        node.lets_in(client, 1_000)
        node.terms.close()
        node.after(1_000)
        assert client.heard == []


class TestARevokedCredential:
    async def settled(self) -> None:
        for _ in range(20):
            await asyncio.sleep(0)

    @pytest.mark.parametrize("target", ["clientId:bob", "channel:news"])
    async def test_ends_at_once(self, node: Node, target: str) -> None:
        client, other = Client(), Client()
        node.lets_in(client, 10**6)
        node.lets_in(other, 10**6, client_id="eve")
        node.revokes(target)
        await self.settled()
        node.after(0)
        assert client.heard == [40141]
        assert other.heard == ([] if target.startswith("clientId") else [40141])

    async def test_ends_later_if_clients_are_given_time(self, node: Node) -> None:
        slow, quick = Client(), Client()
        for client in (slow, quick):
            node.lets_in(client, 10**6)
        node.revokes("clientId:bob", applies_in_ms=30_000)
        await self.settled()
        assert slow.heard == quick.heard == ["ask"]
        node.clock.now_ms += 1
        node.lets_in(quick, 10**6)
        node.after(30_000)
        assert (slow.heard, quick.heard) == (["ask", 40141], ["ask"])

    async def test_that_was_let_in_before_the_revocation_arrived_ends_all_the_same(self, node: Node) -> None:
        node.revokes("clientId:bob", applies_in_ms=10)
        client = Client()
        node.lets_in(client, 10**6)
        assert client.heard == ["ask"]
        node.after(10)
        assert client.heard == ["ask", 40141]

    async def test_is_found_also_behind_one_whose_client_cannot_be_asked(
        self, node: Node, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = Client()
        for each in (Broken(), client):
            node.lets_in(each, 10**6)
        node.revokes("clientId:bob", applies_in_ms=30_000)
        await self.settled()
        assert client.heard == ["ask"]
        assert "could not be asked" in caplog.text

    async def test_is_found_among_many_a_few_in_each_turn(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(terms, "REVIEWED_PER_TURN", 3)
        clients = [Client() for _ in range(10)]
        for client in clients:
            node.lets_in(client, 10**6)
        node.terms.end(clients[0])
        node.revokes("clientId:bob")
        node.revokes("clientId:eve")
        await self.settled()
        node.after(0)
        assert [client.heard for client in clients] == [[]] + [[40141]] * 9
