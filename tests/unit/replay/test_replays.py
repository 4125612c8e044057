"""Resuming from the log: exact, shared, bounded, and told where it cannot be."""

import asyncio
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest

from fanout._core import DEDUP_WINDOW_MS, GAP, RESUMED
from fanout.errors import ErrorInfo, SourceError
from fanout.replay import bounds, reading, room, service
from fanout.sources.base import Slice
from tests.unit.history.memory_log import TOPIC, MemoryLog
from tests.unit.replay.bed import Bed, Client


def filled(count: int, *, others: int = 1, partitions: int = 1, size: int = 0) -> MemoryLog:
    """So many messages of `c`, each before so many of another channel."""
    log = MemoryLog()
    for number in range(count):
        partition = number % partitions
        log.put("c", f"{number}".ljust(size, "."), partition=partition)
        for _ in range(others):
            log.put("other", "x", partition=partition)
    return log


Make = Callable[..., Bed]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[Bed] = []

    def bed(*arguments: Any, **options: Any) -> Bed:
        made.append(Bed(*arguments, **options))
        return made[-1]

    yield bed
    for one in made:
        one.close()


def numbers(client: Client) -> list[int]:
    return [int(value.rstrip(".")) for value in client.values]


async def test_what_was_missed_and_then_what_is_live(make: Make) -> None:
    bed = make(filled(2_500))
    client = bed.resumed(10)
    await bed.until(lambda: bed.engine.stats()["replays_handed_over"])
    bed.log.put("c", "2500")
    bed.node.read_on()
    await bed.until(lambda: len(client.values) >= 2_496)
    assert numbers(client) == list(range(5, 2_501))
    assert (client.answer.outcome, client.answer.serial) == (RESUMED, bed.position(10))
    assert bed.engine.stats()["resumed_from_log"] == 1


async def test_what_comes_while_it_is_read_is_not_missed(make: Make) -> None:
    bed = make(filled(3_000))
    client = bed.resumed(0)
    for number in range(3_000, 3_200):
        bed.log.put("c", f"{number}")
        bed.node.read_on()
        bed.turn()
        await asyncio.sleep(0)
    await bed.until(lambda: len(client.values) >= 3_200)
    assert numbers(client) == list(range(3_200))


async def test_a_thousand_clients_are_one_reading(make: Make) -> None:
    bed = make(filled(3_000))
    alone = make(filled(3_000))
    one = alone.resumed(0)
    await alone.until(lambda: len(one.values) >= 3_000)
    clients = [bed.resumed(2 * (number % 7)) for number in range(1_000)]
    await bed.until(lambda: bed.engine.stats()["replays_handed_over"] >= 1_000, 60)
    assert bed.log.reads == alone.log.reads
    for number, client in enumerate(clients):
        assert numbers(client) == list(range(number % 7, 3_000))


async def test_who_comes_later_joins_those_who_are_there(make: Make) -> None:
    bed = make(filled(2_000))
    first = bed.resumed(0)
    await bed.begun(first)
    second = bed.resumed(100)
    assert second.answer.outcome == RESUMED, "at once"
    await bed.until(lambda: len(second.values) >= 1_950)
    assert numbers(second) == list(range(50, 2_000))
    assert bed.log.reads == 4, "of a thousand records each"


async def test_who_was_there_long_before_a_replay_begins_has_one_of_their_own(make: Make) -> None:
    bed = make(filled(1_000))
    late = bed.resumed(1_000)
    await bed.begun(late)
    early = bed.resumed(0)
    await bed.until(lambda: len(early.values) >= 1_000)
    assert (numbers(early), numbers(late)) == (list(range(1_000)), list(range(500, 1_000)))


