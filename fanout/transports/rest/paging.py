"""Lists page by page: what a query asks for, and the links from one page to the others (Ably protocol, "REST").

What is wrong with a query raises ClientError 40003; the router makes the answer.
"""

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from fanout.errors import ClientError, error
from fanout.types import END_OF_TIME

__all__ = ["check_times", "is_forwards", "page_limit", "page_links", "time_range", "whole_number"]

_PAGE: Final = 100
_PAGE_MAX: Final = 1_000


def page_limit(query: Mapping[str, str]) -> int:
    """How many items a page may have."""
    limit = whole_number(query, "limit", _PAGE)
    if not 1 <= limit <= _PAGE_MAX:
        raise ClientError(error(40003, f"limit is from 1 to {_PAGE_MAX}"))
    return limit


def is_forwards(query: Mapping[str, str]) -> bool:
    """Whether the oldest come first; the newest do unless it is asked for."""
    direction = query.get("direction", "backwards")
    if direction not in ("backwards", "forwards"):
        raise ClientError(error(40003, "direction is backwards or forwards"))
    return direction == "forwards"


def time_range(query: Mapping[str, str]) -> tuple[int, int]:
    """The first and the last ms that are asked for."""
    start, end = whole_number(query, "start", 0), whole_number(query, "end", END_OF_TIME)
    check_times(start, end)
    return start, end


def check_times(start: int, end: int) -> None:
    """Refuses a range that ends before it begins."""
    if start > end:
        raise ClientError(error(40003, "start is after end"))


def whole_number(query: Mapping[str, str], name: str, default: int) -> int:
    """A number of the query."""
    text = query.get(name)
    if text is None:
        return default
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise ClientError(error(40003, f"{name} is a whole number"))
    return int(text)


def page_links(
    path: str, asked: Mapping[str, Any], cursor: str | int | None, following: str | int | None
) -> list[tuple[str, str]]:
    """The links of a page of the list at `path`, one relative segment, as header fields.

    `asked` is what the first page was asked for; `cursor` leads to this page, nothing or "" if it is the first, and
    `following` to the next, None if there is none.
    """
    links = [_link(path, "first", asked), _link(path, "current", _at(asked, None if cursor == "" else cursor))]
    return links if following is None else [*links, _link(path, "next", _at(asked, following))]


def _at(asked: Mapping[str, Any], cursor: str | int | None) -> Mapping[str, Any]:
    return asked if cursor is None else {**asked, "cursor": cursor}


def _link(path: str, relation: str, query: Mapping[str, Any]) -> tuple[str, str]:
    """SDKs take the query alone, and split the field at commas: `urlencode` leaves none."""
    return "link", f'<./{path}?{urlencode(query)}>; rel="{relation}"'
