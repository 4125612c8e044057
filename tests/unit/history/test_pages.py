"""Pages of the past: memory and log as one, cut anywhere, in both directions, on any node."""

import asyncio
from collections.abc import Collection, Iterator, Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.checkpoints import Checkpoints
from fanout.errors import ClientError, SourceBusy, SourceError, error
from fanout.history import History, pages
from fanout.history.pages import PAGE_BYTES
from fanout.history.streams import SLICE_BYTES, SLICE_LEAST
from fanout.types import END_OF_TIME, HistoryPage, HistoryQuery, Message
from tests.unit.history.memory_log import TOPIC, LogNode, MemoryLog


def history(
    node: LogNode, topics: tuple[str, ...] = (TOPIC,), written: Mapping[tuple[str, int], int] | None = None
) -> History:
    source: Any = node.log
    whole = Checkpoints(node.engine.checkpoints("checkpoints"), source, "checkpoints").whole
    return History(node.engine, source, lambda topic, _: topic in topics, as_published, whole, written or {})


async def as_published(channel: str, messages: list[Message], who: str) -> list[Message]:
    return messages


def query(**given: Any) -> HistoryQuery:
    return HistoryQuery(**({"start_ms": 0, "end_ms": END_OF_TIME, "forwards": False, "limit": 10} | given))


async def all_pages(nodes: list[LogNode], channel: str = "c", **given: Any) -> list[HistoryPage]:
    """Page after page, each from the next node."""
    found: list[HistoryPage] = []
    cursor = None
    while len(found) < 1_000:
        node = nodes[len(found) % len(nodes)]
        found.append(await history(node).page(channel, query(**given | {"cursor": cursor}), "me"))
        cursor = found[-1].cursor
        if cursor is None:
            return found
    raise AssertionError("it does not end")


def texts(found: list[HistoryPage]) -> list[Any]:
    return [message.data for page in found for message in page.messages]


class Nodes:
    """Makes nodes, and closes their engines after the test."""

    def __init__(self) -> None:
        self.made: list[LogNode] = []

    def __call__(self, log: MemoryLog, **options: Any) -> LogNode:
        self.made.append(LogNode(log, **options))
        return self.made[-1]


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    nodes = Nodes()
    yield nodes
    for node in nodes.made:
        node.engine.close()


def filled(count: int, *, others: int = 1) -> MemoryLog:
    """So many messages of `c`, each before so many of another channel."""
    log = MemoryLog()
    for number in range(count):
        log.put("c", f"{number}")
        for _ in range(others):
            log.put("other", "x")
    return log


def code(refused: pytest.ExceptionInfo[ClientError]) -> int:
    return refused.value.info.code


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_message_once_and_in_order_wherever_memory_begins(data: st.DataObject) -> None:
    """Random logs of several partitions, with gaps and clocks that disagree; each page by a node with other floors."""
    log = MemoryLog()
    partitions = data.draw(st.integers(1, 3))
    for number in range(data.draw(st.integers(0, 60))):
        log.put(
            data.draw(st.sampled_from("ccd")),
            f"{number}",
            partition=data.draw(st.integers(0, partitions - 1)),
            timestamp=1_000 + number + data.draw(st.integers(-3, 3)),
            gap=data.draw(st.sampled_from([0, 0, 0, 2])),
        )
    made = []
    for _ in range(data.draw(st.integers(1, 3))):
        starts = {number: data.draw(st.integers(0, log.ends.get(number, 0))) for number in range(partitions)}
        made.append(LogNode(log, starts=starts))
        made[-1].read_on()
    forwards, limit = data.draw(st.booleans()), data.draw(st.integers(1, 7))
    try:
        found = asyncio.run(all_pages(made, forwards=forwards, limit=limit))
    finally:
        for node in made:
            node.engine.close()
    assert all(len(page.messages) == limit for page in found[:-1])
    for partition, records in log.partitions.items():
        of_partition = [r.value.decode() for r in records if r.key == b"c" and r.value is not None]
        seen = [m.data for page in found for m in page.messages if m.serial.split("-")[1] == str(partition)]
        assert seen == (of_partition if forwards else of_partition[::-1])
    total = sum(r.key == b"c" for records in log.partitions.values() for r in records)
    assert len(texts(found)) == total


@pytest.mark.parametrize("forwards", [True, False])
async def test_what_memory_drops_between_two_pages_comes_from_the_log(forwards: bool, nodes: Nodes) -> None:
    log = filled(30)
    held, empty = nodes(log, starts={0: 0}), nodes(log, starts={0: log.ends[0]})
    held.read_on()
    found = await all_pages([held, empty], forwards=forwards, limit=4)
    numbers = [str(number) for number in range(30)]
    assert texts(found) == (numbers if forwards else numbers[::-1])


