"""What outlives a transport."""

from typing import Any

import pytest

from fanout.errors import error
from fanout.session import resume
from fanout.session.effects import Close
from fanout.session.limits import Limits
from fanout.session.resume import ConnectionState, ConnectionTable
from tests.support.conversation import Conversation, error_code, frames, only_frame


class Clock:
    def __init__(self) -> None:
        self.ms = 1_000_000

    def __call__(self) -> int:
        return self.ms


class Nobody:
    """Holds a connection and is told nothing worth noting."""

    def answered(self) -> None: ...

    def superseded(self) -> None: ...


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> ConnectionTable:
    return ConnectionTable(ttl_ms=120_000, now=clock)


def lose(state: ConnectionState | None, *, resumable: bool = True) -> None:
    """A session takes the connection, and its transport goes."""
    assert state is not None
    holder = Nobody()
    state.claim(holder)
    state.release(holder, resumable=resumable)


def acks(client: Conversation) -> list[tuple[int, int]]:
    return [(one["msgSerial"], one["count"]) for one in client.replies if one["action"] == 1]


class TestAClientThatComesBack:
    def test_gets_the_answer_to_what_it_sends_again_and_it_is_not_written_twice(self) -> None:
        first = Conversation()
        first.publish(0)
        first.confirm(0, "s")
        first.session.closed()
        second = Conversation(state=first.state)
        assert frames(second.publish(0)) == [{"action": 1, "msgSerial": 0, "count": 1, "res": [{"serials": ["s"]}]}]
        assert second.published == []

    def test_gets_the_answer_to_what_was_in_flight_when_it_comes(self) -> None:
        first = Conversation()
        first.publish(0)
        first.publish(1)
        first.session.closed()
        second = Conversation(state=first.state)
        assert second.publish(0) == second.publish(1) == []
        (published,) = second.publish(2)
        assert published == second.published[0]
        assert first.confirm(1) == []
        assert acks(second) == []
        assert first.confirm(0) == []
        assert acks(second) == [(0, 2)]
        second.confirm(2)
        assert acks(second) == [(0, 2), (2, 1)]

    def test_gets_the_answer_also_when_it_came_while_nobody_was_there(self) -> None:
        first = Conversation()
        first.publish(0)
        first.session.closed()
        first.confirm(0)
        second = Conversation(state=first.state)
        second.publish(0)
        assert acks(second) == [(0, 1)]

    def test_hears_nothing_of_what_it_does_not_send_again(self) -> None:
        first = Conversation()
        first.publish(0)
        first.session.closed()
        second = Conversation(state=first.state)
        first.confirm(0)
        assert second.effects == []

    def test_is_refused_again_what_was_refused(self) -> None:
        first = Conversation()
        first.publish(0)
        first.session.closed()
        second = Conversation(state=first.state)
        second.publish(0)
        first.session.refused(0, error(50003))
        assert error_code(second.replies[0]) == (50003, 500)

    def test_goes_on_with_its_sequence_past_what_it_gave_up(self) -> None:
        first = Conversation()
        first.publish(0)
        first.session.closed()
        second = Conversation(state=first.state)
        second.publish(40)
        assert second.published[0].msg_serial == 40

    def test_has_one_bound_for_all_its_transports(self) -> None:
        limits = Limits(messages_per_frame=1, messages_in_flight=1)
        first = Conversation(limits=limits)
        first.publish(0)
        first.session.closed()
        second = Conversation(limits=limits, state=first.state)
        assert error_code(only_frame(second.publish(1))) == (42911, 429)


class TestANewerTransport:
    def test_supersedes_the_one_before(self) -> None:
        first = Conversation()
        second = Conversation(state=first.state)
        assert error_code(only_frame(first.effects)) == (80016, 410)
        assert isinstance(first.effects[-1], Close)
        assert first.say(action=0) == []
        assert second.say(action=0) != []

    def test_is_not_disturbed_by_the_end_of_the_one_before(self) -> None:
        first = Conversation()
        second = Conversation(state=first.state)
        first.session.closed()
        assert first.state.holder is second.session

    def test_gets_the_answers_of_the_one_before(self) -> None:
        first = Conversation()
        first.publish(0)
        second = Conversation(state=first.state)
        second.publish(0)
        assert first.confirm(0) == []
        assert acks(second) == [(0, 1)]


