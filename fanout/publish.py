"""Messages on their way to the log, and what becomes of repeats.

Every publish of a node passes here, whatever it came by. One message is one record, that of its channel's target
(`fanout.targets`).

A repeat is a message whose id its channel has already. It gets no second record but the answer of the first, whether
that one has been read back (`Engine.find`), is confirmed and not read back yet (`recent`), or is still being written
(`writing`). Repeats that slip through, by way of another node, are recognised by every reader. What is confirmed counts
for the de-duplication window from when it was handed over, so that an id is never taken for a repeat that the readers
would not take for one.
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from fanout._core import DEDUP_WINDOW_MS, message_serial
from fanout.errors import ErrorInfo, SourceError, not_written
from fanout.sources.base import Appended, Appends, NewRecord
from fanout.targets import Targets
from fanout.types import OutMessage

__all__ = ["Publisher"]

log = logging.getLogger(__name__)

RECENT_MAX = 20_000  # messages; as many as a source lets wait, so that a full one's are all known until read back
WINDOW_S = DEDUP_WINDOW_MS / 1_000

WhenRead = Callable[[str, Callable[[], None], Callable[[SourceError], None]], None]
Written = Callable[["list[str] | SourceError"], None]
Key = str  # channel, NUL, message id: no channel's name holds a NUL


class Seen(Protocol):
    """The messages that a node has read; `fanout._core.Engine` answers this."""

    def find(self, channel: str, message_id: str) -> str | None:
        """The serial of the message with this id, if the de-duplication window holds it."""


@dataclass(slots=True)
class _Publish:
    """One call until it is answered: `serials` fill up, in the order of the messages."""

    serials: list[str]
    missing: int
    done: Written

    def fill(self, index: int, serial: str) -> None:
        self.serials[index] = serial
        self.missing -= 1
        if self.missing == 0:
            self._answer(self.serials)

    def fail(self, problem: SourceError) -> None:
        if self.missing > 0:
            self.missing = 0
            self._answer(problem)

    def _answer(self, result: "list[str] | SourceError") -> None:
        try:
            self.done(result)
        except Exception:  # of one caller's: others may wait for the same record
            log.exception("a publish ends with an error that was not expected")


Waiter = tuple[_Publish, int]  # a call, and the index of its message


class Publisher:
    """Writes messages to the log. Belongs to the event loop; nothing blocks."""

    def __init__(
        self,
        seen: Seen,
        log: Appends,
        targets: Targets,
        took: Callable[[float], None] = lambda seconds: None,
        clock: Callable[[], float] = time.monotonic,
        when_read: WhenRead = lambda channel, go, fail: go(),
    ) -> None:
        """`took` is told how long each write waited for the log; `clock` reads seconds that never go back. `when_read`
        calls its second argument, now or later, when the channel is read here, and so its repeats are known; or the
        third.
        """
        self._seen = seen
        self._log = log
        self._targets = targets
        self._took = took
        self._clock = clock
        self._when_read = when_read
        self._writing: dict[Key, list[Waiter]] = {}  # bounded by what the log takes at once
        self._recent: OrderedDict[Key, tuple[str, float]] = OrderedDict()  # serial, and when it was handed over
        self.ends: dict[tuple[str, int], int] = {}
        """By topic and partition, the offset behind the last confirmed message: what is read may lag behind it."""
        self.counts = {"published": 0, "repeated": 0, "failed": 0}  # messages, for the metrics

    def publish(
        self, channel: str, messages: Sequence[OutMessage], done: Callable[[list[str] | ErrorInfo], None]
    ) -> None:
        """Writes the messages next to each other; for protocol clients.

        `done` is called once, on the loop, perhaps before this returns: with one serial for each message when the log
        has all of them durably, or with the numbered error. The messages may be sent again under their ids.
        """
        self.write(
            channel,
            messages,
            lambda result: done(result if isinstance(result, list) else not_written(result, "message")),
        )

    def write(self, channel: str, messages: Sequence[OutMessage], done: Written) -> None:
        """As `publish`, but a failure is the exception itself: SourceBusy, SourceTimeout or SourceError.

        There is at least one message. Raises ValueError, and writes nothing, for text that UTF-8 cannot hold.
        """
        target = self._targets.of(channel)
        records = [target.record(message) for message in messages]
        self._when_read(channel, partial(self._write, channel, messages, records, done), done)

    def _write(self, channel: str, messages: Sequence[OutMessage], made: Sequence[NewRecord], done: Written) -> None:
        horizon = self._forget()
        call = _Publish([""] * len(messages), len(messages), done)
        known: list[tuple[int, str]] = []
        repeats: list[tuple[Key, Waiter]] = []  # of what is being written
        fresh: dict[Key, list[Waiter]] = {}
        records: list[NewRecord] = []  # one for each key of `fresh`
        for index, (message, record) in enumerate(zip(messages, made, strict=True)):
            key = f"{channel}\0{message.id}"
            if serial := self._recent_serial(key, horizon) or self._seen.find(channel, message.id):
                known.append((index, serial))
            elif key in self._writing:
                repeats.append((key, (call, index)))
            elif key in fresh:
                fresh[key].append((call, index))
            else:
                fresh[key] = [(call, index)]
                records.append(record)
        self.counts["repeated"] += len(messages) - len(fresh)
        self._writing.update(fresh)
        for key, waiter in repeats:
            self._writing[key].append(waiter)
        for index, serial in known:
            call.fill(index, serial)
        if fresh:
            self._append(list(fresh), records)

    def _append(self, keys: list[Key], records: list[NewRecord]) -> None:
        """Writes what has no record yet, and answers all that wait for it."""
        began = self._clock()

        def appended(result: list[Appended] | SourceError) -> None:
            self._took(self._clock() - began)
            self._appended(keys, began, result)

        try:
            self._log.append(records, appended)
        except SourceError as problem:
            self._appended(keys, began, problem)

    def _appended(self, keys: list[Key], began: float, result: list[Appended] | SourceError) -> None:
        waiting = [self._writing.pop(key) for key in keys]
        if isinstance(result, SourceError):
            self.counts["failed"] += len(keys)
            for waiters in waiting:
                for call, _ in waiters:
                    call.fail(result)
            return
        self.counts["published"] += len(keys)
        recent = self._recent
        for key, waiters, (topic, partition, offset, _) in zip(keys, waiting, result, strict=True):
            serial = message_serial(topic, partition, offset)
            self.ends[topic, partition] = offset + 1
            if key in recent:  # an expired one that a slower first still kept from being dropped
                del recent[key]
            recent[key] = serial, began
            for call, index in waiters:
                call.fill(index, serial)
        while len(recent) > RECENT_MAX:
            recent.popitem(last=False)

    def _recent_serial(self, key: Key, horizon: float) -> str | None:
        kept = self._recent.get(key)
        return None if kept is None or kept[1] < horizon else kept[0]

    def _forget(self) -> float:
        """Drops what no longer counts, oldest first; the time before which nothing does."""
        horizon = self._clock() - WINDOW_S
        while self._recent and next(iter(self._recent.values()))[1] < horizon:
            self._recent.popitem(last=False)
        return horizon
