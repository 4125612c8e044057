"""Statistics by the minute, as the protocol's SDKs ask for them (Ably protocol, "REST", `GET /stats`).

- An interval is a minute; hours, days and months are made of their minutes when somebody asks.
- Figures are dotted names and numbers. Counts add up; of a `.peak` the highest counts, of a `.min` the lowest.
- A node knows what it did itself since it was started, and keeps it for `MINUTES_KEPT`.

Pure: the owner reads the clock and the counters. Everything belongs to the event loop. Times are in ms, UTC.
"""

import calendar
import re
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from fanout.errors import ClientError, error

__all__ = ["UNITS", "Page", "Stats", "bounds_of", "flattened"]

MINUTES_KEPT: Final = 2_880
"""Two days, about 3 KiB for each minute."""

SCHEMA: Final = "https://schemas.ably.com/json/app-stats-0.0.5.json"
"""The names of the figures, by the identifier under which SDKs know them."""

UNITS: Final = {"minute": "%Y-%m-%d:%H:%M", "hour": "%Y-%m-%d:%H", "day": "%Y-%m-%d", "month": "%Y-%m"}
"""The units, and how an interval of each is written."""

_FIGURE_MAX: Final = 1 << 40  # a month's minutes of them add up to what JSON readers keep
_MINUTE_MS: Final = 60_000
_UNIT_MS: Final = {"minute": _MINUTE_MS, "hour": 60 * _MINUTE_MS, "day": 24 * 60 * _MINUTE_MS}
_LENGTHS: Final = {len(datetime(2000, 1, 1, tzinfo=UTC).strftime(form)): unit for unit, form in UNITS.items()}
_LAST_MS: Final = 253_402_300_799_999  # the last moment of the year 9999, after which the calendar knows none

Figures = Mapping[str, float]


class Page(NamedTuple):
    """Some intervals, in the order asked for; `following` is the start of the first that is left out, or None."""

    intervals: list[dict[str, Any]]
    following: int | None


class Stats:
    """What happened, minute by minute: in the node, and in what was handed in for an app."""

    def __init__(self) -> None:
        self._own: OrderedDict[int, dict[str, float]] = OrderedDict()
        self._given: dict[str, OrderedDict[int, dict[str, float]]] = {}
        self._last: dict[str, float] = {}

    def observe(self, now_ms: int, counters: Figures, levels: Figures) -> None:
        """Takes the node's counters, which only rise, and levels of the moment. To be called several times a minute."""
        interval = _interval(self._own, now_ms - now_ms % _MINUTE_MS)
        for name, value in counters.items():
            _join(interval, name, value - self._last.get(name, 0))
        for name, value in levels.items():
            _join(interval, name, value)
        self._last = dict(counters)

    def give(self, app_id: str, start_ms: int, figures: Figures) -> None:
        """Adds a minute of an app's past."""
        given = _interval(self._given.setdefault(app_id, OrderedDict()), start_ms - start_ms % _MINUTE_MS)
        for name, value in figures.items():
            _join(given, name, value)

    def forget(self, app_id: str) -> None:
        """Drops what was given for an app."""
        self._given.pop(app_id, None)

    def page(
        self, app_id: str, *, start_ms: int, end_ms: int, unit: str, forwards: bool, limit: int, now_ms: int
    ) -> Page:
        """The intervals of `unit` from the one of `start_ms` to the one of `end_ms`; at most `limit`."""
        minutes = {**self._given.get(app_id, {}), **self._own}
        wanted: dict[int, dict[str, float]] = {}
        following = None
        first = _begin(start_ms, unit)
        for minute in sorted(minutes, reverse=not forwards):
            begin = _begin(minute, unit)
            if not first <= begin <= end_ms:
                continue
            if begin not in wanted and len(wanted) == limit:
                following = begin
                break
            for figure, value in minutes[minute].items():
                _join(wanted.setdefault(begin, {}), figure, value)
        intervals: list[dict[str, Any]] = []
        for begin, entries in wanted.items():
            interval = {"intervalId": _written(begin, unit), "unit": unit, "schema": SCHEMA, "appId": app_id}
            if begin == _begin(now_ms, unit):
                interval["inProgress"] = _written(now_ms, "minute")
            intervals.append(interval | {"entries": entries})
        return Page(intervals, following)


