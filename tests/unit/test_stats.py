"""Statistics by the minute, without a clock."""

from typing import Any

import pytest

from fanout.errors import ClientError
from fanout.stats import MINUTES_KEPT, UNITS, Page, Stats, bounds_of, flattened

MINUTE = 60_000
DAY = bounds_of("2025-02-03")[0]
EVERYTHING = (0, (1 << 53) - 1)


def page(stats: Stats, times: tuple[int, int] = EVERYTHING, **options: Any) -> Page:
    asked: dict[str, Any] = {"unit": "minute", "forwards": True, "limit": 100, "now_ms": 0} | options
    return stats.page("app", start_ms=times[0], end_ms=times[1], **asked)


def given(*minutes: int) -> Stats:
    stats = Stats()
    for minute in minutes:
        stats.give("app", DAY + minute * MINUTE, {"n": minute, "c.peak": minute, "c.min": minute})
    return stats


@pytest.mark.parametrize(
    ("name", "length"),
    [("2024-02", 29 * 24 * 60), ("2025-02-03", 24 * 60), ("2025-02-03:15", 60), ("2025-02-03:15:04", 1)],
)
def test_the_name_of_an_interval_says_its_bounds(name: str, length: int) -> None:
    first, last = bounds_of(name)
    assert last - first + 1 == length * MINUTE


@pytest.mark.parametrize(
    "name", ["", "2025", "2025-13", "2025-02-30", "2025-02-03:24", "2025-02-03T15", "20250203ab", "x" * 16]
)
def test_what_is_no_name_of_an_interval(name: str) -> None:
    with pytest.raises(ClientError, match="40003"):
        bounds_of(name)


def test_minutes_in_either_order() -> None:
    stats = given(1, 2, 3)
    names = [interval["intervalId"] for interval in page(stats).intervals]
    assert names == [f"2025-02-03:00:0{minute}" for minute in (1, 2, 3)]
    assert [interval["intervalId"] for interval in page(stats, forwards=False).intervals] == names[::-1]


@pytest.mark.parametrize("unit", list(UNITS))
def test_larger_units_are_made_of_minutes(unit: str) -> None:
    stats = given(1, 2, 59)
    found = page(stats, unit=unit).intervals
    assert sum(interval["entries"]["n"] for interval in found) == 62
    if unit != "minute":
        assert found[0]["entries"] == {"n": 62, "c.peak": 59, "c.min": 1}
        assert len(found) == 1


def test_intervals_that_a_bound_touches_are_whole() -> None:
    stats = given(1, 59, 61)
    (hour,) = page(stats, (DAY + 30 * MINUTE, DAY + 40 * MINUTE), unit="hour").intervals
    assert hour["entries"]["n"] == 60


@pytest.mark.parametrize("forwards", [True, False])
def test_pages_join_up(forwards: bool) -> None:
    stats = given(*range(7))
    whole = page(stats, forwards=forwards).intervals
    found, times = [], EVERYTHING
    while True:
        one = page(stats, times, forwards=forwards, limit=3)
        found += one.intervals
        if one.following is None:
            break
        times = (one.following, times[1]) if forwards else (times[0], one.following)
    assert found == whole


def test_counters_count_in_the_minute_in_which_they_rise() -> None:
    stats = Stats()
    stats.observe(DAY, {"n": 5}, {"c.peak": 3})
    stats.observe(DAY + 30_000, {"n": 7}, {"c.peak": 9})
    stats.observe(DAY + MINUTE, {"n": 8}, {"c.peak": 1})
    entries = [interval["entries"] for interval in page(stats).intervals]
    assert entries == [{"n": 7, "c.peak": 9}, {"n": 1, "c.peak": 1}]


def test_only_the_interval_of_this_moment_is_in_progress() -> None:
    found = page(given(1, 61), unit="hour", now_ms=DAY + 62 * MINUTE).intervals
    assert [interval.get("inProgress") for interval in found] == [None, "2025-02-03:01:02"]


def test_apps_do_not_see_what_was_given_for_others() -> None:
    stats = given(1)
    stats.give("other", DAY, {"n": 1})
    assert len(page(stats).intervals) == 1
    stats.forget("app")
    assert page(stats).intervals == []


def test_the_oldest_minute_goes_first() -> None:
    stats = given(*range(MINUTES_KEPT + 1))
    intervals = page(stats, limit=MINUTES_KEPT + 1).intervals
    assert len(intervals) == MINUTES_KEPT
    assert intervals[0]["entries"]["n"] == 1


def test_figures_of_older_clients() -> None:
    figures = flattened(
        {
            "inbound": {"realtime": {"messages": {"count": 5}}, "rest": {"messages": {"count": 1}}},
            "outbound": {"realtime": {"messages": {"count": 2}}},
            "persisted": {"presence": {"count": 20}},
            "connections": {"tls": {"peak": 20}},
            "channels": {"peak": 50},
            "apiRequests": {"succeeded": 50},
            "tokenRequests": {"succeeded": 60},
        }
    )
    assert figures["messages.inbound.all.messages.count"] == 6
    assert figures["messages.inbound.realtime.all.count"] == 5
    assert figures["messages.all.all.count"] == 8
    assert figures["messages.persisted.all.count"] == 20
    assert figures["connections.all.peak"] == figures["connections.tls.peak"] == 20
    assert figures["channels.peak"] == 50
    assert figures["apiRequests.all.succeeded"] == 110


@pytest.mark.parametrize(
    "nested",
    [
        {"a": "b"},
        {"a": None},
        {"a": True},
        {"a": 1 << 41},
        {"a": float("nan")},
        {"a": {"b": {"c": {"d": {"e": {"f": 1}}}}}},
    ],
)
def test_figures_that_are_none(nested: Any) -> None:
    with pytest.raises(ClientError, match="40000"):
        flattened(nested)
