"""What a session may ask while it decides: questions answered at once, from memory, without I/O."""

from typing import Protocol

__all__ = ["Channels", "PlanLike"]


class PlanLike(Protocol):
    """Where an attachment would start; `fanout._core.Plan` answers this."""

    @property
    def outcome(self) -> int: ...
    @property
    def serial(self) -> str: ...
    @property
    def backlog(self) -> int: ...


class Channels(Protocol):
    """The node's channels; `fanout._core.Engine` answers this. The outcomes are the constants of `fanout._core`."""

    def locate(self, channel: str, serial: str | None, rewind_count: int, rewind_ms: int, now_ms: int) -> PlanLike:
        """Finds where an attachment starts; see `fanout._core.Engine.locate`."""
