"""Leases: who is taken for alive, who for gone, and what becomes of a dead node's members."""

import asyncio

import orjson
import pytest

from fanout.control import Control
from fanout.errors import SourceError
from fanout.presence import leases
from fanout.presence.leases import LEASE_S, RENEW_S, SPREAD_S, Leases
from fanout.presence.records import Key
from fanout.presence.service import SLICE
from fanout.sources.base import Held
from tests.unit.presence.bed import NODE, Log, Set, eventually, said


class Bed:
    def __init__(self, node: str = NODE) -> None:
        self.log = Log()
        self.set = Set()
        self.now_s = 1_000.0
        self.mine: list[str] = []
        self.control = Control(self.log, "fanout.control")
        self.leases = Leases(
            self.set, self.control, self.log, node, lambda: len(self.mine), log=self.log, clock=lambda: self.now_s
        )

    def present(self, node: str, count: int = 1) -> None:
        """A node has members."""
        for number in range(count):
            self.set.members[Key("room", f"{node}{number}", "bob")] = f"{node}{number}:0:0", node, 3

    async def hear(self, node: str, fact: bytes | None = b"{}") -> None:
        self.control.taken([(b"node:" + node.encode(), fact)])
        await asyncio.sleep(0)

    def tick(self, seconds: float = 1.0) -> list[tuple[str, ...]]:
        """Time passes, a second at a time; what was written meanwhile, in short."""
        written: list[tuple[str, ...]] = []
        for _ in range(int(seconds)):
            self.now_s += 1
            self.leases.tick()
            for record in self.log.confirm():
                if record.topic == "fanout.control":
                    written.append(((record.key or b"").decode(), "gone" if record.value is None else "told"))
                else:
                    self.set.read([record])
                    written.append((said(record)[0], *orjson.loads(record.key or b"")))
        return written


@pytest.fixture
async def bed() -> Bed:
    return Bed()


LONG_ENOUGH = LEASE_S + SPREAD_S + 2


async def test_a_node_with_members_says_again_and_again_that_it_is_alive(bed: Bed) -> None:
    assert bed.tick(20) == []
    bed.mine.append("bob")
    assert bed.tick(1 + 2 * RENEW_S) == [(f"node:{NODE}", "told")] * 3


async def test_a_node_without_members_is_gone_too_when_it_was_silent_for_long_enough(bed: Bed) -> None:
    await bed.hear("other")
    assert not bed.leases.is_gone("other")
    bed.tick(LEASE_S)
    assert not bed.leases.is_gone("other")
    bed.tick(SPREAD_S + 1)
    assert bed.leases.is_gone("other")
    assert not bed.leases.is_gone(NODE)
    await bed.hear("other")
    assert not bed.leases.is_gone("other")


async def test_nobody_is_gone_for_who_does_not_hear_everything(bed: Bed) -> None:
    bed.leases.is_gone("other")
    bed.tick(LONG_ENOUGH)
    bed.log.behind = {("fanout.mqtt", 0): 1}
    bed.tick()
    assert not bed.leases.is_gone("other")


