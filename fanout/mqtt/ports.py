"""What the sessions of MQTT clients need of others: names, the log, and who is alive."""

from collections.abc import Collection, Sequence
from typing import Protocol

from fanout.sources.base import Slice

__all__ = ["Lives", "Log", "Memory", "Places", "Stretch", "Topics"]

Places = Sequence[tuple[str, int, int]]
"""Topics, partitions and offsets."""

Stretch = tuple[str, int, int, int]
"""Topic, partition, and the offsets from and up to which."""


class Topics(Protocol):
    """How topics and channels are called; `fanout.transports.mqtt_topics.Topics` answers this. Realms aside."""

    def channel(self, topic: str, /) -> str:
        """The channel that a topic stands for."""
        ...

    def topic(self, channel: str, /) -> str:
        """The topic that stands for a channel."""
        ...


class Memory(Protocol):
    """What this node has read; `fanout._core.Engine` answers this."""

    def places(self, channel: str, position: str | None) -> list[tuple[str, int, int]]:
        """Topic, partition and next offset of a position; without one, of how far this node has read.

        Raises ValueError for what is no position of this channel in this log.
        """
        ...

    def position_at(self, channel: str, places: Sequence[tuple[str, int, int]]) -> str:
        """The position of these places. Raises ValueError for partitions that are not read."""
        ...

    def names(self, realm: str, prefix: str, after: str, limit: int, *, known: bool = ...) -> list[str]:
        """The channels in use whose names behind `realm` begin with `prefix`, in order, from behind `after` on; with
        `known` those too that hold nothing now and are not forgotten yet.
        """
        ...

    def held(
        self,
        channel: str,
        places: Sequence[tuple[str, int, int]],
        start_ms: int,
        end_ms: int,
        forwards: bool,
        limits: tuple[int, int],
    ) -> tuple[Sequence[object], list[int], list[int], bool]:
        """The third is, for each place, from which offset on memory holds all of the channel."""
        ...

    def watch_births(self, watch: bool) -> None:
        """Whether channels that begin are to be told by `born`."""

    def born(self) -> list[str] | None:
        """The channels that began since it was last asked; None if they were too many to be kept."""
        ...


class Log(Protocol):
    """The log itself; `fanout.sources.base.Source` answers this."""

    async def bounds(self, topic: str, partitions: Collection[int] | None = None) -> dict[int, tuple[int, int]]:
        """By partition, of these or all, the earliest offset there is, and the one behind the last. Raises
        SourceError.
        """
        ...

    async def read(self, topic: str, partition: int, start: int, stop: int) -> Slice:
        """What the log holds of these offsets, as far as fits. Raises SourceError."""
        ...


class Lives(Protocol):
    """Which nodes are alive; `fanout.presence.leases.Leases` answers this."""

    def is_gone(self, node: str, /) -> bool:
        """Whether a node has been silent for so long that others act for it."""
        ...
