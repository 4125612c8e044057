"""Partitions that there were when this node began, and that it could not begin to read: nobody has led them since.

The node serves without them. Where a channel stands that one of them may feed is not known until somebody leads it: a
place that did not speak of it would be taken for one from before it was added, and all that it has for news. So who
asks for such a place waits, as for a partition that is read on demand (`interest`). Those that are added while the node
runs are news from their beginning: for them nobody waits.

`feeds` belongs to the event loop, the rest to the source's thread.
"""

from collections.abc import Callable, Collection

__all__ = ["Unbegun"]

_Where = tuple[str, int]


class Unbegun:
    """See the module's text."""

    def __init__(
        self,
        on_demand: Collection[str],
        partitions_of: Callable[[str], Collection[_Where]],
        may_make: Callable[[str, str], bool],
        tells_partition: Callable[[str], bool],
    ) -> None:
        """Topics that are `on_demand` are none of these. `partitions_of` gives those that are known to be a channel's;
        `may_make` says of a topic and a channel whether its records may be messages of it, and `tells_partition`
        whether its keys tell their partitions.
        """
        self._on_demand = frozenset(on_demand)
        self._partitions_of = partitions_of
        self._may_make = may_make
        self._tells_partition = tells_partition
        self._counts: dict[str, int] = {}  # by topic
        self._left: set[_Where] = set()
        self._is_ready = False

    def counted(self, topic: str, partitions: int) -> None:
        """A topic has so many partitions; none: it is gone."""
        if not self._is_ready and topic not in self._on_demand:
            self._left.update((topic, number) for number in range(self._counts.get(topic, 0), partitions))
            self._counts[topic] = partitions
        for where in [where for where in self._left if where[0] == topic and where[1] >= partitions]:
            self._left.discard(where)

    def began(self, topic: str, partition: int) -> bool:
        """Reading of a partition begins; whether somebody may wait for that."""
        is_awaited = self._is_ready and (topic, partition) in self._left
        self._left.discard((topic, partition))
        return is_awaited

    def ready(self) -> None:
        """All that can be read has begun; what is counted from now on is new."""
        self._is_ready = True

    def feeds(self, channel: str) -> bool:
        """Whether one of them may feed the channel, though the node is ready."""
        if not self._left or not self._is_ready:
            return False
        own = self._partitions_of(channel)
        return any(
            where in own if self._tells_partition(where[0]) else self._may_make(where[0], channel)
            for where in tuple(self._left)
        )
