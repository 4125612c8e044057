"""The exceptions of fanout, and the numbered errors that clients see.

::

    FanoutError
    ├── ConfigError        an option is wrong; the text says which, and what would be right
    ├── SourceError        the log refused or failed
    │   ├── SourceBusy     too much is waiting to be written; the same call may succeed later
    │   ├── SourceTooLarge the log does not take records of this size
    │   └── SourceTimeout  the log did not confirm in time; whether it has the record is unknown
    ├── ContinuityLost     a subscription inside the process missed messages; the same iterator goes on
    └── ClientError        a client asked for what it cannot have: carries the numbered `ErrorInfo`

Numbers, statuses and texts live in `errors.json` beside this file alone; docs and tests read the same. A leaf but for
that.
"""

from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import orjson

__all__ = [
    "ClientError",
    "ConfigError",
    "ContinuityLost",
    "ErrorInfo",
    "FanoutError",
    "SourceBusy",
    "SourceDamaged",
    "SourceError",
    "SourceTimeout",
    "SourceTooLarge",
    "error",
    "not_written",
]


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """A numbered error, as frames and REST bodies carry it."""

    code: int
    status: int
    message: str

    def to_wire(self) -> dict[str, Any]:
        """The `error` field of a protocol message and of a REST body."""
        return {"code": self.code, "statusCode": self.status, "message": self.message}


class FanoutError(Exception):
    """The root of everything fanout raises on purpose."""


class ConfigError(FanoutError):
    """An option is wrong. The text names it and says what would be right."""


class SourceError(FanoutError):
    """The log refused or failed."""


class SourceBusy(SourceError):
    """Too much is waiting to be written. Nothing of this call was; it may succeed later."""


class SourceTooLarge(SourceError):
    """The log does not take records of this size; it never will."""


class SourceDamaged(SourceError):
    """What the log has there is not as it was written. The log counts as beginning behind that, from now on."""


class SourceTimeout(SourceError):
    """The log did not confirm in time. Whether it has the record is unknown; sending it again under its id is safe."""


class ContinuityLost(FanoutError):
    """A subscription inside the process cannot go on exactly where it was. Iterating on goes on where `reason` says.

    `reason` is `expired` (the log no longer has the messages that come next: goes on with the earliest it has),
    `conflated` (the channel has snapshots: goes on with the newest message of each key that was written since) or
    `foreign` (`since` is no position of this channel in this log: goes on with new messages).
    """

    def __init__(self, channel: str, reason: str) -> None:
        super().__init__(f"continuity lost on channel '{channel}': {reason}")
        self.channel = channel
        self.reason = reason


class ClientError(FanoutError):
    """A client asked for what it cannot have."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(f"{info.message} ({info.code})")
        self.info = info


def not_written(problem: SourceError, what: str) -> ErrorInfo:
    """The number of why the log did not take what was to be written: "message", say.

    What the log said stays in our own log: it may name hosts and topics.
    """
    if isinstance(problem, SourceBusy):
        return error(42910, "the log takes no more right now; try again")
    if isinstance(problem, SourceTooLarge):
        return error(40009, "the log takes no records of this size")
    if isinstance(problem, SourceTimeout):
        return error(50003, "send it again under the same id")
    return error(50000, f"the log refused the {what}")


@cache
def _table() -> dict[int, dict[str, Any]]:
    text = resources.files("fanout").joinpath("errors.json").read_bytes()
    return {entry["code"]: entry for entry in orjson.loads(text)}


def error(code: int, detail: str = "") -> ErrorInfo:
    """The numbered error `code`, with `detail` after the table's text.

    Raises KeyError for a number that the table does not hold.
    """
    entry = _table()[code]
    message = f"{entry['message']}: {detail}" if detail else entry["message"]
    return ErrorInfo(code, entry["status"], message)
