"""Topics that are named, and patterns of others."""

import re
from collections.abc import Iterable, Sequence

__all__ = ["Patterns"]


class Patterns:
    """Of topics as `Source.start` takes them: the `names`, and which others are meant."""

    def __init__(self, topics: Iterable[str]) -> None:
        unique = dict.fromkeys(topics)
        self.names = tuple(topic for topic in unique if not topic.startswith("^"))
        self._patterns = [re.compile(topic) for topic in unique if topic.startswith("^")]

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self._patterns)

    def of(self, names: Iterable[str]) -> Sequence[str]:
        """Those that are meant and not named."""
        return [name for name in names if name not in self.names and any(p.match(name) for p in self._patterns)]