async def test_those_far_apart_do_not_wait_for_each_other(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "AHEAD_MAX", 100)
    monkeypatch.setattr(reading, "AHEAD_MAX", 100)
    bed = make(filled(500))
    clients = [bed.resumed(2 * start) for start in (0, 10, 400)]
    await bed.until(lambda: len(bed.replays) == 2)
    await bed.until(lambda: bed.engine.stats()["replays_handed_over"] == 3)
    for client, start in zip(clients, (0, 10, 400), strict=True):
        assert numbers(client) == list(range(start, 500))


async def test_several_partitions_each_in_its_order(make: Make) -> None:
    bed = make(filled(1_200, partitions=3), partitions=3)
    clients = [bed.resumed(100, 0, 200), bed.resumed(0, 300, 100)]
    await bed.until(lambda: bed.engine.stats()["replays_handed_over"] == 2)
    for client, starts in zip(clients, ((50, 0, 100), (0, 150, 50)), strict=True):
        for partition, start in enumerate(starts):
            seen = [number for number in numbers(client) if number % 3 == partition]
            assert seen == list(range(1_200))[partition::3][start:]


async def test_partitions_are_read_side_by_side_in_time(make: Make) -> None:
    log = MemoryLog()
    for number in range(4_000):
        log.put("c", f"{number}", partition=number % 2, timestamp=number)
    bed = make(log, partitions=2)
    client = bed.resumed(0, 0)
    await bed.until(lambda: len(client.values) == 4_000)
    seen = numbers(client)
    assert max(abs(value - index) for index, value in enumerate(seen)) <= 2_000, "a slice of one, then one of the other"