async def test_messages_of_several_partitions_come_by_their_times(nodes: Nodes) -> None:
    log = MemoryLog()
    for number in range(40):
        log.put("c", f"{number}", partition=number * 7 % 3, timestamp=1_000 + number)
    node = nodes(log, starts=dict(log.ends))
    numbers = [str(number) for number in range(40)]
    assert texts(await all_pages([node], limit=7)) == numbers[::-1]
    assert texts(await all_pages([node], limit=7, forwards=True)) == numbers


@pytest.mark.parametrize("forwards", [True, False])
async def test_times_are_included_in_memory_and_log(forwards: bool, nodes: Nodes) -> None:
    log = filled(20, others=0)
    for start in (0, 10, 20):
        node = nodes(log, starts={0: start})
        node.read_on()
        found = await all_pages([node], start_ms=1_000_005, end_ms=1_000_014, forwards=forwards, limit=3)
        assert sorted(map(int, texts(found))) == list(range(5, 15))


async def test_nothing_lies_behind_the_place_of_attaching(nodes: Nodes) -> None:
    log = filled(10)
    node = nodes(log, starts={0: 10})
    node.read_on()
    attached = node.engine.position("c")
    log.put("c", "later")
    node.read_on()
    assert texts(await all_pages([node], until=attached, limit=4)) == [str(n) for n in reversed(range(10))]
    assert texts(await all_pages([node], limit=4))[0] == "later"


async def test_a_page_reads_so_much_and_then_ends_with_a_cursor(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "PAGE_RECORDS", 3_000)
    log = MemoryLog()
    log.put("c", "first")
    for _ in range(20_000):
        log.put("other", "x")
    node = nodes(log, starts={0: log.ends[0]})
    found = await all_pages([node])
    assert texts(found) == ["first"]
    assert 5 < len(found) < 30
    assert found[0].messages == []
    assert log.offsets_read <= len(found) * 6_000


async def test_with_many_partitions_every_page_comes_round_to_all(nodes: Nodes) -> None:
    log = MemoryLog()
    for number in range(300):
        for _ in range(120):
            log.put("other", "x", partition=number, timestamp=1_000)
        log.put("c", f"{number}", partition=number, timestamp=2_000 + number)
    node = nodes(log, starts=dict(log.ends))
    found = await all_pages([node], limit=100)
    assert texts(found) == [str(number) for number in reversed(range(300))]


@pytest.mark.parametrize("forwards", [True, False])
async def test_a_repeat_is_left_out_over_slices_and_pages(forwards: bool, nodes: Nodes) -> None:
    log = MemoryLog()
    log.put("c", "first", message_id="a")
    for number in range(900):
        log.put("c", f"{number}", message_id=f"id-{number}")
    log.put("c", "again", message_id="a")
    log.put("c", "much later", message_id="a", timestamp=9_000_000)
    node = nodes(log, starts={0: log.ends[0]})
    found = await all_pages([node], forwards=forwards, limit=250)
    assert len(texts(found)) == 902
    assert "again" not in texts(found)
    assert "much later" in texts(found)


async def test_a_place_that_is_none_is_refused(nodes: Nodes) -> None:
    node = nodes(filled(3), starts={0: 0})
    node.read_on()
    foreign = nodes(node.log, starts={0: 0}, secret=b"another secret!!").engine.position("c")
    for asked, expected in [
        ({"cursor": "nonsense"}, 40011),
        ({"cursor": foreign}, 40011),
        ({"cursor": node.engine.position("other")}, 40011),
        ({"until": "nonsense"}, 90008),
        ({"until": foreign}, 90008),
    ]:
        with pytest.raises(ClientError) as refused:
            await history(node).page("c", query(**asked), "me")
        assert code(refused) == expected


@pytest.mark.parametrize(("answer", "number"), [(None, 90008), (error(50003), 50003)])
async def test_a_place_whose_checkpoint_is_not_known_is_told(nodes: Nodes, answer: Any, number: int) -> None:
    node = nodes(filled(3), starts={0: 0})
    source: Any = node.log
    past = History(node.engine, source, lambda *_: True, as_published, lambda _channel, _position, then: then(answer))
    with pytest.raises(ClientError) as refused:
        await past.page("c", query(until=node.engine.position("c")), "me")
    assert code(refused) == number


async def test_a_place_of_attaching_that_the_log_has_lost_is_told(nodes: Nodes) -> None:
    log = filled(20)
    node = nodes(log, starts={0: 5})
    attached = node.engine.position("c")
    node.read_on()
    log.expire(0, 10)
    late = nodes(log, starts={0: log.ends[0]})
    with pytest.raises(ClientError) as refused:
        await history(late).page("c", query(until=attached), "me")
    assert code(refused) == 90008


