"""Coming back, to a node that began to read later, with a position that a checkpoint says."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from fanout._core import FOREIGN, RESUMED, UNREAD
from fanout.sources.base import Slice
from fanout.types import Record
from tests.unit.history.memory_log import MemoryLog
from tests.unit.replay.bed import Bed, Client

PARTITIONS = 20
NUMBER = 5
TOPIC = "checkpoints"
TOPIC_ID = b"checkpoint-topic"


class Log(MemoryLog):
    """Has checkpoints beside its messages."""

    def __init__(self) -> None:
        super().__init__()
        self.checkpoints: list[Record] = []
        for partition in range(PARTITIONS):
            self.put("other", "x", partition=partition)

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        if topic != TOPIC:
            return await super().read(topic, partition, start, stop)
        return Slice([record for record in self.checkpoints if start <= record.offset < stop], stop)

    def missed(self) -> list[str]:
        """Writes to the channel in partitions that never fed it."""
        for partition in (3, 17):
            self.put("c", str(partition), partition=partition)
        return ["3", "17"]


class Site:
    """Nodes of one log."""

    def __init__(self, stack: ExitStack) -> None:
        self.log = Log()
        self._stack = stack

    def node(self, checkpoints_from: int) -> Bed:
        """One that reads from the log's end on, and checkpoints from that one on."""
        bed = Bed(self.log, partitions=PARTITIONS)
        self._stack.callback(bed.close)
        bed.engine.partition(TOPIC, TOPIC_ID, 0, checkpoints_from)
        return bed

    def position(self, epoch: int = 0) -> str:
        """Where the channel stands, by a checkpoint of that leader epoch."""
        bed = self.node(NUMBER)
        known = bed.engine.checkpoints(TOPIC)
        value = known.next()
        assert value is not None
        self.log.checkpoints = [Record(TOPIC, 0, NUMBER, epoch, 0, None, value, None)]
        bed.engine.records(self.log.checkpoints)
        assert known.next() is None
        position = bed.engine.position("c")
        assert len(position) <= 40
        return position


@pytest.fixture
def site() -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(stack)


async def answered(bed: Bed, position: str) -> Client:
    client = bed.client()
    client.resume(position)
    await bed.until(lambda: client.answer is not ...)
    return client


async def test_its_checkpoint_is_read_back_and_then_what_was_missed(site: Site) -> None:
    position = site.position()
    expected = site.log.missed()
    bed = site.node(NUMBER + 1)
    assert bed.engine.locate("c", position, 0, 0, 0).outcome == UNREAD
    client = await answered(bed, position)
    assert client.answer.outcome == RESUMED
    await bed.until(lambda: len(client.values) == len(expected))
    assert sorted(client.values) == sorted(expected)


async def test_one_whose_checkpoint_is_gone_is_of_no_place(site: Site) -> None:
    position = site.position()
    site.log.missed()
    site.log.checkpoints = []
    client = await answered(site.node(NUMBER + 1), position)
    assert client.answer is None


async def test_one_whose_checkpoint_was_cut_off_is_of_no_place(site: Site) -> None:
    position = site.position(epoch=1)
    (cut,) = site.log.checkpoints
    site.log.checkpoints = [cut._replace(leader_epoch=2)]
    bed = site.node(NUMBER + 1)
    client = await answered(bed, position)
    assert client.answer is None
    assert bed.engine.locate("c", position, 0, 0, 0).outcome == FOREIGN
