"""Which channels may do what only some may: by namespace, the part of a name before its first colon.

A name without a colon is a namespace of its own: `chat` covers the channels `chat`, `chat:1` and `chat:rooms:2`.
"""

from collections.abc import Iterable

__all__ = ["Namespaces"]


class Namespaces:
    """What the namespaces of a node are allowed. Belongs to the event loop."""

    def __init__(self, mutable: Iterable[str] = ()) -> None:
        """`mutable`: those whose messages can be changed and annotated."""
        self._mutable = set(mutable)

    def add_mutable(self, namespace: str) -> None:
        """From now on, messages of this namespace can be changed and annotated."""
        self._mutable.add(namespace)

    def remove_mutable(self, namespace: str) -> None:
        """Takes that back; nothing happens if it was not so."""
        self._mutable.discard(namespace)

    def mutable(self, channel: str) -> bool:
        """Whether messages of this channel can be changed and annotated."""
        return channel.partition(":")[0] in self._mutable