async def test_what_retention_takes_between_two_pages_is_gone_without_more(nodes: Nodes) -> None:
    log = filled(30, others=0)
    node = nodes(log, starts={0: 30})
    first = await history(node).page("c", query(limit=5), "me")
    log.expire(0, 20)
    rest = await history(node).page("c", query(limit=20, cursor=first.cursor), "me")
    assert texts([rest]) == [str(n) for n in range(24, 19, -1)]
    assert rest.cursor is None


async def test_a_node_that_is_behind_is_waited_for(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pages, "BEHIND_LOOKS", 3)
    log = filled(5)
    ahead, behind = nodes(log, starts={0: 0}), nodes(log, starts={0: 0})
    ahead.read_on()
    attached = ahead.engine.position("c")
    asked = asyncio.create_task(history(behind).page("c", query(until=attached), "me"))
    await asyncio.sleep(0)
    behind.read_on()
    assert len((await asked).messages) == 5
    written = history(nodes(log, starts={0: 0}), written={(TOPIC, 0): 10})
    with pytest.raises(ClientError) as refused:
        await written.page("c", query(), "me")
    assert code(refused) == 50003
    stuck = nodes(log, starts={0: 0})
    with pytest.raises(ClientError) as refused:
        await history(stuck).page("c", query(until=attached), "me")
    assert code(refused) == 50003


@pytest.mark.parametrize(("failure", "expected"), [(SourceBusy("x"), 42910), (SourceError("x"), 50003)])
async def test_a_log_that_does_not_answer_is_told(nodes: Nodes, failure: SourceError, expected: int) -> None:
    log = filled(5)
    node = nodes(log, starts={0: 10})
    log.failure = failure
    with pytest.raises(ClientError) as refused:
        await history(node).page("c", query(), "me")
    assert code(refused) == expected


async def test_who_looks_back_at_once_is_bounded(nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    log = filled(5)
    node = nodes(log, starts={0: 10})
    gate = asyncio.Event()
    bounds = log.bounds

    async def slow(topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        await gate.wait()
        return await bounds(topic, partitions)

    monkeypatch.setattr(log, "bounds", slow)
    past = history(node)
    asked = [asyncio.create_task(past.page("c", query(), "me")) for _ in range(pages.ASKING_MAX // 2)]
    await asyncio.sleep(0)
    with pytest.raises(ClientError) as refused:
        await past.page("c", query(), "me")
    assert code(refused) == 42910
    other = asyncio.create_task(past.page("c", query(), "other"))
    gate.set()
    assert all(len(page.messages) == 5 for page in await asyncio.gather(*asked, other))
    assert len((await past.page("c", query(), "me")).messages) == 5


async def test_topics_without_the_channel_are_not_read(nodes: Nodes) -> None:
    log = filled(5)
    node = nodes(log, starts={0: 10})
    page = await history(node, topics=()).page("c", query(), "me")
    assert page == HistoryPage([], None)
    assert log.reads == 0


@pytest.mark.parametrize("start", [0, 5, 12])
async def test_a_programs_own_rule_holds_for_what_is_read_back(start: int, nodes: Nodes) -> None:
    log = filled(6)
    node = nodes(log, starts={0: start})
    node.engine.router(lambda record: ("all", "c") if record.key == b"c" else ("all",))
    node.read_on()
    assert len(texts(await all_pages([node], "all", limit=5))) == 12
    assert texts(await all_pages([node], "c", limit=5)) == [str(number) for number in reversed(range(6))]
    assert texts(await all_pages([node], "other")) == []


@pytest.mark.parametrize("forwards", [True, False])
@pytest.mark.parametrize("in_memory", [True, False])
async def test_a_page_has_a_bounded_number_of_bytes(in_memory: bool, forwards: bool, nodes: Nodes) -> None:
    log = MemoryLog()
    size, count = 60_000, 100
    for number in range(count):
        log.put("c", f"{number:05}" + "x" * size)
    node = nodes(log, starts={0: 0 if in_memory else log.ends[0]})
    node.read_on()
    found = await all_pages([node], forwards=forwards, limit=1_000)
    assert max(len(page.messages) for page in found) * size <= PAGE_BYTES + 2 * size
    assert len(found) > 1
    numbers = [int(text[:5]) for text in texts(found)]
    assert numbers == (list(range(count)) if forwards else list(range(count))[::-1])


async def test_large_records_are_read_few_at_a_time(nodes: Nodes) -> None:
    log = MemoryLog()
    for _ in range(2_000):
        log.put("c", "x" * 20_000)
    node = nodes(log, starts={0: log.ends[0]})
    await history(node).page("c", query(limit=10), "me")
    assert log.offsets_read <= 3 * SLICE_LEAST + SLICE_BYTES // 20_000


async def test_a_partition_that_cannot_be_asked_for_is_not_left_out(nodes: Nodes) -> None:
    log = filled(5)
    past = history(nodes(log, starts={0: 10}))
    log.absent = {0}
    with pytest.raises(ClientError) as refused:
        await past.page("c", query(), "me")
    assert refused.value.info.code == 50003