def bounds_of(interval: str) -> tuple[int, int]:
    """The first and the last millisecond of an interval by its name. Raises ClientError 40003 for what is no name."""
    unit = _LENGTHS.get(len(interval), "")
    try:
        if not re.fullmatch(r"[0-9:-]+", interval):
            raise ValueError
        first = datetime.strptime(interval, UNITS[unit]).replace(tzinfo=UTC)
    except (KeyError, ValueError):
        raise ClientError(error(40003, "a time is in ms, or written like 2030-01-31:23:59, or shorter")) from None
    return _ms(first), _last(first, unit)


def flattened(nested: Mapping[str, Any]) -> dict[str, float]:
    """The figures of an interval in the form of older clients: objects within each other, traffic split by its kind.

    Raises ClientError 40000 for anything but numbers within objects.
    """
    figures: dict[str, float] = {}
    for path, value in _leaves(nested):
        for name in _names(path):
            _join(figures, name, value)
    return figures


def _leaves(nested: Mapping[str, Any], path: tuple[str, ...] = ()) -> Sequence[tuple[tuple[str, ...], float]]:
    if len(path) > 4:
        raise ClientError(error(40000, "figures are nested too deeply"))
    found: list[tuple[tuple[str, ...], float]] = []
    for name, value in nested.items():
        if isinstance(value, Mapping):
            found += _leaves(value, (*path, name))
        elif isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= _FIGURE_MAX:
            found.append(((*path, name), value))
        else:
            raise ClientError(error(40000, f"figures are numbers up to {_FIGURE_MAX}"))
    return found


def _names(path: tuple[str, ...]) -> Sequence[str]:
    """The flat names to which a nested figure adds: its own, and the sums that it is part of."""
    match path:
        case ("inbound" | "outbound" as way, channel, kind, figure):
            ways = [
                f"messages.{way}.{c}.{k}" for c in dict.fromkeys((channel, "all")) for k in dict.fromkeys((kind, "all"))
            ]
            return [f"{name}.{figure}" for name in (*ways, f"messages.all.{kind}", "messages.all.all")]
        case ("persisted", kind, figure):
            return [f"messages.persisted.{name}.{figure}" for name in dict.fromkeys((kind, "all"))]
        case ("connections", kind, figure):
            return [f"connections.{name}.{figure}" for name in dict.fromkeys((kind, "all"))]
        case ("apiRequests", figure):
            return [f"apiRequests.other.{figure}", f"apiRequests.all.{figure}"]
        case ("tokenRequests", figure):
            return [f"apiRequests.tokenRequests.{figure}", f"apiRequests.all.{figure}"]
        case _:
            return [".".join(path)]


def _join(figures: dict[str, float], name: str, value: float) -> None:
    known = figures.get(name)
    if known is None:
        figures[name] = value
    elif name.endswith(".peak"):
        figures[name] = max(known, value)
    elif name.endswith(".min"):
        figures[name] = min(known, value)
    else:
        figures[name] = known + value


def _interval(intervals: OrderedDict[int, dict[str, float]], minute: int) -> dict[str, float]:
    if minute not in intervals:
        intervals[minute] = {}
        if len(intervals) > MINUTES_KEPT:
            intervals.popitem(last=False)
    return intervals[minute]


def _begin(time_ms: int, unit: str) -> int:
    """When the interval of `unit` with this moment in it begins."""
    if unit != "month":
        return time_ms - time_ms % _UNIT_MS[unit]
    return _ms(datetime.fromtimestamp(min(time_ms, _LAST_MS) / 1000, UTC).replace(day=1, hour=0, minute=0, second=0))


def _written(time_ms: int, unit: str) -> str:
    return datetime.fromtimestamp(time_ms / 1000, UTC).strftime(UNITS[unit])


def _last(first: datetime, unit: str) -> int:
    """The last millisecond of the interval of `unit` that begins at `first`."""
    if unit != "month":
        return _ms(first) + _UNIT_MS[unit] - 1
    days = calendar.monthrange(first.year, first.month)[1]
    return _ms(first) + days * _UNIT_MS["day"] - 1


def _ms(moment: datetime) -> int:
    return int(moment.timestamp()) * 1000
