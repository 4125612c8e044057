"""Compares what publishers were told with what the log has.

Rules:

- What was acknowledged is in the log once, where the acknowledgement's serial says, and a publisher's messages to a
  channel are there in the order in which it published them. A serial of a record that repeats it is counted apart: the
  message is there once all the same. So is a message that a later one overtook if either was sent again: a node may
  have refused it without its publisher's hearing of that, and another one, sent it again, have written it.
- What was refused, and what has no answer, may be there once or not, and at any place: a refusal can come before the
  record is written, or after. Having no answer at the end is a fault all the same, for publishers wait long enough.

Pure.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from fanout._core import message_serial
from fanout.audit.expected import Entry, Expected, message_of
from fanout.types import Record

__all__ = ["FAULTS", "Publish", "Published", "judge_publishes"]

FAULTS: Final = ("missing", "twice", "misplaced", "disordered", "unanswered", "strange")


@dataclass(slots=True)
class Publish:
    """One message of a publisher's, and what it was told of it: a serial, a code, or nothing yet."""

    publisher: str
    channel: str
    text: str
    serial: str | None = None
    code: int | None = None
    sent: int = 0
    """How often it was sent: again, after the connection broke before the answer."""
    last_sent_ms: int = 0
    """When it was sent last, in ms since 1970."""


@dataclass(slots=True)
class Published:
    """What became of all publishes."""

    published: int = 0
    acknowledged: int = 0
    refused: Counter[int] = field(default_factory=Counter)
    """By code."""
    sent_again: int = 0
    """Publishes sent more than once."""
    cut_off: int = 0
    """Publishes that the log had before they were sent for the last time: the answer was lost, not the message."""
    overtaken: int = 0
    """Behind a message that was published later, where one of the two was sent again."""
    under_repeats: int = 0
    """Acknowledged with the serial of a record that repeats the message."""
    faults: Counter[str] = field(default_factory=Counter)
    """By kind: missing (acknowledged, and not in the log), twice, misplaced (not where the acknowledgement says),
    disordered, unanswered, strange (nobody here published it)."""
    examples: dict[str, str] = field(default_factory=dict)
    """The first of each kind."""

    @property
    def exact(self) -> bool:
        """Whether the promise was kept."""
        return not self.faults

    def fault(self, kind: str, channel: str, text: str) -> None:
        """One more fault of that kind."""
        self.faults[kind] += 1
        self.examples.setdefault(kind, f"{text!r} in {channel}")


def judge_publishes(publishes: Iterable[Publish], expected: Expected) -> Published:
    """The verdict on all publishes. No publisher says the same text to a channel twice."""
    result = Published()
    channels = expected.channels
    repeats = {_serial(record): message_of(record).id for record in expected.repeated}
    by_channel: dict[str, list[Publish]] = {}
    for publish in publishes:
        by_channel.setdefault(publish.channel, []).append(publish)
        _count(publish, result)
    for channel in by_channel.keys() | channels.keys():
        _judge_channel(channel, by_channel.get(channel, []), channels.get(channel, ()), repeats, result)
    return result


def _count(publish: Publish, result: Published) -> None:
    result.published += 1
    result.sent_again += publish.sent > 1
    if publish.serial is not None:
        result.acknowledged += 1
    elif publish.code is not None:
        result.refused[publish.code] += 1
    else:
        result.fault("unanswered", publish.channel, publish.text)


def _judge_channel(
    channel: str,
    publishes: Sequence[Publish],
    entries: Sequence[Entry],
    repeats: Mapping[str, str],
    result: Published,
) -> None:
    found: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        found.setdefault(entry.message.text, []).append(index)
    reached: dict[str, tuple[int, bool]] = {}
    for publish in publishes:
        places = found.pop(publish.text, [])
        if not places:
            if publish.serial is not None:
                result.fault("missing", channel, publish.text)
            continue
        if len(places) > 1:
            result.fault("twice", channel, publish.text)
        message, record = entries[places[0]]
        if publish.serial not in (None, _serial(record)):
            if repeats.get(publish.serial) == message.id:
                result.under_repeats += 1
            else:
                result.fault("misplaced", channel, publish.text)
        result.cut_off += publish.sent > 1 and record.timestamp < publish.last_sent_ms
        if publish.serial is not None:
            last, was_sent_again = reached.get(publish.publisher, (-1, False))
            if places[0] > last:
                reached[publish.publisher] = places[0], publish.sent > 1
            elif publish.sent > 1 or was_sent_again:
                result.overtaken += 1
            else:
                result.fault("disordered", channel, publish.text)
    for text in found:
        result.fault("strange", channel, text)


def _serial(record: Record) -> str:
    return message_serial(record.topic, record.partition, record.offset)
