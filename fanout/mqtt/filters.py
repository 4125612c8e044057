"""Which topics a filter with wildcards stands for (MQTT 5.0 §4.7; MQTT 3.1.1 §4.7 says the same).

- `+` stands for one level, `#` at the end for that level, any below it, and the one above.
- A filter that begins with a wildcard stands for no topic that begins with `$`.

Filters are valid, as the codec has seen to; nothing here raises for one that is not.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Final, Generic, TypeVar

__all__ = ["FilterTree", "pattern_of", "prefix_of"]

PATTERNS_KEPT: Final = 1_000
"""Compiled filters, some 2 KiB each."""

_Value = TypeVar("_Value")


def prefix_of(topic_filter: str) -> str:
    """What all topics that it stands for begin with."""
    prefix = re.split(r"[+#]", topic_filter, maxsplit=1)[0]
    # `a/#` stands for `a` too.
    return prefix.removesuffix("/") if topic_filter[len(prefix) :] == "#" else prefix


@lru_cache(PATTERNS_KEPT)
def pattern_of(topic_filter: str) -> re.Pattern[str]:
    """The regular expression that matches, as a whole, the topics that it stands for."""
    levels = topic_filter.split("/")
    everything = levels[-1] == "#"
    if everything:
        levels.pop()
    body = "/".join("[^/]*" if level == "+" else re.escape(level) for level in levels)
    if everything:
        body = f"{body}(?:/.*)?" if levels else ".*"
    guard = r"(?!\$)" if topic_filter[:1] in ("+", "#") else ""
    return re.compile(guard + body, re.DOTALL)


class _Level(Generic[_Value]):
    """What the filters that begin alike go on with."""

    __slots__ = ("below", "everything", "here")

    def __init__(self) -> None:
        self.below: dict[str, _Level[_Value]] = {}
        self.here: set[_Value] = set()  # of filters that end here
        self.everything: set[_Value] = set()  # of those that end with `#` below here

    def is_empty(self) -> bool:
        return not (self.below or self.here or self.everything)


class FilterTree(Generic[_Value]):
    """Values under filters, found by the topics that the filters stand for.

    A look-up touches what filters there are for the topic's levels, not all filters.
    """

    def __init__(self) -> None:
        self._root: _Level[_Value] = _Level()

    def __bool__(self) -> bool:
        return not self._root.is_empty()

    def add(self, topic_filter: str, value: _Value) -> None:
        """Puts the value under the filter; nothing happens if it is there."""
        level = self._root
        *above, last = topic_filter.split("/")
        for name in above:
            level = level.below.setdefault(name, _Level())
        if last == "#":
            level.everything.add(value)
        else:
            level.below.setdefault(last, _Level()).here.add(value)

    def discard(self, topic_filter: str, value: _Value) -> None:
        """Takes the value away from under the filter; nothing happens if it is not there."""
        path: list[tuple[_Level[_Value], str]] = []
        level = self._root
        names = topic_filter.split("/")
        everything = names[-1] == "#"
        for name in names[:-1] if everything else names:
            below = level.below.get(name)
            if below is None:
                return
            path.append((level, name))
            level = below
        (level.everything if everything else level.here).discard(value)
        for above, name in reversed(path):
            if not above.below[name].is_empty():
                return
            del above.below[name]

    def match(self, topic: str) -> Iterator[_Value]:
        """The values under the filters that stand for this topic; one that is under several comes as often."""
        levels = [self._root]
        for depth, name in enumerate(topic.split("/")):
            hidden = depth == 0 and topic.startswith("$")
            following: list[_Level[_Value]] = []
            for level in levels:
                if not hidden:
                    yield from level.everything
                names = (name,) if hidden else (name, "+")
                following += [below for wanted in names if (below := level.below.get(wanted)) is not None]
            levels = following
        for level in levels:
            yield from level.everything
            yield from level.here
