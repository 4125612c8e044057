"""One `[[publish]]`: where what clients publish on some channels is written, and how its records look."""

from typing import Literal

import msgspec

from fanout.rules.topics import check_topic

__all__ = ["PublishRule"]


class PublishRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is published on the channels that match. Raises ValueError for what cannot be right."""

    channel: str
    """A glob with `*`, or a regular expression that begins with `^`."""
    topic: str | None = None
    """Where to; None: where all else is published to."""
    key: str = "#{channel}"
    """Template of the record's key."""
    headers: dict[str, str] = {}
    """Templates of headers, by their names."""
    format: Literal["bare", "enveloped"] = "bare"
    """The payload alone, or JSON with all that the message says."""
    presence: str | None = None
    """A topic that presence events are copied to."""

    def __post_init__(self) -> None:
        """Refuses what cannot be right."""
        for topic in (self.topic, self.presence):
            if topic is not None:
                check_topic(topic)