class TestTheMembersOf:
    async def test_a_node_that_falls_silent_leave_when_its_lease_is_over(self, bed: Bed) -> None:
        bed.present("other")
        await bed.hear("other")
        assert bed.tick(LEASE_S) == []
        assert bed.tick(SPREAD_S + 1) == [("leave", "room", "other0", "bob")]
        assert bed.set.members == {}

    async def test_a_node_that_never_said_anything_leave_too(self, bed: Bed) -> None:
        bed.present("former life")
        assert bed.tick(LONG_ENOUGH) == [("leave", "room", "former life0", "bob")]

    async def test_a_dead_node_leave_as_they_are_in_the_set(self, bed: Bed) -> None:
        bed.present("other")
        bed.set.generations[Key("room", "other0", "bob")] = 3
        bed.tick(LONG_ENOUGH)
        assert bed.set.members == {}

    async def test_a_dead_node_stay_that_have_just_gone_on_elsewhere(
        self, bed: Bed, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bed.present("other", 2)
        before = bed.set.members_of("other", 2)
        bed.set.members[Key("room", "other0", "bob")] = "other0:0:0", NODE, 3
        monkeypatch.setattr(bed.set, "members_of", lambda node, limit: before)
        assert bed.tick(LONG_ENOUGH) == [("leave", "room", "other1", "bob")]

    async def test_a_node_that_goes_on_talking_stay(self, bed: Bed) -> None:
        bed.present("other")
        for _ in range(20):
            await bed.hear("other")
            assert bed.tick(RENEW_S) == []

    async def test_this_node_are_not_its_business(self, bed: Bed) -> None:
        bed.present(NODE)
        assert bed.tick(60) == []

    async def test_a_dead_node_leave_in_groups_one_after_another(self, bed: Bed) -> None:
        bed.present("other", 2 * SLICE + 1)
        bed.tick(LEASE_S + SPREAD_S - 1)
        sizes = [len(bed.tick()) for _ in range(8)]
        assert [size for size in sizes if size] == [SLICE, SLICE, 1]

    async def test_a_dead_node_leave_group_by_group_as_each_is_read_back(self, bed: Bed) -> None:
        bed.present("other", SLICE + 1)
        bed.tick(LEASE_S)
        while not bed.log.waiting:
            bed.now_s += 1
            bed.leases.tick()
        first = bed.log.confirm()
        bed.log.behind = {("fanout.presence", 0): SLICE}
        assert bed.tick(2) == []
        bed.set.read(first)
        bed.log.behind = {}
        assert len(bed.tick()) == 1

    async def test_a_dead_node_leave_though_the_log_refuses_at_first(self, bed: Bed) -> None:
        bed.present("other")
        bed.now_s += 1
        bed.log.busy = True
        for _ in range(int(LONG_ENOUGH)):
            bed.now_s += 1
            bed.leases.tick()
        bed.log.busy = False
        bed.leases.tick()
        bed.leases.tick()
        assert len(bed.log.waiting) == 1, "one group is under way at a time"
        bed.log.refuse(SourceError("away"))
        assert bed.tick() == [("leave", "room", "other0", "bob")]

    async def test_a_dead_node_are_not_removed_by_all_at_the_same_time(self) -> None:
        began = set()
        for number in range(5):
            bed = Bed(f"node {number}")
            bed.present("dead")
            for tenth in range(int(LONG_ENOUGH * 10)):
                bed.now_s += 0.1
                bed.leases.tick()
                if bed.log.waiting:
                    began.add(tenth)
                    break
        assert len(began) > 1


async def test_a_dead_node_with_many_members_has_lost_them_within_moments_of_its_lease(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.present("other", 20 * SLICE)
    ready, began, pause = asyncio.Event(), bed.now_s, asyncio.sleep
    ready.set()

    async def sleep(seconds: float) -> None:
        """Time passes, and the log confirms what it was given."""
        bed.now_s += seconds
        bed.set.read(bed.log.confirm())
        await pause(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    running = asyncio.create_task(bed.leases.run(ready))
    while bed.set.members:
        await pause(0)
    running.cancel()
    assert bed.now_s - began < LEASE_S + SPREAD_S + 5


class TestSilence:
    @pytest.mark.parametrize("deaf", ["away", "behind", "held"])
    async def test_does_not_count_while_this_node_hears_nothing(self, bed: Bed, deaf: str) -> None:
        bed.present("other")
        await bed.hear("other")
        bed.log.well = deaf != "away"
        bed.log.behind = {("fanout.control", 0): int(deaf == "behind")}
        bed.log.held = {("fanout.control", 0): Held(1, "no broker leads it")} if deaf == "held" else {}
        assert bed.tick(60) == []
        bed.log.well, bed.log.behind = True, {("fanout.messages", 0): 5}
        bed.log.held = {("fanout.messages", 0): Held(1, "no broker leads it")}
        assert bed.tick(LEASE_S) == []
        assert len(bed.tick(SPREAD_S + 1)) == 1

    async def test_counts_though_there_is_something_to_read_at_times(self, bed: Bed) -> None:
        bed.present("other")
        written = []
        for second in range(int(LONG_ENOUGH)):
            bed.log.behind = {("fanout.presence", 0): second % 3}
            written += bed.tick()
        assert written == [("leave", "room", "other0", "bob")]

    async def test_ends_with_what_is_read_late(self, bed: Bed) -> None:
        bed.present("other")
        bed.tick(LEASE_S)
        bed.log.behind = {("fanout.control", 0): 1}
        assert bed.tick(2) == []
        await bed.hear("other")
        bed.log.behind = {}
        assert bed.tick(LEASE_S - 1) == []

    async def test_does_not_count_while_this_node_stood_still(self, bed: Bed) -> None:
        bed.present("other")
        await bed.hear("other")
        bed.now_s += 60
        assert bed.tick(LEASE_S) == []
        assert len(bed.tick(SPREAD_S + 1)) == 1


class TestALeaseWithoutMembers:
    async def test_is_taken_back_when_it_is_long_over(self, bed: Bed) -> None:
        await bed.hear("other")
        assert bed.tick(2 * LEASE_S) == []
        assert bed.tick(5) == [("node:other", "gone")]

    async def test_that_was_taken_back_is_forgotten(self, bed: Bed) -> None:
        await bed.hear("other")
        await bed.hear("other", None)
        assert bed.tick(60) == []

    async def test_of_this_node_is_its_own_affair(self, bed: Bed) -> None:
        await bed.hear(NODE)
        assert bed.tick(60) == []


async def test_time_passes_by_itself_once_the_node_is_ready(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(leases, "TICK_S", 0.001)
    bed.mine.append("bob")
    ready = asyncio.Event()
    running = asyncio.create_task(bed.leases.run(ready))
    await asyncio.sleep(0.01)
    assert bed.log.waiting == []
    ready.set()
    await eventually(lambda: bed.log.waiting)
    monkeypatch.setattr(bed.log, "health", lambda: 1 / 0)
    await eventually(lambda: caplog.records)
    running.cancel()
    assert "leases could not be looked after" in caplog.text
