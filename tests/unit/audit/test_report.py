"""What an audit prints: counts, and the first of what differs."""

from fanout.audit.publishes import Publish
from fanout.audit.report import STORIES_OF_GAP, Clients, Report, judge
from fanout.audit.views import Catalogue, View
from tests.unit.audit.entries import expected, message, record


def judged(*views: View, catalogue: Catalogue, clients: Clients | None = None) -> Report:
    """Of a channel with three messages, published by p, seen by these."""
    log = expected([*map(record, range(3)), record(3, message_id="id0")])
    publishes = [Publish("p", "c", message(number).text, code=50003, sent=1) for number in range(3)]
    named = [(f"subscriber {number}", view) for number, view in enumerate(views)]
    return judge(clients or Clients(len(views), 1), publishes, log, {"c": named}, {"c": catalogue})


def seen(catalogue: Catalogue, *numbers: int) -> View:
    return View.of(map(message, numbers), catalogue)


def test_everything_is_counted() -> None:
    catalogue = Catalogue()
    gone = seen(catalogue, 0)
    gone.gap(90003)
    gone.take(message(2))
    report = judged(seen(catalogue, 0, 1, 2), gone, catalogue=catalogue)
    assert report.exact
    assert (report.records, report.repeated, report.channels) == (3, 1, 1)
    assert (report.views, report.delivered, report.covered) == (2, 5, 1)
    assert report.gaps == {"90003": 1}
    printed = str(report)
    assert "3: 0 acknowledged, refused 50003: 3, 0 sent again" in printed
    assert "3 messages in 1 channels, 1 repeats" in printed
    assert "5 to 2 views: 0 lost, 0 doubled, 0 reordered, 0 foreign, 0 altered, 0 untyped" in printed
    assert "90003: 1; they cover 1 deliveries" in printed
    assert printed.endswith("\nexact")


def test_differences_of_all_views_add_up_and_the_first_are_shown() -> None:
    catalogue = Catalogue()
    views = [seen(catalogue, 0, 2) for _ in range(20)]
    report = judged(seen(catalogue, 0, 1, 1, 2), *views, catalogue=catalogue)
    assert report.differences == {"doubled": 1, "lost": 20}
    assert report.examples[0].startswith("subscriber 0, c: 1 doubled, first (2, ")
    assert len(report.examples) == 10
    assert str(report).endswith("\nNOT exact")


def test_a_fault_of_publishing_is_a_fault() -> None:
    catalogue = Catalogue()
    log = expected([record(0)])
    lost = Publish("p", "c", "text 1", serial="s")
    report = judge(Clients(), [lost], log, {"c": [("a", seen(catalogue, 0))]}, {"c": catalogue})
    assert not report.exact
    assert "1 missing" in str(report)
    assert "  missing: 'text 1' in c" in str(report)


def test_who_was_sent_away_for_good_proves_nothing() -> None:
    catalogue = Catalogue()
    report = judged(catalogue=catalogue, clients=Clients(ended=["key revoked (40141)"]))
    assert not report.exact
    assert "  key revoked (40141)" in str(report)


def test_whose_stories_are_wanted_is_bounded_and_those_that_differ_come_with_some_of_each_gap() -> None:
    catalogue = Catalogue()
    views = []
    for code in [90003] * (STORIES_OF_GAP + 1) + [80020]:
        view = seen(catalogue, 0)
        view.gap(code)
        view.take(message(2))
        views.append(view)
    report = judged(*views, seen(catalogue, 0, 2), catalogue=catalogue)
    told = dict.fromkeys(report.wanted.values())
    assert list(told) == ["told of gap 90003", "told of gap 80020", "not exact"]
    assert len(report.wanted) == STORIES_OF_GAP + 2
    report.stories.append("subscriber 5, not exact:\nlet in")
    assert "story of subscriber 5, not exact:\nlet in" in str(report)
