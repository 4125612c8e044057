"""Looking back at once at what was just published: a node has confirmed it, but may have yet to read it back.

Who asks for history waits for that (`fanout.history.pages`). An attachment that begins in the past waits too, as for a
place that is ahead of the node: the session puts the question again. So does one on a channel that this node has not
read so far, because nobody needed it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from fanout.session.ports import Outcome, PlanLike

__all__ = ["Channels", "has_read"]

Where = tuple[str, int]


class _Memory(Protocol):
    """What the node has read; `fanout._core.Engine` answers this."""

    def places(self, channel: str, position: str | None, /) -> Sequence[tuple[str, int, int]]: ...

    def locate(
        self, channel: str, serial: str | None, rewind_count: int, rewind_ms: int, now_ms: int, /
    ) -> PlanLike: ...

    def filter(self, expression: str, /) -> Any: ...


class _Ahead:
    """Where an attachment would start of which the node cannot tell yet."""

    outcome = Outcome.AHEAD
    serial = ""
    first = ""
    backlog = 0
    has_presence = False


class Channels:
    """The node's channels as sessions see them: see `fanout.session.ports.Channels`."""

    def __init__(
        self, memory: _Memory, written: Mapping[Where, int], is_read: Callable[[str], bool] = lambda channel: True
    ) -> None:
        """`written` is how far this node has written, by topic and partition; `is_read` says of a channel whether all
        that may feed it is read here.
        """
        self._memory = memory
        self._written = written
        self._is_read = is_read

    def locate(self, channel: str, serial: str | None, rewind_count: int, rewind_ms: int, now_ms: int, /) -> PlanLike:
        """See `fanout.session.ports.Channels`."""
        if not self._is_read(channel):
            return _Ahead()
        if (rewind_count or rewind_ms) and not has_read(self._memory.places(channel, None), self._written):
            return _Ahead()
        return self._memory.locate(channel, serial, rewind_count, rewind_ms, now_ms)

    def filter(self, expression: str, /) -> Any:
        """See `fanout.session.ports.Channels`."""
        return self._memory.filter(expression)


def has_read(read: Sequence[tuple[str, int, int]], places: Mapping[Where, int]) -> bool:
    """Whether what was `read`, as topic, partition and next offset, reaches to `places` wherever they concern it."""
    return all(places.get((topic, partition), 0) <= end for topic, partition, end in read)
