"""What a node knows to be without a channel is not read back; and what is left out makes no difference otherwise."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.checkpoints import Checkpoints
from fanout.history import History, streams
from fanout.types import END_OF_TIME, HistoryQuery, Message
from tests.unit.history.memory_log import TOPIC, LogNode, MemoryLog

RARE_EVERY = 10_000
RARE = 6


@pytest.fixture(scope="module")
def node() -> Iterator[LogNode]:
    """It has read everything, and memory holds the end of it."""
    log = MemoryLog()
    for number in range(RARE * RARE_EVERY):
        if number % RARE_EVERY == 5:
            log.put("rare", f"{number // RARE_EVERY}")
        else:
            log.put(f"often-{number % 8}", "x" * 100)
    node = LogNode(log, starts={0: 0}, history_bytes=2 << 20)
    node.read_on()
    yield node
    node.engine.close()


async def as_published(channel: str, messages: list[Message], who: str) -> list[Message]:
    return messages


def past(memory: Any, log: Any) -> History:
    whole = Checkpoints(memory.checkpoints("checkpoints"), log, "checkpoints").whole
    return History(memory, log, lambda topic, channel: topic == TOPIC, as_published, whole)


async def all_of(memory: Any, log: Any, channel: str, *, forwards: bool, limit: int) -> list[Any]:
    found: list[Any] = []
    cursor = None
    for _ in range(1_000):
        query = HistoryQuery(0, END_OF_TIME, forwards, limit, cursor)
        page = await past(memory, log).page(channel, query, "me")
        found += [message.data for message in page.messages]
        cursor = page.cursor
        if cursor is None:
            return found
    raise AssertionError("it does not end")


@pytest.mark.parametrize("forwards", [True, False])
async def test_a_rare_channel_is_found_without_reading_what_lies_between(forwards: bool, node: LogNode) -> None:
    node.log.offsets_read = 0
    numbers = [str(number) for number in range(RARE)]
    found = await all_of(node.engine, node.log, "rare", forwards=forwards, limit=4)
    assert found == (numbers if forwards else numbers[::-1])
    assert node.log.offsets_read <= RARE * 3 * 1_024


async def test_looking_has_a_price_so_that_a_page_ends(node: LogNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "LOOK", 10)
    node.log.offsets_read = 0
    page = await past(node.engine, node.log).page("rare", HistoryQuery(0, END_OF_TIME, False, RARE), "me")
    assert len(page.messages) < RARE
    assert page.cursor is not None
    assert node.log.offsets_read <= 1_024


class Blocky:
    """An engine whose index knows blocks of some offsets, or nothing of them."""

    def __init__(self, node: LogNode, ends: dict[int, list[int]], unknown: set[tuple[int, int]]) -> None:
        self._node = node
        self._ends = ends
        self._unknown = unknown

    def __getattr__(self, name: str) -> Any:
        return getattr(self._node.engine, name)

    def blocks(self, channel: str, topic: str, partition: int, start: int, stop: int) -> list[tuple[int, int]]:
        ranges: list[tuple[int, int]] = []
        offsets = {r.offset for r in self._node.log.partitions.get(partition, []) if r.key == channel.encode()}
        low = 0
        for high in [*self._ends.get(partition, []), 1 << 62]:
            may = (partition, low) in self._unknown or any(low <= offset < high for offset in offsets)
            first, last = max(low, start), min(high, stop)
            if may and first < last:
                joins = ranges and ranges[-1][1] == first
                ranges[-1:] = [(ranges[-1][0], last)] if joins else [*ranges[-1:], (first, last)]
            low = high
        return ranges


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_every_message_once_and_in_order_whatever_the_index_knows(data: st.DataObject) -> None:
    log = MemoryLog()
    partitions = data.draw(st.integers(1, 3))
    for number in range(data.draw(st.integers(0, 60))):
        log.put(
            data.draw(st.sampled_from("cdd")),
            f"{number}",
            partition=data.draw(st.integers(0, partitions - 1)),
            timestamp=1_000 + number,
            gap=data.draw(st.sampled_from([0, 0, 0, 2])),
            message_id=data.draw(st.sampled_from([None, None, f"id-{number}", f"id-{number - 7}"])),
        )
    ends = {
        partition: sorted(data.draw(st.sets(st.integers(1, max(1, end)), max_size=12)))
        for partition, end in log.ends.items()
    }
    starts = {(partition, low) for partition, of in ends.items() for low in (0, *of)}
    unknown = {block for block in sorted(starts) if data.draw(st.integers(0, 3)) == 0}
    reads = {number: log.ends.get(number, 0) for number in range(partitions)}
    node = LogNode(log, starts={number: data.draw(st.integers(0, end)) for number, end in reads.items()})
    node.read_on()
    forwards, limit = data.draw(st.booleans()), data.draw(st.integers(1, 7))

    indexed = Blocky(node, ends, unknown)
    try:
        found = [
            asyncio.run(all_of(memory, log, "c", forwards=forwards, limit=limit)) for memory in (node.engine, indexed)
        ]
    finally:
        node.engine.close()
    assert found[0] == found[1]
