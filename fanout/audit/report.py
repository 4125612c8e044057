"""What an audit found, in counts. Pure."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from fanout.audit.expected import Expected
from fanout.audit.publishes import FAULTS, Publish, Published, judge_publishes
from fanout.audit.verdict import KINDS, Judge
from fanout.audit.views import Catalogue, View

__all__ = ["STORIES_OF_GAP", "Clients", "Report", "judge"]

EXAMPLES_MAX: Final = 10
STORIES_OF_GAP: Final = 3
"""Clients that were told of a gap, of each code, whose stories are wanted."""


@dataclass(slots=True)
class Clients:
    """How the clients fared, all together."""

    subscribers: int = 0
    publishers: int = 0
    connections: int = 0
    """CONNECTED, ever."""
    refusals: int = 0
    """Connections that were not resumed but given anew."""
    errors: Counter[int] = field(default_factory=Counter)
    """Channels refused after they had been attached, by code."""
    ended: list[str] = field(default_factory=list)
    """Why clients were sent away for good."""


@dataclass(slots=True)
class Report:
    """The verdict on everything, and the figures that it rests on."""

    clients: Clients
    published: Published
    records: int = 0
    """Messages in the log, repeats left out."""
    repeated: int = 0
    """Records in the log that repeat an id: the answer to the first was lost, and another node wrote the second."""
    channels: int = 0
    views: int = 0
    delivered: int = 0
    differences: Counter[str] = field(default_factory=Counter)
    """By kind, of all views."""
    gaps: Counter[str] = field(default_factory=Counter)
    """By code."""
    covered: int = 0
    """Deliveries that are missing and a gap says so."""
    examples: list[str] = field(default_factory=list)
    wanted: dict[str, str] = field(default_factory=dict)
    """Of which clients it is to be told what happened to them, and why: not all that differ, and some with gaps."""
    stories: list[str] = field(default_factory=list)
    """What happened to those."""

    @property
    def exact(self) -> bool:
        """Whether every promise was kept. Who was sent away for good can prove nothing."""
        return not self.differences and self.published.exact and not self.clients.ended

    def __str__(self) -> str:
        published, clients = self.published, self.clients
        lines = [
            f"clients    {clients.subscribers:,} subscribers and {clients.publishers:,} publishers, "
            f"{clients.connections:,} connections, {clients.refusals:,} not resumed, "
            f"channels refused {_by(clients.errors)}, {len(clients.ended):,} sent away",
            f"published  {published.published:,}: {published.acknowledged:,} acknowledged, "
            f"refused {_by(published.refused)}, {published.sent_again:,} sent again, "
            f"of which the log had {published.cut_off:,}, "
            f"{published.under_repeats:,} acknowledged under a repeat's serial, {published.overtaken:,} overtaken",
            f"log        {self.records:,} messages in {self.channels:,} channels, {self.repeated:,} repeats; "
            "of what was published: " + _each(FAULTS, published.faults),
            f"delivered  {self.delivered:,} to {self.views:,} views: " + _each(KINDS, self.differences),
            f"gaps       {_by(self.gaps)}; they cover {self.covered:,} deliveries",
            *(f"  {example}" for example in self.examples),
            *(f"story of {story}" for story in self.stories),
            "exact" if self.exact else "NOT exact",
        ]
        return "\n".join(lines)


def judge(
    clients: Clients,
    publishes: Iterable[Publish],
    expected: Expected,
    views: Mapping[str, Iterable[tuple[str, View]]],
    catalogues: Mapping[str, Catalogue],
) -> Report:
    """The report; `views` has for each channel its subscribers' names and views, `catalogues` those they share."""
    published = judge_publishes(publishes, expected)
    report = Report(clients, published, repeated=len(expected.repeated), channels=len(expected.channels))
    report.examples += [f"{kind}: {text}" for kind, text in published.examples.items()]
    report.examples += clients.ended[:EXAMPLES_MAX]
    told: dict[str, set[str]] = {}
    for channel, of_channel in views.items():
        entries = expected.channels.get(channel, [])
        report.records += len(entries)
        judging = Judge(channel, entries, catalogues[channel])
        for name, view in of_channel:
            verdict = judging.check(view)
            report.views += 1
            report.delivered += verdict.seen
            report.covered += verdict.covered
            codes = [str(gap.code) for gap in view.gaps]
            report.gaps.update(codes)
            for code in codes:
                names = told.setdefault(code, set())
                if len(names) < STORIES_OF_GAP:
                    names.add(name)
                    report.wanted.setdefault(name, f"told of gap {code}")
            report.differences.update({kind: found.times for kind, found in verdict.differences.items()})
            if not verdict.exact and len(report.examples) < EXAMPLES_MAX:
                report.examples.append(f"{name}, {verdict}")
                report.wanted[name] = "not exact"
    return report


def _by(counts: Counter[str] | Counter[int]) -> str:
    return ", ".join(f"{code}: {times:,}" for code, times in sorted(counts.items())) or "none"


def _each(kinds: Iterable[str], counts: Counter[str]) -> str:
    return ", ".join(f"{counts[kind]:,} {kind}" for kind in kinds)
