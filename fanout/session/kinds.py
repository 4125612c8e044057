"""What an attachment is given: a set of kinds, as the engine numbers them, made of its modes."""

from enum import IntFlag
from typing import Final

from fanout.wire import Flag

__all__ = ["Kinds", "kinds_of"]


class Kinds(IntFlag):
    """The kinds of entries that a channel has; the numbers are those of `fanout._core`."""

    MESSAGES = 1
    PRESENCE = 2
    ANNOTATIONS = 4
    META = 8
    """The node's own word about a channel, such as its occupancy."""
    OWN_PRESENCE = 16
    """Presence of the connection itself: it may enter."""
    PUBLISH = 32
    """No kind: it may publish, and is counted as such."""
    WHOLE_APPENDS = 64
    """No kind: it is given what was appended to a message as an update, with the whole of it."""
    LOGGED = MESSAGES | ANNOTATIONS
    """What positions speak of."""


_BY_MODE: Final = {
    Flag.SUBSCRIBE: Kinds.MESSAGES,
    Flag.PRESENCE_SUBSCRIBE: Kinds.PRESENCE,
    Flag.PRESENCE: Kinds.OWN_PRESENCE,
    Flag.PUBLISH: Kinds.PUBLISH,
    Flag.ANNOTATION_SUBSCRIBE: Kinds.ANNOTATIONS,
}


def kinds_of(granted: int) -> Kinds:
    """What these modes entitle to."""
    kinds = Kinds(0)
    for mode, kind in _BY_MODE.items():
        if granted & mode:
            kinds |= kind
    return kinds
