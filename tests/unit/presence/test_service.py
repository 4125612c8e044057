"""What is written of presence, and when: said by clients, and by nobody."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import ErrorInfo, SourceError, SourceTimeout
from fanout.presence import service
from fanout.presence.records import Key
from fanout.presence.service import REPAIR_S, SLICE
from fanout.sources.base import NewRecord
from tests.unit.presence.bed import CONNECTION, NODE, Bed, event, eventually, said
from tests.unit.session.test_any_frames import UNHURRIED


def code(answers: list[Any]) -> int:
    (answer,) = answers
    assert isinstance(answer, ErrorInfo)
    return answer.code


class TestWhatAClientSays:
    def test_is_a_record_of_its_member(self) -> None:
        bed = Bed()
        answers = bed.say(event("enter", "bob", 7, "hé"))
        assert answers == []
        (record,) = bed.log.confirm()
        assert answers == [[None]]
        assert record == NewRecord(
            "fanout.presence",
            b'["room","abcdefghijklmnop","bob"]',
            "hé".encode(),
            [
                ("fanout.action", b"enter"),
                ("fanout.id", b"abcdefghijklmnop:7:0"),
                ("fanout.node", b"this"),
                ("fanout.type", b"text"),
            ],
        )

    def test_may_have_no_data_or_binary(self) -> None:
        bed = Bed()
        bed.say(event("enter", "a"), event("enter", "b", data=b"\xff"))
        first, second = bed.log.confirm()
        assert (first.value, second.value) == (b"", b"\xff")
        assert [dict(one.headers)["fanout.type"] for one in (first, second)] == [b"none", b"binary"]

    def test_is_a_record_without_a_value_when_it_is_a_leave(self) -> None:
        bed = Bed()
        bed.enter("bob")
        bed.say(event("leave", "bob", 1, "bye"))
        (record,) = bed.log.confirm()
        assert record.value is None
        assert dict(record.headers)["fanout.data"] == b"bye"
        assert said(record)[0] == "leave"

    def test_is_written_once_though_it_is_said_again(self) -> None:
        bed = Bed()
        bed.enter("bob")
        assert bed.say(event("enter", "bob")) == [[None]]
        assert bed.log.waiting == []

    def test_is_written_where_another_node_answers_for_the_member(self) -> None:
        bed = Bed()
        bed.set.members[Key("room", CONNECTION, "bob")] = f"{CONNECTION}:0:0", "other", 3
        bed.enter("bob")
        assert bed.set.member("room", CONNECTION, "bob") == (f"{CONNECTION}:0:0", NODE, 0)

    def test_is_nothing_when_somebody_leaves_who_is_not_there(self) -> None:
        bed = Bed()
        assert bed.say(event("leave", "bob")) == [[None]]
        assert bed.log.waiting == []

    def test_is_written_when_somebody_leaves_who_entered_a_moment_ago(self) -> None:
        bed = Bed()
        bed.say(event("enter", "bob"))
        bed.say(event("leave", "bob", 1))
        assert [action for action, _, _ in bed.settle()] == ["enter", "leave"]
        assert bed.present() == []
        assert len(bed.presence.members) == 0

    def test_is_refused_when_the_log_refuses_it_and_forgotten(self) -> None:
        bed = Bed()
        answers = bed.say(event("enter", "bob"))
        bed.log.busy = True
        assert code(bed.say(event("enter", "eve"))) == 42910
        bed.log.busy = False
        bed.log.refuse(SourceTimeout("late"))
        assert code(answers) == 50003
        assert [action for action, _, _ in bed.settle()] == ["leave"], "the record may be in the log all the same"
        assert len(bed.presence.members) == 0

    def test_leaves_the_member_as_it_was_when_an_update_fails(self) -> None:
        bed = Bed()
        bed.enter("bob")
        answers = bed.say(event("update", "bob", 1, "new"))
        bed.log.refuse(SourceError("no"))
        assert code(answers) == 50000
        assert bed.log.waiting == []
        member = bed.presence.members.find(Key("room", CONNECTION, "bob"))
        assert member is not None
        assert member.id == f"{CONNECTION}:0:0"

    def test_is_a_leave_in_the_end_also_when_writing_it_fails_at_first(self) -> None:
        bed = Bed()
        bed.enter("bob")
        answers = bed.say(event("leave", "bob", 1))
        bed.log.refuse(SourceError("no"))
        assert code(answers) == 50000
        bed.settle()
        assert bed.present() == []

    def test_leaves_the_member_there_when_one_update_after_another_fails(self) -> None:
        bed = Bed()
        bed.enter("bob")
        bed.say(event("update", "bob", 1))
        bed.say(event("update", "bob", 2))
        bed.log.refuse(SourceTimeout("late"))
        assert bed.settle() == []
        assert len(bed.presence.members) == 1

    def test_is_undone_when_one_enter_after_another_fails(self) -> None:
        bed = Bed()
        bed.say(event("enter", "bob"))
        bed.say(event("enter", "bob", 1))
        bed.log.refuse(SourceTimeout("late"))
        assert [action for action, _, _ in bed.settle()] == ["leave"]
        assert len(bed.presence.members) == 0


class TestAFullChannel:
    def test_refuses_who_is_new(self) -> None:
        bed = Bed(members_max=2)
        bed.enter("a")
        bed.say(event("enter", "b"))
        assert code(bed.say(event("enter", "c"))) == 91003
        assert code(bed.say(event("update", "c"))) == 91003
        assert bed.say(event("enter", "c"), channel="other") == []
        assert bed.say(event("update", "a", 1)) == []
        bed.settle()
        assert bed.present() == ["a", "b"]

    def test_refuses_a_frame_as_a_whole(self) -> None:
        bed = Bed(members_max=2)
        assert code(bed.say(*(event("enter", name) for name in "abc"))) == 91003
        assert bed.log.waiting == []
        assert len(bed.presence.members) == 0

    def test_counts_what_a_frame_does_as_a_whole(self) -> None:
        bed = Bed(members_max=2)
        bed.enter("a", "b")
        assert bed.say(event("leave", "a", 1), event("enter", "c", 1)) == []
        assert code(bed.say(event("leave", "a", 2), event("enter", "d", 2))) == 91003, "a has left, read back or not"
        assert bed.say(event("update", "e", 3), event("update", "e", 3), event("leave", "e", 3)) == []
        bed.settle()
        assert bed.present() == ["b", "c"]

    def test_counts_those_of_other_nodes(self) -> None:
        bed = Bed(members_max=1)
        bed.set.members[Key("room", "other", "x")] = "other:0:0", "other", 1
        assert code(bed.say(event("enter", "a"))) == 91003

    def test_takes_another_when_somebody_has_left(self) -> None:
        bed = Bed(members_max=1)
        bed.enter("a")
        bed.say(event("leave", "a", 1))
        bed.settle()
        assert bed.say(event("enter", "b", 2)) == []

    def test_refuses_too_much_data(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(service, "DATA_BYTES", 10)
        bed = Bed()
        bed.say(event("enter", "a", data="12345"))
        assert code(bed.say(event("enter", "b", data="1234"))) == 91006
        assert bed.say(event("enter", "b", data="123")) == []
        assert code(bed.say(event("update", "a", 1, "123456"))) == 91006
        assert bed.say(event("update", "a", 1, "123"), event("update", "b", 1, "12345")) == []

    def test_refuses_nobody_who_continues_a_member(self) -> None:
        bed = Bed(members_max=1)
        for name in "ab":  # the set has more than it may
            bed.set.members[Key("room", CONNECTION, name)] = f"{CONNECTION}:0:0", "other", 1
        bed.enter("a", "b")
        assert len(bed.presence.members) == 2


class TestAConnection:
    def test_that_ends_takes_its_members_along_at_once(self) -> None:
        bed = Bed()
        bed.enter("a", "b")
        bed.enter("c", channel="other")
        bed.enter("d", connection_id="ponmlkjihgfedcba")
        bed.presence.ended(CONNECTION)
        left = bed.settle()
        assert sorted((action, client) for action, client, _ in left) == [
            ("leave", "a"),
            ("leave", "b"),
            ("leave", "c"),
        ]
        assert bed.present() == ["d"]

    def test_that_leaves_a_channel_takes_its_members_there_along(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.enter("a", channel="other")
        bed.presence.leave(CONNECTION, "room")
        bed.settle()
        assert (bed.present(), bed.present("other")) == ([], ["a"])

    def test_has_leaves_that_clients_know_for_synthesised(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.presence.ended(CONNECTION)
        ((_, _, event_id),) = bed.settle()
        assert not event_id.startswith(CONNECTION)
        assert len(event_id.split(":")) == 3
        assert ":" in event_id[: len(CONNECTION)], "no connection id begins like that"

    def test_that_is_lost_keeps_its_members_for_its_time(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.presence.lost(CONNECTION, 3_000)
        bed.now_s += 2.9
        bed.presence.expire()
        assert bed.settle() == []
        bed.now_s += 0.2
        bed.presence.expire()
        assert [action for action, _, _ in bed.settle()] == ["leave"]
        assert bed.present() == []

    def test_that_comes_back_keeps_its_members(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.presence.lost(CONNECTION, 3_000)
        bed.presence.resumed(CONNECTION)
        bed.now_s += 10
        bed.presence.expire()
        assert bed.settle() == []
        assert bed.present() == ["a"]

    def test_that_went_on_elsewhere_keeps_what_entered_again_there(self) -> None:
        bed = Bed()
        bed.enter("a", "b")
        bed.presence.lost(CONNECTION, 3_000)
        bed.set.members[Key("room", CONNECTION, "a")] = f"{CONNECTION}:0:0", "other", 1
        bed.now_s += 4
        bed.presence.expire()
        assert [client for _, client, _ in bed.settle()] == ["b"]
        assert len(bed.presence.members) == 0

    def test_that_enters_again_before_the_leave_is_written_does_not_leave(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.enter("z", channel="other")
        bed.presence.leave(CONNECTION, "other")  # the leave under way for which the next one waits
        bed.presence.leave(CONNECTION, "room")
        bed.say(event("enter", "a", 1))
        bed.settle()
        assert bed.present() == ["a"]

    def test_without_members_is_nothing(self) -> None:
        bed = Bed()
        bed.presence.lost(CONNECTION, 0)
        bed.presence.resumed(CONNECTION)
        bed.presence.ended(CONNECTION)
        bed.presence.leave(CONNECTION, "room")
        bed.presence.expire()
        assert bed.log.waiting == []


class TestAContinuedConnection:
    def test_enters_again_in_the_log_though_the_member_is_as_it_was(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.presence.lost(CONNECTION, 3_000)
        bed.presence.resumed(CONNECTION)
        bed.say(event("enter", "a", generation=1))
        (record,) = bed.log.confirm()
        assert dict(record.headers)["fanout.generation"] == b"1"
        bed.set.read([record])
        assert bed.say(event("enter", "a", generation=1)) == [[None]]
        assert bed.log.waiting == []

    def test_is_let_go_of_as_what_it_was_here(self) -> None:
        bed = Bed()
        bed.say(event("enter", "a", generation=1))
        bed.settle()
        bed.presence.ended(CONNECTION)
        (record,) = bed.log.confirm()
        assert dict(record.headers)["fanout.generation"] == b"1"

    async def test_that_is_here_again_is_taken_back_from_the_node_between(self) -> None:
        bed = Bed()
        bed.say(event("enter", "a", generation=2))
        bed.log.confirm()
        key = Key("room", CONNECTION, "a")
        bed.set.members[key], bed.set.generations[key] = (f"{CONNECTION}:0:0", "other", 1), 1
        bed.now_s += REPAIR_S
        await bed.presence.repair()
        bed.settle()
        assert bed.set.member(*key) == (f"{CONNECTION}:0:0", NODE, 2)

    async def test_leaves_with_the_generation_that_the_set_has_where_it_is_nobodys(self) -> None:
        bed = Bed()
        key = Key("room", "gone", "b")
        bed.set.members[key], bed.set.generations[key] = ("gone:0:0", NODE, 1), 4
        await bed.presence.repair()
        bed.settle()
        assert bed.present() == []


class TestLeavesOfMany:
    def test_are_written_in_groups_one_after_another(self) -> None:
        bed = Bed(members_max=5_000)
        bed.enter(*(f"c{number}" for number in range(2 * SLICE + 1)))
        bed.presence.ended(CONNECTION)
        groups = []
        while bed.log.waiting:
            assert len(bed.log.waiting) == 1
            groups.append(len(bed.log.confirm()))
        assert groups == [SLICE, SLICE, 1]

    def test_are_tried_again_until_the_log_has_them(self) -> None:
        bed = Bed()
        bed.enter("a", "b")
        bed.presence.ended(CONNECTION)
        bed.log.refuse(SourceError("away"))
        bed.log.busy = True
        bed.presence.expire()
        bed.log.busy = False
        bed.presence.expire()
        bed.settle()
        assert bed.present() == []
        assert bed.presence.counts["removed"] == 2

    async def test_who_have_all_gone_elsewhere_do_not_hold_up_the_others(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.enter("b", connection_id="ponmlkjihgfedcba")
        bed.set.members[Key("room", CONNECTION, "a")] = f"{CONNECTION}:0:0", "other", 1
        bed.presence.ended(CONNECTION)
        bed.presence.ended("ponmlkjihgfedcba")
        await asyncio.sleep(0)
        bed.settle()
        assert bed.present() == ["a"]

    def test_lost_at_once_expire_in_bounded_steps(self) -> None:
        bed = Bed(members_max=5_000)
        for number in range(SLICE + 1):
            bed.enter("a", channel=f"{number}", connection_id=f"{number}")
            bed.presence.lost(f"{number}", 0)
        assert bed.presence.expire()
        assert not bed.presence.expire()
        bed.settle()
        assert bed.set.members == {}


class TestRepair:
    async def test_writes_again_what_the_set_lacks(self) -> None:
        bed = Bed()
        bed.enter("a", "b")
        del bed.set.members[Key("room", CONNECTION, "a")]
        await bed.presence.repair()
        assert bed.settle() == [], "a moment ago it may not have been read back"
        bed.now_s += REPAIR_S
        await bed.presence.repair()
        assert bed.settle() == [("enter", "a", f"{CONNECTION}:0:0")]
        await bed.presence.repair()
        assert bed.settle() == []

    async def test_waits_while_the_set_is_behind(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.set.members.clear()
        bed.now_s += REPAIR_S
        bed.log.behind = {("fanout.presence", 2): 1, ("fanout.messages", 0): 0}
        await bed.presence.repair()
        assert bed.settle() == []
        bed.log.behind = {("fanout.presence", 2): 0, ("fanout.messages", 0): 9}
        await bed.presence.repair()
        assert len(bed.settle()) == 1

    async def test_writes_no_more_at_once_than_a_slice(self) -> None:
        bed = Bed(members_max=SLICE + 1)
        bed.enter(*(f"{number}" for number in range(SLICE + 1)))
        bed.set.members.clear()
        bed.now_s += REPAIR_S
        await bed.presence.repair()
        assert len(bed.settle()) == SLICE
        bed.now_s += REPAIR_S
        await bed.presence.repair()
        assert len(bed.settle()) == 1

    async def test_tries_again_what_the_log_refused(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.set.members.clear()
        bed.log.busy = True
        bed.now_s += REPAIR_S
        await bed.presence.repair()
        bed.log.busy = False
        bed.now_s += REPAIR_S
        await bed.presence.repair()
        assert len(bed.settle()) == 1

    async def test_takes_out_of_the_set_who_is_nobodys(self) -> None:
        bed = Bed()
        bed.enter("a")
        for client in ("b", "c"):
            bed.set.members[Key("room", "gone", client)] = "gone:0:0", NODE, 1
        bed.set.members[Key("room", "elsewhere", "d")] = "elsewhere:0:0", "other", 1
        await bed.presence.repair()
        assert [(action, client) for action, client, _ in bed.settle()] == [("leave", "b"), ("leave", "c")]
        assert bed.present() == ["a", "d"]

    async def test_leaves_alone_whose_leave_is_under_way(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.presence.ended(CONNECTION)
        await bed.presence.repair()
        assert len(bed.settle()) == 1

    async def test_lets_go_of_who_is_anothers_now(self) -> None:
        bed = Bed()
        bed.enter("a")
        bed.set.members[Key("room", CONNECTION, "a")] = f"{CONNECTION}:0:0", "other", 1
        bed.now_s += REPAIR_S
        await bed.presence.repair()
        assert len(bed.presence.members) == 0
        assert bed.settle() == []


async def test_repair_waits_no_longer_than_the_set_is_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    bed, pause = Bed(), asyncio.sleep
    bed.enter("a")
    bed.set.members.clear()
    bed.log.behind = {("fanout.presence", 0): 1}

    async def sleep(seconds: float) -> None:
        """Time passes; the set is behind for the whole of the first repair's turn."""
        bed.now_s += seconds
        if bed.now_s > 1_000 + REPAIR_S + 1:
            bed.log.behind = {}
        await pause(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    running = asyncio.create_task(bed.presence.run())
    while not bed.log.waiting:
        await pause(0)
    running.cancel()
    assert bed.now_s < 1_000 + REPAIR_S + 2


async def test_time_passes_by_itself(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(service, "TICK_S", 0.001)
    bed = Bed()
    bed.enter("a", "b")
    bed.presence.lost(CONNECTION, 0)
    monkeypatch.setattr(bed.log, "append", lambda *_: 1 / 0)
    running = asyncio.create_task(bed.presence.run())
    await eventually(lambda: caplog.records)
    monkeypatch.undo()
    running.cancel()
    assert "could not be brought up to date" in caplog.text


STEPS = st.tuples(
    st.sampled_from(["enter", "update", "leave", "detach", "lose", "come back", "end", "settle", "refuse", "wait"]),
    st.sampled_from("ab"),
    st.sampled_from(["one", "two"]),
)


@UNHURRIED
@given(st.lists(STEPS, max_size=30))
def test_whatever_happens_the_set_ends_up_as_the_members_are(steps: list[tuple[str, str, str]]) -> None:
    bed = Bed()
    for serial, (step, client, channel) in enumerate(steps):
        match step:
            case "enter" | "update" | "leave":
                bed.say(event(step, client, serial), channel=channel)
            case "detach":
                bed.presence.leave(CONNECTION, channel)
            case "lose":
                bed.presence.lost(CONNECTION, 1_000)
            case "come back":
                bed.presence.resumed(CONNECTION)
            case "end":
                bed.presence.ended(CONNECTION)
            case "settle":
                bed.settle()
            case "refuse":
                bed.log.refuse(SourceTimeout("late"))
            case "wait":
                bed.now_s += 2
                bed.presence.expire()
    for _ in range(3):
        bed.settle()
        bed.presence.expire()
    mine = {member.key for member in bed.presence.members}
    assert mine == bed.set.members.keys()
    for member in bed.presence.members:
        assert member.failed or bed.set.member(*member.key) == (member.id, NODE, member.generation)
    for channel in ("one", "two"):
        keys = [key for key in mine if key.channel == channel]
        assert bed.presence.members.size(channel) == (len(keys), sum(len(key.client_id) for key in keys))
