"""Which partitions of topics that are read on demand this node needs, and so reads.

- Of such a topic a partition is read from when somebody here first needs one of its channels: a client that attaches,
  a subscription inside the process, who looks back, and who publishes, for a publish that is sent again is recognised
  among those of the window before. It is read from one history window and one de-duplication window back, like all are
  at the start; until that is read nobody is told where the channel stands.
- What channels in use need is looked at every `LOOK_S`: where a topic has grown, a channel's messages come in another
  partition too. What has been added is read from its beginning, for those who were there before, until it was looked at
  once: this node may have slept meanwhile.
- What nobody has needed for as long as memory knows something of it that a new reading might not is let go: for one
  history window, so that who comes back meanwhile goes on from memory, and for one de-duplication window, so that a
  publish which is sent again is known. One partition at a time, one a look: what comes and goes costs the log little.
  Who needs one that is being let go has it asked for anew when the source has done with it.
- Who needs a channel that partitions may feed which could not be read since the start (`unbegun`) waits likewise; those
  are read without being asked for.
- A publish waits until its partition is read, `WAIT_S` at most, behind those of its channel that wait already; at most
  `WAITING_MAX` do.

Belongs to the event loop but for `caught_up`, `let_go`, `began` and `counting`.
"""

import asyncio
import logging
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple, Protocol

from fanout._core import DEDUP_WINDOW_MS
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

    def __init__(
        self,
        lies: Lies,
        source: Source,
        topics: Collection[str],
        history_ms: int,
        is_unbegun: Callable[[str], bool] = lambda _channel: False,
    ) -> None:
        """`topics` are those that are read on demand. `history_ms` is the history window. `is_unbegun` says of a
        channel whether partitions may feed it that could not be read since the start.
        """
        self._lies = lies
        self._source = source
        self._topics = frozenset(topics)
        self._is_unbegun = is_unbegun
        self._linger_s = max(history_ms, DEDUP_WINDOW_MS) / 1_000
        self._needed_at: dict[Where, float] = {}  # when somebody last did; of what is asked for
        self._read: set[Where] = set()
        self._leaving: Where | None = None
        self._counts: dict[str, tuple[bytes, int]] = {}  # by topic, which it is and how many it has
        self._added: set[Where] = set()  # since channels in use were looked at last
        self._counting = threading.Lock()
        self._news = 0  # how often something was read, or could be asked for anew
        self._changed = asyncio.Event()  # set when it is next
        self._publishes: OrderedDict[str, deque[_Publish]] = OrderedDict()  # by channel
        self._waiting = 0
        self._loop = asyncio.get_running_loop()
        self._publishing: asyncio.Task[None] | None = None

    @property
    def counts(self) -> dict[str, int]:
        """For the metrics: partitions that are read on demand, and those of them that are not caught up yet."""
        return {
            "read_on_demand": len(self._needed_at) + (self._leaving is not None),
            "catching_up": len(self._needed_at) - len(self._read),
        }

    def caught_up(self, topic: str, partition: int) -> None:
        """A partition was read up to where its log ended when it was asked for. From any thread."""
        self._loop.call_soon_threadsafe(self._caught_up, (topic, partition))

    def let_go(self, topic: str, partition: int) -> None:
        """Nothing more of a partition comes. From any thread."""
        self._loop.call_soon_threadsafe(self._has_let_go, (topic, partition))

    def began(self) -> None:
        """A partition that could not be read since the start is read. From any thread."""
        self._loop.call_soon_threadsafe(self._tell)

    @contextmanager
    def counting(self, topic: str, topic_id: bytes, partitions: int) -> Iterator[None]:
        """A topic has so many partitions, and while this is entered whoever knows where channels lie is told. From any
        thread.
        """
        with self._counting:
            known = self._counts.get(topic)
            if topic in self._topics:
                self._counts[topic] = (topic_id, partitions)
            if known is not None:
                first = known[1] if known[0] == topic_id else 0
                self._added.update((topic, number) for number in range(first, partitions))
            yield

    def has(self, channel: str) -> bool:
        """Whether all that may feed the channel is read here; what is not will be."""
        is_had = not self._topics or self._has(self._lies.partitions_of(channel))
        return is_had and not self._is_unbegun(channel)

    async def wait(self, channel: str) -> bool:
        """The same, after a while in which it may come to be."""
        try:
            async with asyncio.timeout(WAIT_S):
                while not self.has(channel):
                    await self._changed.wait()
        except TimeoutError:
            return False
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
        """Looks at what channels in use need, and what nobody does, until cancelled."""
        while self._topics:
            await asyncio.sleep(LOOK_S)
            added, needed = await asyncio.to_thread(self._look)
            self._has(needed)
            self._added.difference_update(added)
            self._let_one_go()

    def close(self) -> None:
        """Nothing waits any more."""
        if self._publishing is not None:
            self._publishing.cancel()

    def _look(self) -> tuple[set[Where], list[Where]]:
        """What had been added, of which it was known by then where channels lie; and what channels in use need."""
        with self._counting:
            added = set(self._added)
        return added, self._lies.needed()

    def _is_added(self, where: Where) -> bool:
        topic, number = where
        return where in self._added or (topic in self._counts and number >= self._counts[topic][1])

    def _has(self, partitions: Collection[Where]) -> bool:
        needed = [where for where in partitions if where[0] in self._topics]
        now = self._loop.time()
        for where in needed:
            if where == self._leaving:
                continue
            if where not in self._needed_at:
                log.info("topic %r, partition %d is read from now on", *where)
                self._source.read_partition(*where, whole=self._is_added(where))
            self._needed_at[where] = now
        return self._read.issuperset(needed)

    def _let_one_go(self) -> None:
        """Ends to read the partition that was needed least lately, if that is long ago."""
        if self._leaving is not None or not self._read:
            return
        where = min(self._read, key=lambda where: self._needed_at[where])
        if self._loop.time() - self._needed_at[where] > self._linger_s:
            log.info("topic %r, partition %d is let go: nobody here has needed it for a while", *where)
            self._read.discard(where)
            del self._needed_at[where]
            self._leaving = where
            self._source.let_go(*where)

    def _caught_up(self, where: Where) -> None:
        if where in self._needed_at:  # it may be leaving: one that began anew behind a loss is caught up twice
            self._read.add(where)
            self._tell()

    def _has_let_go(self, where: Where) -> None:
        if where == self._leaving:
            self._leaving = None
            self._tell()

    def _tell(self) -> None:
        self._news += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _publish(self) -> None:
        """Lets publishes go whose partitions are read, or whose time is up. Where channels lie is only asked anew when
        there is news.
        """
        known = -1
        while self._publishes:
            await asyncio.sleep(RETRY_S)
            is_news, known = self._news != known, self._news
            for count, (channel, waiting) in enumerate(list(self._publishes.items()), 1):
                is_read = is_news and self.has(channel)
                while waiting and (is_read or self._loop.time() > waiting[0].until):
                    publish = waiting.popleft()
                    self._waiting -= 1
                    try:
                        if is_read:
                            publish.go()
                        else:
                            publish.fail(SourceTimeout("a partition was not read in time"))
                    except Exception:  # of one caller's: the others wait for this task
                        log.exception("a publish ends with an error that was not expected")
                if not waiting:
                    del self._publishes[channel]
                if count % PER_TURN == 0:
                    await asyncio.sleep(0)
        self._publishing = None
