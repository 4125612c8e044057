"""One partition while it is read: how far, whether records wait in it, and what holds them up.

Rules: the reading thread writes, any thread reads. Times are monotonic, in seconds. A partition that was refused is
asked again every `RETRY_S`, and counts as well when it has been silent for as long: the client library tells a refusal
once, and of a partition without news nothing tells that it is over.
"""

from typing import Final

from fanout.sources.base import Held

__all__ = ["Reading"]

RETRY_S: Final = 5.0


class Reading:
    """A partition under way."""

    __slots__ = ("_asked_again", "_error", "_error_at", "_moved_at", "_refused_at", "end", "epoch", "next", "target")

    def __init__(self, start: int, end: int, epoch: int, now: float) -> None:
        """`end` is where the log ended just now, `epoch` the leader epoch up to the start, -1 if it has none."""
        self.next = start  # everything below has been delivered or will never exist
        self.target = end  # where the log ended when reading began
        self.end = end  # where it ended at the last fetch
        self.epoch = epoch
        self._moved_at = now  # or nothing waited then
        self._error = ""
        self._error_at = self._refused_at = now  # when it began; when it was met last
        self._asked_again = False

    def advance(self, position: int, end: int, now: float) -> bool:
        """Notes the client's position, and where the log ended at its last fetch; whether it was read further."""
        moved = position > self.next
        if moved:
            self.next = position
            self._error = ""
        self.end = max(self.end, end)
        if moved or self.end <= self.next:
            self._moved_at = now
        return moved

    @property
    def is_caught_up(self) -> bool:
        """Whether all is read that the log held when reading began."""
        return self.next >= self.target

    def waits(self, now: float) -> float:
        """For how long records have been there, and none of them came."""
        return now - self._moved_at

    def failed(self, error: str, now: float) -> bool:
        """Kafka refuses to let it be read; whether that is news."""
        new = error != self._error
        if not self._error:
            self._error_at = now
        self._error, self._refused_at, self._asked_again = error, now, False
        return new

    def is_refused(self, now: float) -> bool:
        """Whether Kafka has refused it for so long that it is not waited for."""
        return bool(self._error) and now - self._error_at >= RETRY_S

    def tries_again(self, now: float) -> bool:
        """Whether it was refused, and has to be asked for again now."""
        if not self._error or now - self._refused_at < RETRY_S:
            return False
        if self._asked_again:
            self._error = ""
            return False
        self._asked_again, self._refused_at = True, now
        return True

    def held(self, leaderless_since: float | None, unstable: bool | None, now: float) -> Held | None:
        """What holds it up. `unstable` tells, if it is known, whether the stable part of the log ends at `next`."""
        if self._error:
            return Held(now - self._error_at, f"it cannot be read: {self._error}")
        if leaderless_since is not None:
            return Held(now - leaderless_since, "no broker leads it")
        if self.end <= self.next or unstable is None:
            return None
        cause = "wait for a transaction to end" if unstable else "are not given by its leader"
        return Held(self.waits(now), f"records from offset {self.next} on {cause}")
