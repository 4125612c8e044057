"""Compares what a subscriber was given of a channel with what the log says.

Rules:

- Promised is every message once, in the order of its partition. How those of several partitions mix is not.
- What is missing must be covered by a gap that the subscriber was told of, with a code: one that lies between what it
  was given before and what it was given behind, of that partition. A gap behind which nothing of the channel came
  covers nothing, so that silence never passes for honesty.
- A gap excuses nothing else: what comes behind it is neither doubled nor out of order.
- A message is known by its id; on a wire that has none by its payload.

Pure.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from fanout.audit.expected import Entry
from fanout.audit.views import Catalogue, Received, View

__all__ = ["KINDS", "Difference", "Judge", "Verdict"]

KINDS: Final = ("lost", "doubled", "reordered", "foreign", "altered", "untyped")


class Difference(NamedTuple):
    """So many of one kind, and the first of them: its index, in the log if it was lost, else in the view."""

    times: int
    first: tuple[int, Received | None]


@dataclass(slots=True)
class Verdict:
    """How one view differs from the log. `covered` messages are missing and a gap says so."""

    channel: str
    seen: int
    covered: int = 0
    differences: dict[str, Difference] = field(default_factory=dict)
    """By kind: lost, doubled, reordered, foreign (not in the log), altered (another payload), untyped (a gap without
    a code)."""

    @property
    def exact(self) -> bool:
        """Whether the promise was kept."""
        return not self.differences

    def count(self, kind: str) -> int:
        """How many differences of that kind there are."""
        found = self.differences.get(kind)
        return found.times if found is not None else 0

    def differs(self, kind: str, at: int, message: Received | None) -> None:
        """One more difference of that kind, at that index."""
        found = self.differences.get(kind, Difference(0, (at, message)))
        self.differences[kind] = found._replace(times=found.times + 1)

    def __str__(self) -> str:
        kinds = [f"{times} {kind}, first {first}" for kind, (times, first) in self.differences.items()]
        return f"{self.channel}: {'; '.join(kinds) or 'exact'}"


class Judge:
    """Judges all views of one channel that share a catalogue."""

    def __init__(self, channel: str, entries: Sequence[Entry], catalogue: Catalogue) -> None:
        """`entries` are the channel's messages in the log's order."""
        self._channel = channel
        self._entries = entries
        self._catalogue = catalogue
        self._exact = View.of((entry.message for entry in entries), catalogue).numbers
        self._places: dict[str, list[int]] = {}  # by id; past the de-duplication window an id is used again
        self._texts: dict[str, list[int]] = {}  # by payload, for wires without ids
        for index, entry in enumerate(entries):
            self._places.setdefault(entry.message.id, []).append(index)
            self._texts.setdefault(entry.message.text, []).append(index)

    def check(self, view: View) -> Verdict:
        """The verdict on one view."""
        verdict = Verdict(self._channel, len(view.numbers))
        if not view.gaps and view.numbers == self._exact:
            return verdict
        self._judge_missing(view, self._judge_given(view, verdict), verdict)
        for gap in view.gaps:
            if gap.code is None:
                verdict.differs("untyped", gap.at, None)
        return verdict

    def _judge_given(self, view: View, verdict: Verdict) -> list[int | None]:
        """Judges what was given; where in the view each entry is, None if it is not."""
        given: list[int | None] = [None] * len(self._entries)
        times = Counter[str]()
        reached: dict[tuple[str, int], int] = {}
        for at, number in enumerate(view.numbers):
            message = self._catalogue.message(number)
            places = self._places.get(message.id, ()) if message.id else self._texts.get(message.text, ())
            if not places:
                verdict.differs("foreign", at, message)
                continue
            known_by = message.id or message.text
            times[known_by] += 1
            if times[known_by] > len(places):
                verdict.differs("doubled", at, message)
                continue
            index = places[times[known_by] - 1]
            entry = self._entries[index]
            given[index] = at
            if index < reached.get(entry.partition, -1):
                verdict.differs("reordered", at, message)
            else:
                reached[entry.partition] = index
            if message.text != entry.message.text:
                verdict.differs("altered", at, message)
        return given

    def _judge_missing(self, view: View, given: Sequence[int | None], verdict: Verdict) -> None:
        """Judges what was not given: lost, unless a gap lies between its neighbours in the view."""
        behind = self._behind(given, len(view.numbers) - 1)
        gaps = [gap.at for gap in view.gaps]
        before: dict[tuple[str, int], int] = {}
        for index, at in enumerate(given):
            entry = self._entries[index]
            if at is not None:
                before[entry.partition] = at
                continue
            gap = bisect_right(gaps, before.get(entry.partition, -1))
            if gap < len(gaps) and gaps[gap] <= behind[index]:
                verdict.covered += 1
            else:
                verdict.differs("lost", index, entry.message)

    def _behind(self, given: Sequence[int | None], last: int) -> list[int]:
        """For each entry where in the view the next one of its partition is; `last`, if none came."""
        behind = [last] * len(given)
        nearest: dict[tuple[str, int], int] = {}
        for index in reversed(range(len(given))):
            partition = self._entries[index].partition
            behind[index] = nearest.get(partition, last)
            at = given[index]
            if at is not None:
                nearest[partition] = at
        return behind
