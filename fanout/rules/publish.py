"""One `[[publish]]`: where what clients publish on some channels is written, and how its records look.

Templates are text with parts of the message in it; what the message does not have is empty text:

    #{channel}                   the channel
    #{1} … #{9}                  what a star of the pattern, or a group of the regular expression, stands for
    #{name} #{clientId} #{id}    of the message
    #{connectionId}              of the connection that it was published over
"""

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Final, Literal

import msgspec

from fanout.rules.topics import check_topic

__all__ = ["BY_CHANNEL", "PublishRule", "fill"]

BY_CHANNEL: Final = "#{channel}"
"""The template of a key that keeps a channel's messages in one partition, and so in order."""

TEMPLATE_MAX: Final = 1_000  # characters
PATTERN_MAX: Final = 1_000  # characters
HEADERS_MAX: Final = 32
OWN: Final = "fanout."  # how the names of the headers begin that say what a message is

PLACEHOLDER: Final = re.compile(r"#\{([^{}]*)\}")
FIELDS: Final = ("channel", "name", "clientId", "connectionId", "id")
PART: Final = re.compile(r"[1-9]")


class PublishRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is published on the channels that match. Raises ValueError for what cannot be right."""

    channel: str
    """A glob with `*`, or a regular expression that begins with `^` and need not reach to the end."""
    topic: str | None = None
    """Where to; None: where all else is published to."""
    key: str = BY_CHANNEL
    """Template of the record's key. Order is kept among records of the same key."""
    headers: dict[str, str] = {}
    """Templates of headers, by their names."""
    format: Literal["bare", "enveloped"] = "bare"
    """The payload alone, or JSON with all that the message says."""
    presence: str | None = None
    """A topic that presence events are copied to."""

    def __post_init__(self) -> None:
        """Refuses what cannot be right."""
        for field, topic in (("topic", self.topic), ("presence", self.presence)):
            if topic is not None:
                _named(field, check_topic, topic)
        _named("channel", _compiled, self.channel)
        _named("key", self._check_template, self.key)
        if len(self.headers) > HEADERS_MAX:
            raise ValueError(f"headers: {len(self.headers)} are too many; give at most {HEADERS_MAX}")
        for name, template in self.headers.items():
            if not name or name.startswith(OWN):
                raise ValueError(f"headers: '{name}' cannot be given; those of {OWN}* say what a message is")
            _named(f"headers.{name}", self._check_template, template)
        if self.presence is not None and self.presence == self.topic:
            raise ValueError(f"presence: '{self.presence}' holds messages; name another topic")

    def parts(self, channel: str) -> tuple[str, ...] | None:
        """What the stars or groups stand for in this channel's name; None if the rule is not for it."""
        if not self.channel.startswith("^"):
            return _stars(self.channel, channel)
        found = _compiled(self.channel).match(channel)
        return None if found is None else tuple(part or "" for part in found.groups())

    def _check_template(self, template: str) -> None:
        if len(template) > TEMPLATE_MAX:
            raise ValueError(f"it is too long; give at most {TEMPLATE_MAX} characters")
        groups = _compiled(self.channel).groups
        for field in PLACEHOLDER.findall(template):
            if PART.fullmatch(field):
                if int(field) > groups:
                    raise ValueError(
                        f"'#{{{field}}}' in '{template}' is more than '{self.channel}' has stars or groups"
                    )
            elif field not in FIELDS:
                known = ", ".join(f"#{{{name}}}" for name in FIELDS)
                raise ValueError(f"'#{{{field}}}' in '{template}' is no part of a message; there are {known}")
        if "#{" in PLACEHOLDER.sub("", template):
            raise ValueError(f"'{template}' opens a field and does not close it; write it like {BY_CHANNEL}")


def fill(template: str, values: Mapping[str, str]) -> str:
    """The template with its fields' values; empty text for those that are not among them."""
    return PLACEHOLDER.sub(lambda field: values.get(field[1], ""), template)


def _stars(glob: str, channel: str) -> tuple[str, ...] | None:
    """What the stars stand for, each for as much as it can, the first ones first; None if the channel does not match.

    In one way through the name, from its end: anybody may choose a name, and a regular expression of several stars may
    try all their lengths with all others'.
    """
    first, *between = glob.split("*")
    if not between:
        return () if channel == glob else None
    last = between.pop()
    if len(channel) < len(first) + len(last) or not channel.startswith(first) or not channel.endswith(last):
        return None
    begin, end = len(first), len(channel) - len(last)
    parts: list[str] = []
    for text in reversed(between):
        at = channel.rfind(text, begin, end)
        if at < 0:
            return None
        parts.append(channel[at + len(text) : end])
        end = at
    return channel[begin:end], *reversed(parts)


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    """Raises ValueError."""
    if not pattern or len(pattern) > PATTERN_MAX:
        raise ValueError(f"give a pattern of at most {PATTERN_MAX} characters, like chat:*")
    if not pattern.startswith("^"):
        return re.compile("(.*)".join(map(re.escape, pattern.split("*"))) + r"\Z")
    try:
        return re.compile(pattern)
    except re.error as problem:
        raise ValueError(f"'{pattern}' is no regular expression: {problem}") from None


def _named(field: str, check: Callable[[str], object], text: str) -> None:
    """Checks a field. Raises ValueError that names it."""
    try:
        check(text)
    except ValueError as problem:
        raise ValueError(f"{field}: {problem}") from None
