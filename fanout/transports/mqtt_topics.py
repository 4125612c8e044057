"""Between MQTT's topics and channels' names.

A topic is its channel's name, letter by letter. Where the levels of channels' names are parted by something else than a
slash, that stands for the slash, and the slash for it, so that wildcards find levels and no two topics are one channel.
Qualifiers stay as they are: `[?rewind=1]` leads to the same channel with parameters (Ably protocol, "Names and
qualifiers"). Pure; any thread.
"""

from typing import Final

__all__ = ["Topics", "has_wildcard", "stands_for_none"]

_LEVEL: Final = "/"


def has_wildcard(topic_filter: str) -> bool:
    """Whether a filter may stand for several topics (MQTT 5.0 §4.7.1)."""
    return "+" in topic_filter or "#" in topic_filter


def stands_for_none(topic_filter: str) -> bool:
    """Whether a filter stands for no topic at all: one with wildcards behind a qualifier, which no name begins with."""
    return topic_filter.startswith("[") and has_wildcard(topic_filter)


class Topics:
    """One node's way to spell channels as topics."""

    def __init__(self, separator: str = _LEVEL) -> None:
        """`separator` is the one character that parts the levels of channels' names."""
        self._is_swapped = separator != _LEVEL
        self._swap = str.maketrans({_LEVEL: separator, separator: _LEVEL})

    def channel(self, topic: str) -> str:
        """The channel, with its qualifier, that a topic stands for."""
        return self._swapped(topic)

    def topic(self, channel: str) -> str:
        """The topic that stands for a channel, with its qualifier."""
        return self._swapped(channel)

    def _swapped(self, name: str) -> str:
        if not self._is_swapped:
            return name
        if not name.startswith("["):
            return name.translate(self._swap)
        qualifier, bracket, rest = name.partition("]")
        return qualifier + bracket + rest.translate(self._swap)