class TestRepeats:
    async def test_of_what_was_before_the_place_are_left_out(self, make: Make) -> None:
        log = MemoryLog()
        log.put("c", "1", message_id="x", timestamp=1_000)
        log.put("c", "2", message_id="y", timestamp=1_001)
        log.put("c", "3", message_id="x", timestamp=DEDUP_WINDOW_MS)
        log.put("c", "4", message_id="x", timestamp=1_001 + DEDUP_WINDOW_MS)
        bed = make(log)
        client = bed.resumed(2)
        await bed.until(lambda: client.values)
        assert numbers(client) == [4], "the last is no repeat any more"

    @pytest.mark.parametrize(("has_ids", "before"), [(True, 10), (False, 0)])
    async def test_are_looked_for_no_further_back_than_they_can_be(
        self, make: Make, has_ids: bool, before: int
    ) -> None:
        log = MemoryLog()
        for number in range(500):
            message_id = f"id{number}" if has_ids else None
            log.put("c", f"{number}", message_id=message_id, timestamp=number * DEDUP_WINDOW_MS // 10)
        bed = make(log)
        client = bed.resumed(400)
        await bed.until(lambda: len(client.values) == 100)
        assert bed.log.offsets_read == before + 100


class TestGaps:
    async def test_what_retention_took_is_told_and_the_rest_given(self, make: Make) -> None:
        log = filled(100)
        log.expire(0, 50)
        bed = make(log)
        client = bed.resumed(10)
        await bed.until(lambda: len(client.values) >= 75)
        assert (client.answer.outcome, client.answer.serial) == (GAP, bed.position(50))
        assert numbers(client) == list(range(25, 100))
        assert bed.engine.stats()["resume_gaps"] == 1

    async def test_retention_that_passes_a_replay_ends_it(self, make: Make) -> None:
        bed = make(filled(5_000))
        client = bed.resumed(0)
        await bed.begun(client)
        bed.log.expire(0, 9_000)
        await bed.until(lambda: client.is_left)
        assert numbers(client) == list(range(len(client.values))), "up to there, and no further"
        back = bed.resumed(2 * len(client.values))
        await bed.until(lambda: len(back.values) >= 500)
        assert (back.answer.outcome, numbers(back)) == (GAP, list(range(4_500, 5_000)))

    async def test_offsets_without_records_are_none(self, make: Make) -> None:
        log = MemoryLog()
        for number in range(300):
            log.put("c", f"{number}", gap=number % 3)
        bed = make(log)
        client = bed.resumed(0)
        await bed.until(lambda: len(client.values) == 300)
        assert (client.answer.outcome, numbers(client)) == (RESUMED, list(range(300)))

    async def test_a_position_of_another_log_has_no_place(self, make: Make) -> None:
        bed = make(filled(10))
        client = bed.client()
        client.resume("nonsense")
        assert client.answer is None

    async def test_a_topic_made_anew_ends_what_is_read_of_the_old_one(self, make: Make) -> None:
        bed = make(filled(5_000))
        client = bed.resumed(0)
        await bed.begun(client)
        bed.engine.partition("t", b"another-topic-id", 0, 0)
        await bed.until(lambda: client.is_left and not len(bed.replays))

    async def test_of_those_who_come_together_only_the_foreign_are_told_so(self, make: Make) -> None:
        bed = make(filled(100))
        old = bed.position(0)
        clients = [bed.client(), bed.client()]
        clients[0].resume(old)
        bed.engine.partition(TOPIC, b"another-topic-id", 0, bed.log.ends[0])
        clients[1].resume(bed.position(0))
        await bed.until(lambda: clients[1].values and clients[0].answer is not ...)
        assert (clients[0].answer, clients[1].answer.outcome) == (None, RESUMED)
        assert numbers(clients[1]) == list(range(100))

    async def test_who_is_ahead_of_the_node_waits_a_while_and_comes_back(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "WAIT_S", 0.6)
        monkeypatch.setattr(reading, "LOOK_S", 0.1)
        bed = make(filled(10), partitions=2)
        client = bed.resumed(0, 1_000)
        asked = 0

        def count() -> bool:
            nonlocal asked
            asked += sum(kind == "replayed" for kind, _, _ in bed.events)
            return client.is_left

        await bed.until(count)
        assert 2 <= asked <= 10, "and the loop is not busy with it"


class TestPassedByMemory:
    """A client that does not read, on a node whose memory is small."""

    async def passed(self, make: Make, *, seconds: float) -> tuple[Bed, Client]:
        """It stands still for so long, and then memory goes on without it."""
        bed = make(MemoryLog(), start=0, history_bytes=1 << 20)
        client = bed.client()
        client.attach()
        client.reads = False
        self.put(bed, 350, step=100 if seconds else 350)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while loop.time() < deadline:
            bed.turn()
            await asyncio.sleep(0.01)
        self.put(bed, 2_500, step=100 if seconds else 2_150)
        client.reads = True
        await bed.until(lambda: client.places)
        return bed, client

    def put(self, bed: Bed, until: int, step: int = 100) -> None:
        for number in range(bed.log.ends.get(0, 0), until):
            bed.log.put("c", f"{number}".ljust(1_000, "."))
            if (number + 1) % step == until % step:
                bed.node.read_on()
                bed.turn()

    async def test_goes_on_from_the_log_exactly(self, make: Make) -> None:
        bed, client = await self.passed(make, seconds=1.5)
        (place,) = client.places
        assert place is not None
        client.go_on(place)
        await bed.until(lambda: len(client.values) >= 2_500)
        assert client.answer.outcome == RESUMED
        self.put(bed, 2_600)
        await bed.until(lambda: len(client.values) >= 2_600)
        assert numbers(client) == list(range(2_600))
        assert not client.is_left

    async def test_is_not_known_to_have_stood_anywhere_if_it_was_passed_at_once(self, make: Make) -> None:
        _, client = await self.passed(make, seconds=0)
        assert client.places == [None]


class TestLeaderEpochs:
    """A position made in an older one, on a node that reads none of that."""

    def log(self, make: Make, *, cut: int | None = None) -> tuple[Bed, str]:
        log = MemoryLog()
        for number in range(10):
            log.put("c", f"{number}", epoch=1)
        position = make(log, start=0).engine.position("c")
        if cut is not None:
            log.cut(0, cut)
        for number in range(log.ends[0], 40):
            log.put("c", f"{number}", epoch=3)
        return make(log), position

    async def test_that_the_log_goes_on_behind_is_resumed(self, make: Make) -> None:
        bed, position = self.log(make)
        clients = [bed.client() for _ in range(3)]
        for client in clients:
            client.resume(position)
        await bed.until(lambda: all(client.values for client in clients))
        for client in clients:
            assert (client.answer.outcome, numbers(client)) == (RESUMED, list(range(10, 40)))

    async def test_that_the_log_was_cut_below_is_told(self, make: Make) -> None:
        bed, position = self.log(make, cut=6)
        client = bed.client()
        client.resume(position)
        await bed.until(lambda: client.values)
        assert client.answer.outcome == GAP
        assert numbers(client) == list(range(6, 40))


class TestALogThatDoesNotAnswer:
    async def test_is_to_be_asked_again(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(bounds, "HELD_S", 0)
        bed = make(filled(100))
        bed.log.failure = SourceError("away")
        clients = [bed.resumed(0) for _ in range(50)]
        await bed.until(lambda: all(client.answer is not ... for client in clients))
        assert {client.answer.code for client in clients if isinstance(client.answer, ErrorInfo)} == {50003}
        bed.log.failure = None
        again = bed.resumed(0)
        await bed.until(lambda: len(again.values) == 100)

    async def test_or_fails_as_nobody_expects_is_to_be_asked_again(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        bed = make(filled(100))

        async def bounds(topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
            raise OSError(topic)

        with monkeypatch.context() as broken:
            broken.setattr(bed.log, "bounds", bounds)
            client = bed.resumed(0)
            await bed.until(lambda: client.answer is not ...)
        assert isinstance(client.answer, ErrorInfo)
        again = bed.resumed(0)
        await bed.until(lambda: len(again.values) == 100)

    async def test_is_tried_again_for_those_who_are_attached(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "RETRY_S", 0.01)
        bed = make(filled(3_000))
        client = bed.resumed(0)
        await bed.begun(client)
        bed.log.failure = SourceError("away")
        for _ in range(50):
            bed.turn()
            await asyncio.sleep(0.001)
        bed.log.failure = None
        await bed.until(lambda: len(client.values) == 3_000)
        assert numbers(client) == list(range(3_000))


class TestBounds:
    @pytest.fixture
    def tight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "RING_BYTES", 200_000)
        monkeypatch.setattr(reading, "WAIT_S", 0.3)

    @pytest.fixture
    def one_by_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room, "ACTIVE", 1)
        monkeypatch.setattr(service, "AHEAD_MAX", 0)
        monkeypatch.setattr(reading, "AHEAD_MAX", 0)

    @pytest.mark.usefixtures("tight")
    async def test_a_replay_holds_no_more_than_it_may(self, make: Make) -> None:
        bed = make(filled(4_000, others=0, size=500))
        clients = [bed.resumed(0) for _ in range(5)]
        most = 0

        def watch() -> bool:
            nonlocal most
            most = max(most, bed.engine.stats()["replay_bytes"])
            return bed.engine.stats()["replays_handed_over"] == 5

        await bed.until(watch)
        assert all(numbers(client) == list(range(4_000)) for client in clients)
        assert 100_000 < most < 200_000 + 3 * 1_000 * 600, "what it may, and a slice with its encodings"
        await bed.until(lambda: not len(bed.replays))
        assert bed.engine.stats()["replay_bytes"] == 0

    @pytest.mark.usefixtures("tight")
    async def test_who_does_not_read_is_left_and_holds_nobody_up(self, make: Make) -> None:
        bed = make(filled(4_000, others=0, size=500))
        slow, fast = bed.resumed(0), bed.resumed(0)
        slow.reads = False
        await bed.until(lambda: len(fast.values) == 4_000)
        assert numbers(fast) == list(range(4_000))
        slow.reads = True
        await bed.until(lambda: slow.is_left)
        seen = numbers(slow)
        assert seen == list(range(len(seen)))
        assert len(seen) < 4_000
        again = bed.resumed(len(seen))
        await bed.until(lambda: len(again.values) == 4_000 - len(seen))
        assert numbers(again) == list(range(len(seen), 4_000))

    @pytest.mark.usefixtures("one_by_one")
    async def test_so_many_read_at_a_time_and_the_others_wait_attached(self, make: Make) -> None:
        bed = make(filled(1_000))
        clients = [bed.resumed(2 * start) for start in (0, 100, 200)]
        await bed.until(lambda: all(client.answer is not ... for client in clients))
        assert len(bed.replays) == 3
        await bed.until(lambda: bed.engine.stats()["replays_handed_over"] == 3)
        for client, start in zip(clients, (0, 100, 200), strict=True):
            assert numbers(client) == list(range(start, 1_000))

    @pytest.mark.usefixtures("one_by_one")
    async def test_who_does_not_read_keeps_no_place_that_others_wait_for(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room, "KEPT_BYTES", 1_000_000)
        monkeypatch.setattr(reading, "WAIT_S", 0.3)
        bed = make(filled(4_000, others=0, size=500))
        slow = bed.resumed(1)
        slow.reads = False
        for _ in range(600):  # nobody waits for its place
            bed.turn()
            await asyncio.sleep(0.001)
        assert not slow.is_left
        other = bed.resumed(0)
        await bed.until(lambda: len(other.values) == 4_000, 5)
        slow.reads = True
        await bed.until(lambda: slow.is_left)
        seen = numbers(slow)
        assert seen == list(range(1, 1 + len(seen)))
        again = bed.resumed(1 + len(seen))
        await bed.until(lambda: len(again.values) == 3_999 - len(seen))

    @pytest.mark.usefixtures("one_by_one")
    async def test_who_does_not_read_needs_no_place_for_the_little_that_is_left(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "WAIT_S", 600.0)
        bed = make(filled(1_000))
        slow = [bed.resumed(2 * start) for start in (0, 100, 200)]
        for client in slow:
            client.reads = False
        other = bed.resumed(600)
        await bed.until(lambda: len(other.values) == 700)
        for client in slow:
            client.reads = True
        await bed.until(lambda: bed.engine.stats()["replays_handed_over"] == 4)
        assert [len(client.values) for client in slow] == [1_000, 900, 800]

    async def test_what_cannot_be_read_keeps_no_place_that_others_wait_for(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room, "ACTIVE", 1)
        monkeypatch.setattr(reading, "RETRY_S", 0.01)
        log = filled(6_000, partitions=2)
        bed = make(log, partitions=2)
        first = bed.resumed(0, log.ends[1])
        await bed.begun(first)
        read, away = log.read, True

        async def partly(topic: str, partition: int, start: int, stop: int) -> Slice:
            if away and partition == 0:
                raise SourceError("away")
            return await read(topic, partition, start, stop)

        monkeypatch.setattr(log, "read", partly)
        second = bed.resumed(log.ends[0], 0)
        await bed.until(lambda: len(second.values) == 3_000)
        assert not first.is_left
        away = False
        await bed.until(lambda: len(first.values) == 3_000)
        assert (numbers(first), numbers(second)) == (list(range(0, 6_000, 2)), list(range(1, 6_000, 2)))

    async def test_who_comes_beyond_what_may_wait_is_sent_away(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "WAITING_MAX", 2)
        bed = make(filled(10))
        clients = [bed.resumed(0) for _ in range(3)]
        assert isinstance(clients[2].answer, ErrorInfo)
        assert clients[2].answer.code == 50003
        await bed.until(lambda: len(clients[1].values) == 10)

    async def test_there_are_so_many_replays_and_no_more(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(service, "REPLAYS_MAX", 1)
        bed = make(filled(1_000))
        first = bed.resumed(1_000)
        await bed.until(lambda: first.answer is not ...)
        second = bed.resumed(0)
        assert isinstance(second.answer, ErrorInfo)
        await bed.until(lambda: not len(bed.replays))
        third = bed.resumed(0)
        await bed.until(lambda: len(third.values) == 1_000)

    async def test_there_are_no_more_of_those_who_come_at_once_either(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(service, "REPLAYS_MAX", 2)
        monkeypatch.setattr(service, "AHEAD_MAX", 0)
        bed = make(filled(1_000))
        clients = [bed.resumed(2 * start) for start in (0, 100, 200, 300)]
        await bed.until(lambda: all(client.answer is not ... for client in clients))
        assert len(bed.replays) == 2
        assert [isinstance(client.answer, ErrorInfo) for client in clients] == [False, False, True, True]
        await bed.until(lambda: not len(bed.replays))

    @pytest.mark.usefixtures("one_by_one")
    async def test_a_replay_that_nobody_is_on_keeps_no_place_that_others_wait_for(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(reading, "IDLE_S", 600.0)
        bed = make(filled(500))
        clients = [bed.resumed(2 * start) for start in (0, 100, 200)]
        await bed.until(lambda: bed.engine.stats()["replays_handed_over"] == 3)
        assert [len(client.values) for client in clients] == [500, 400, 300]

    async def test_a_replay_that_nobody_is_on_ends(self, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reading, "IDLE_S", 0.1)
        bed = make(filled(20_000))
        client = bed.resumed(0)
        await bed.begun(client)
        bed.engine.unregister(client.handle)
        await bed.until(lambda: not len(bed.replays))
        assert bed.log.reads < 20, "of forty"


def sparse() -> MemoryLog:
    """Two messages of `c` with many others between and behind them, which memory has no room for."""
    log = MemoryLog()
    for number in range(2):
        log.put("c", f"{number}")
        for other in range(20_000):
            log.put(f"other{other % 8}", "x" * 100)
    return log


async def test_what_is_known_not_to_hold_the_channel_is_not_read(make: Make) -> None:
    bed = make(sparse(), start=0, history_bytes=1 << 20)
    client = bed.resumed(0)
    await bed.until(lambda: len(client.values) == 2)
    assert 2 <= bed.log.reads <= 4, "of forty"


async def test_the_loop_has_its_turn_between_two_looks_at_the_index(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK", 500)
    bed = make(sparse(), start=0, history_bytes=1 << 20)
    turn = 0
    looked: list[int] = []

    async def count() -> None:
        nonlocal turn
        while True:
            turn += 1
            await asyncio.sleep(0)

    class Memory:
        def __getattr__(self, name: str) -> Any:
            return getattr(bed.engine, name)

        def blocks(self, *asked: Any) -> Any:
            looked.append(turn)
            return bed.engine.blocks(*asked)

    counting = asyncio.ensure_future(count())
    monkeypatch.setattr(bed.replays, "_memory", Memory())
    client = bed.resumed(0)
    await bed.until(lambda: len(client.values) == 2)
    counting.cancel()
    assert len(looked) > 30
    assert len(set(looked)) == len(looked)


async def test_a_partition_that_need_not_be_read_is_not_asked_for(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(1_000, partitions=2)
    bed = make(log, partitions=2)
    bounds = log.bounds

    async def partly(topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        if partitions is None or 1 in partitions:
            raise SourceError("nobody leads it")
        return await bounds(topic, partitions)

    monkeypatch.setattr(log, "bounds", partly)
    client = bed.resumed(0, log.ends[1])
    await bed.until(lambda: len(client.values) == 500)
    refused = bed.resumed(0, 0)
    await bed.until(lambda: refused.answer is not ...)
    assert isinstance(refused.answer, ErrorInfo)
