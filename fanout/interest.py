"""Which partitions of topics that are read on demand this node needs, and so reads.

- Of such a topic a partition is read from when somebody here first needs one of its channels: a client that attaches,
  a subscription inside the process, who looks back, and who publishes, for a publish that is sent again is recognised
  among those of the window before. It is read from one history window and one de-duplication window back, like all are
  at the start; until that is read nobody is told where the channel stands.
- What channels in use need is looked at every `LOOK_S`: where a topic has grown, a channel's messages come in another
  partition too.
- A publish waits until its partition is read, `WAIT_S` at most, behind those of its channel that wait already; at most
  `WAITING_MAX` do.

Belongs to the event loop but for `caught_up`.
"""

import asyncio
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Collection
from typing import Final, NamedTuple, Protocol

from fanout.errors import SourceBusy, SourceError, SourceTimeout
from fanout.sources.base import Source

__all__ = ["Interest"]

LOOK_S: Final = 5.0
WAIT_S: Final = 5.0  # as long as an attachment waits
RETRY_S: Final = 0.005
PER_TURN: Final = 100  # channels looked at in one turn of the loop: a millisecond
WAITING_MAX: Final = 10_000  # publishes; those of a second that all came for partitions not read before

Where = tuple[str, int]

log = logging.getLogger(__name__)


class Lies(Protocol):
    """What knows where channels lie; `fanout._core.Engine` answers this."""

    def partitions_of(self, channel: str, /) -> list[Where]:
        """The partitions that are known to be a channel's."""

    def needed(self) -> list[Where]:
        """Those of all channels in use."""


class _Publish(NamedTuple):
    """What waits until a partition is read."""

    go: Callable[[], None]
    fail: Callable[[SourceError], None]
    until: float


class Interest:
    """What this node reads of topics that are read on demand."""

    def __init__(self, lies: Lies, source: Source, topics: Collection[str]) -> None:
        """`topics` are those that are read on demand; where there are none, nothing waits for anything."""
        self._lies = lies
        self._source = source
        self._topics = frozenset(topics)
        self._asked: set[Where] = set()
        self._read: set[Where] = set()
        self._publishes: OrderedDict[str, deque[_Publish]] = OrderedDict()  # by channel
        self._waiting = 0
        self._loop = asyncio.get_running_loop()
        self._publishing: asyncio.Task[None] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """For the metrics: partitions that are read on demand, and those of them that are not caught up yet."""
        return {"read_on_demand": len(self._asked), "catching_up": len(self._asked - self._read)}

    def caught_up(self, topic: str, partition: int) -> None:
        """A partition was read up to where its log ended when it was asked for. From any thread."""
        self._loop.call_soon_threadsafe(self._read.add, (topic, partition))

    def has(self, channel: str) -> bool:
        """Whether all that may feed the channel is read here; what is not will be."""
        return not self._topics or self._has(self._lies.partitions_of(channel))

    async def wait(self, channel: str) -> bool:
        """The same, after a while in which it may come to be."""
        deadline = self._loop.time() + WAIT_S
        while not self.has(channel):
            if self._loop.time() > deadline:
                return False
            await asyncio.sleep(RETRY_S)
        return True

    def when_read(self, channel: str, go: Callable[[], None], fail: Callable[[SourceError], None]) -> None:
        """Calls `go` when all that may feed the channel is read, now or later and in the order of the calls; or `fail`:
        with SourceTimeout, or with SourceBusy when too many wait.
        """
        if channel not in self._publishes and self.has(channel):
            go()
        elif self._waiting == WAITING_MAX:
            fail(SourceBusy(f"{WAITING_MAX} publishes wait for partitions to be read"))
        else:
            self._waiting += 1
            publish = _Publish(go, fail, self._loop.time() + WAIT_S)
            self._publishes.setdefault(channel, deque()).append(publish)
            if self._publishing is None:
                self._publishing = self._loop.create_task(self._publish())

    async def run(self) -> None:
        """Looks at what channels in use need, until cancelled."""
        while self._topics:
            await asyncio.sleep(LOOK_S)
            self._has(await asyncio.to_thread(self._lies.needed))

    def close(self) -> None:
        """Nothing waits any more."""
        if self._publishing is not None:
            self._publishing.cancel()

    def _has(self, partitions: Collection[Where]) -> bool:
        needed = [where for where in partitions if where[0] in self._topics]
        for where in needed:
            if where not in self._asked:
                self._asked.add(where)
                log.info("topic %r, partition %d is read from now on", *where)
                self._source.read_partition(*where)
        return self._read.issuperset(needed)

    async def _publish(self) -> None:
        """Lets publishes go whose partitions are read, or whose time is up. Where channels lie is only asked anew when
        more has been read.
        """
        known = -1
        while self._publishes:
            await asyncio.sleep(RETRY_S)
            is_news, known = len(self._read) != known, len(self._read)
            for count, (channel, waiting) in enumerate(list(self._publishes.items()), 1):
                is_read = is_news and self.has(channel)
                while waiting and (is_read or self._loop.time() > waiting[0].until):
                    publish = waiting.popleft()
                    self._waiting -= 1
                    if is_read:
                        publish.go()
                    else:
                        publish.fail(SourceTimeout("a partition was not read in time"))
                if not waiting:
                    del self._publishes[channel]
                if count % PER_TURN == 0:
                    await asyncio.sleep(0)
        self._publishing = None
