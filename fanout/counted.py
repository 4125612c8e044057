"""How many partitions topics have had: nodes tell each other through the log, each time a fact.

Where a topic's keys tell their partitions, what was written before it got more of them lies where the former number
puts it, and some producers go on by that for minutes. A node that starts later sees only the number of now. So each
number that a node has seen is remembered in a fact, `partitions:<topic id>`, and every node knows all of them before it
is ready: then they all agree on which records lie where they should.

Facts are joined: what one node has seen and another's fact lacks is written again.
"""

import asyncio
import random
import threading
from collections.abc import Callable
from typing import Final

from fanout.control import Control, Fact

__all__ = ["Counted"]

KIND: Final = "partitions"
TOPICS_MAX: Final = 10_000  # of which facts are remembered; those of topics that are no more among them
COUNTS_MAX: Final = 8  # of one topic, the highest: as many as the engine tells apart
COUNT_MAX: Final = 1_000_000
TELL_S: Final = 1.0  # between two looks at what nobody has told yet


class Counted:
    """The numbers of partitions that topics have, and have had. Belongs to the loop, but for `topic` and `gone`."""

    def __init__(
        self, control: Control, take: Callable[[str, bytes, int], None], is_certain: Callable[[str], bool]
    ) -> None:
        """`take` is told of each number, by topic and id; `is_certain` says of which topics it matters."""
        self._control = control
        self._take = take
        self._is_certain = is_certain
        self._lock = threading.Lock()  # so that a topic which was made anew is never given a number of its former self
        self._ids: dict[str, bytes] = {}  # of the topics that there are
        self._seen: dict[str, set[int]] = {}  # by id: seen here, or heard of
        self._told: dict[str, frozenset[int]] = {}  # by id: what the log's fact says
        self._names: dict[str, str] = {}
        self._loop = asyncio.get_running_loop()
        control.listen(KIND, self._heard)

    def topic(self, topic: str, topic_id: bytes, partitions: int, /) -> None:
        """See `fanout.sources.base.Sink.topic`. For the source's thread."""
        with self._lock:
            self._ids[topic] = topic_id
            self._take(topic, topic_id, partitions)
        if self._is_certain(topic):
            self._loop.call_soon_threadsafe(self._counted, topic, topic_id, partitions)

    def gone(self, topic: str, /) -> None:
        """See `fanout.sources.base.Sink.gone`: no number is given for it any more. For the source's thread."""
        with self._lock:
            self._ids.pop(topic, None)

    async def run(self, ready: asyncio.Event) -> None:
        """Tells what nobody has told, once the node has read what others have; until cancelled."""
        await ready.wait()
        while True:
            for name, topic in list(self._names.items()):
                counts = frozenset(sorted(self._seen.get(name, ()))[-COUNTS_MAX:])
                if not counts <= self._told.get(name, frozenset()):
                    self._control.tell(KIND, name, {"topic": topic, "counts": sorted(counts)})
            await asyncio.sleep(TELL_S * random.uniform(0.5, 1.5))  # so that nodes do not all do it

    def _counted(self, topic: str, topic_id: bytes, partitions: int) -> None:
        name = topic_id.hex()
        self._names = {other: of for other, of in self._names.items() if of != topic} | {name: topic}
        self._seen.setdefault(name, set()).add(partitions)
        self._learn(topic, topic_id)

    def _heard(self, name: str, fact: Fact) -> None:
        counts = [] if fact is None else fact.get("counts")
        if not isinstance(counts, list) or not all(isinstance(n, int) and 0 < n < COUNT_MAX for n in counts):
            return
        if name not in self._seen and len(self._seen) >= TOPICS_MAX:
            return
        self._told[name] = frozenset(counts)
        self._seen.setdefault(name, set()).update(counts[-COUNTS_MAX:])
        if (topic := self._names.get(name)) is not None:
            self._learn(topic, bytes.fromhex(name))

    def _learn(self, topic: str, topic_id: bytes) -> None:
        for count in sorted(self._seen[topic_id.hex()]):
            with self._lock:
                if self._ids.get(topic) == topic_id:
                    self._take(topic, topic_id, count)
