"""Names of topics, and patterns that stand for many.

Rules:

- A name is what Kafka allows. With `*` or `?` in it, it is a glob; with `^` in front a regular expression (Python's),
  which need not reach to the end of a name.
- A pattern never matches Kafka's own topics (`__…`), fanout's own, or others that are named to it: they hold no
  messages.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Final

__all__ = [
    "CHECKPOINT_TOPIC",
    "CONTROL_TOPIC",
    "MQTT_TOPIC",
    "OWN_TOPICS",
    "PRESENCE_TOPIC",
    "STATE_TOPICS",
    "check_topic",
    "is_pattern",
    "matches",
    "pattern_of",
]

PRESENCE_TOPIC: Final = "fanout.presence"
"""Who is present: key = channel, connection and client; its newest record says how, and one without a value that they
left."""
CONTROL_TOPIC: Final = "fanout.control"
"""What nodes tell each other: the key names the fact, its newest record says how it stands."""
MQTT_TOPIC: Final = "fanout.mqtt"
"""What nodes keep for MQTT clients, sessions and retained messages: facts like those of the one above."""
STATE_TOPICS: Final = (PRESENCE_TOPIC, CONTROL_TOPIC, MQTT_TOPIC)
CHECKPOINT_TOPIC: Final = "fanout.checkpoints"
"""How far all partitions had been read, once a second: positions refer to that."""
OWN_TOPICS: Final = (*STATE_TOPICS, CHECKPOINT_TOPIC)
"""Those that hold no messages."""

NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")  # Kafka's rule for names
GLOB: Final = re.compile(r"[A-Za-z0-9._*?-]{1,249}")
REGEX_MAX: Final = 1_000  # characters
KAFKAS_OWN: Final = "__"


def is_pattern(topic: str) -> bool:
    """Whether this stands for every topic that it matches, and is no name."""
    return topic.startswith("^") or "*" in topic or "?" in topic


def check_topic(topic: str, *, pattern: bool = False) -> None:
    """Raises ValueError for what is neither the name of a topic for messages nor, if allowed, a pattern."""
    if pattern and is_pattern(topic):
        return _check_pattern(topic)
    if NAME.fullmatch(topic) is None or topic in (".", ".."):
        raise ValueError(
            f"'{topic}' is no name of a topic; use at most 249 letters, digits, dots, underscores and hyphens"
        )
    if topic in OWN_TOPICS:
        raise ValueError(f"topic '{topic}' is not for messages; it holds what nodes remember")
    return None


def matches(topic: str, name: str) -> bool:
    """Whether a rule's `topic`, a name or a pattern, stands for the topic of that name."""
    if not is_pattern(topic):
        return topic == name
    return _compiled(pattern_of(topic)).match(name) is not None


def pattern_of(topic: str, never: Iterable[str] = ()) -> str:
    """A pattern as the regular expression that sources match, from its beginning, against the names of topics; it
    leaves out those that it must `never` match.
    """
    names = "|".join(re.escape(name) for name in (*OWN_TOPICS, *never))
    body = topic if topic.startswith("^") else _of_glob(topic)
    return rf"^(?!{KAFKAS_OWN})(?!(?:{names})\Z)(?:{body})"


def _check_pattern(topic: str) -> None:
    if not topic.startswith("^"):
        if GLOB.fullmatch(topic) is None:
            raise ValueError(
                f"'{topic}' is no pattern of topics; use letters, digits, dots, underscores, hyphens, * and ?"
            )
        return
    if len(topic) > REGEX_MAX:
        raise ValueError(f"the regular expression of topics is too long; give at most {REGEX_MAX} characters")
    try:
        re.compile(topic)
    except re.error as problem:
        raise ValueError(f"'{topic}' is no regular expression: {problem}") from None


def _of_glob(glob: str) -> str:
    return "".join({"*": ".*", "?": "."}.get(char, re.escape(char)) for char in glob) + r"\Z"


@cache
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(pattern)