class TestTheTable:
    def test_keeps_a_lost_connection_for_its_time_to_live(self, table: ConnectionTable, clock: Clock) -> None:
        state = table.open("one")
        lose(state)
        clock.ms += 120_000
        assert table.resume("one", 0) is state

    def test_refuses_it_after_that(self, table: ConnectionTable, clock: Clock) -> None:
        lose(table.open("one"))
        clock.ms += 120_001
        assert table.resume("one", 0) is None
        assert len(table) == 0

    def test_counts_the_time_from_the_last_loss(self, table: ConnectionTable, clock: Clock) -> None:
        state = table.open("one")
        for _ in range(3):
            lose(state)
            clock.ms += 100_000
            assert table.resume("one", 0) is state

    def test_keeps_an_open_connection_without_end(self, table: ConnectionTable, clock: Clock) -> None:
        state = table.open("one")
        clock.ms += 10**9
        assert table.resume("one", 0) is state

    def test_refuses_a_closed_connection_at_once(self, table: ConnectionTable) -> None:
        lose(table.open("one"), resumable=False)
        assert "one" not in table
        assert table.resume("one", 0) is None

    def test_takes_in_a_connection_that_it_never_saw(self, table: ConnectionTable) -> None:
        state = table.resume("elsewhere", 0)
        assert state is not None
        assert "elsewhere" in table
        assert state.publishes.find(0) is None

    def test_frees_what_has_expired_when_others_come_and_go(self, table: ConnectionTable, clock: Clock) -> None:
        lose(table.open("one"))
        clock.ms += 120_001
        table.open("two")
        assert len(table) == 1

    def test_keeps_no_more_lost_connections_than_its_bound(
        self, table: ConnectionTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resume, "LOST_CONNECTIONS", 10)
        for number in range(30):
            lose(table.open(f"connection {number}"))
        assert len(table) == 10
        assert "connection 19" not in table
        assert "connection 20" in table

    def test_keeps_no_more_answers_of_lost_connections_than_its_bound(
        self, table: ConnectionTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resume, "LOST_ANSWERS", 10)
        for number in range(6):
            state = table.open(f"connection {number}")
            state.publishes.begin(0, 2, 9)
            state.publishes.finish(0, ("a", "b"))
            state.publishes.begin(1, 1, 9)  # will be kept too, once it is answered
            lose(state)
        assert [number for number in range(6) if f"connection {number}" in table] == [3, 4, 5]
        forgotten = table.resume("connection 0", 0)
        assert forgotten is not None
        assert forgotten.publishes.find(0) is None

    def test_counts_no_answers_of_connections_that_are_lost_no_more(
        self, table: ConnectionTable, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resume, "LOST_ANSWERS", 10)
        states = [table.open(f"connection {number}") for number in range(5)]
        for state in states:
            state.publishes.begin(0, 3, 9)
        for state in states[:3]:
            lose(state)
        table.resume("connection 0", 0)
        lose(states[3])
        assert "connection 1" in table
        clock.ms += 120_001
        lose(states[4])
        assert len(table) == 2, "one open, one lost"
        lose(states[0])
        assert "connection 4" in table

    def test_remembers_no_more_ended_connections_than_its_bound(
        self, table: ConnectionTable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(resume, "ENDED_CONNECTIONS", 10)
        for number in range(30):
            lose(table.open(f"connection {number}"), resumable=False)
        assert table.resume("connection 20", 0) is None
        assert table.resume("connection 19", 0) is not None, "as if it had never been here"


class Told:
    """Writes down what it hears of connections."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, str, int]] = []

    def lost(self, connection_id: str, remain_ms: int) -> None:
        self.heard.append(("lost", connection_id, remain_ms))

    def resumed(self, connection_id: str) -> None:
        self.heard.append(("resumed", connection_id, 0))

    def ended(self, connection_id: str) -> None:
        self.heard.append(("ended", connection_id, 0))


class TestWhoLooksAfterMembers:
    def test_hears_of_each_loss_return_and_end(self, clock: Clock) -> None:
        told = Told()
        table = ConnectionTable(ttl_ms=120_000, now=clock, members=told)
        state = table.open("a")
        state.remain_present_ms = 3_000
        lose(state)
        lose(table.resume("a", 0))
        clock.ms += 120_001
        table.open("b")
        lose(table.resume("b", 0), resumable=False)
        assert told.heard == [
            ("lost", "a", 3_000),
            ("resumed", "a", 0),
            ("lost", "a", 3_000),
            ("ended", "a", 0),
            ("ended", "b", 0),
        ]

    def test_is_not_troubled_where_a_newer_transport_takes_over(self, clock: Clock) -> None:
        told = Told()
        table = ConnectionTable(ttl_ms=120_000, now=clock, members=told)
        table.open("a").claim(Nobody())
        state = table.resume("a", 0)
        assert state is not None
        state.claim(Nobody())
        assert told.heard == []


class TestHowAConversationEnds:
    @pytest.mark.parametrize(
        ("end", "kept"),
        [
            (lambda client: client.session.closed(), True),
            (lambda client: client.session.drain(), True),
            (lambda client: client.say(action=5), True),
            (lambda client: client.say(action=7), False),
            (lambda client: client.session.fail(error(40000)), False),
        ],
        ids=["transport lost", "drain", "DISCONNECT", "CLOSE", "an error"],
    )
    def test_decides_whether_it_can_be_continued(self, table: ConnectionTable, end: Any, kept: bool) -> None:
        client = Conversation(state=table.open("one"))
        end(client)
        client.session.closed()
        assert ("one" in table) is kept
        assert (table.resume("one", 0) is not None) is kept
