"""Realms: what keeps the channels of provisioned apps apart on one node.

An app that was made through `POST /apps` has channels of its own: in the log, and everywhere behind the session and
REST, their names begin with the app's id and a separator, which no client can spell (`fanout.session.names`). Clients
and capabilities see the name alone. Apps of configured keys share one space of channels, as keys of one log do.

Whether an app was provisioned is told by its id, so that every credential tells it, whatever it was derived from.
"""

import secrets
from typing import Final

__all__ = ["SEPARATOR", "bare", "new_app_id", "realm_of"]

SEPARATOR: Final = "\x1f"  # ASCII's unit separator
_PROVISIONED: Final = "_tmp_"


def new_app_id() -> str:
    """An id for a provisioned app."""
    return f"{_PROVISIONED}{secrets.token_hex(6)}"


def realm_of(key_name: str) -> str:
    """What stands before the names of the channels that this key, and what it signed, leads to; empty for most."""
    return key_name.partition(".")[0] + SEPARATOR if key_name.startswith(_PROVISIONED) else ""


def bare(channel: str) -> str:
    """A channel's name as clients and capabilities know it."""
    return channel.rpartition(SEPARATOR)[2]
