"""Channel names as clients spell them (Ably protocol, "Names and qualifiers").

::

    name                       the channel
    [?rewind=1]name            the same channel with parameters, as in a URL's query
    [filter=…]name             those of its messages that an expression is true of, base64 of JMESPath in UTF-8:
    [filter=…?rewind=1]name    to be attached to, and for nothing else
    [meta]…                    metachannels: not offered

The spelling is the attachment's identity on its connection; the channel is what it leads to, in the realm of whoever
spells it (`fanout.auth.realms`). What may name a channel is
the engine's rule (`is_channel_name` in `rust/engine/src/route.rs`), since a message to any other name reaches nobody.
"""

import binascii
from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from fanout.auth.realms import SEPARATOR
from fanout.errors import ClientError, error

__all__ = ["ChannelName", "parse_name"]


_FILTER: Final = "filter="
_FORBIDDEN: Final = frozenset("\n\r\0" + SEPARATOR)


class ChannelName(NamedTuple):
    """A spelling taken apart: the channel as the log knows it, and the parameters of its qualifier."""

    channel: str
    params: dict[str, str]
    filter: str | None = None
    """The expression of a filtered channel, as yet unread."""


def parse_name(spelling: str, longest: int, realm: str = "", *, filtered: bool = False) -> ChannelName:
    """Takes a spelling apart. Raises ClientError 40010 if it is not a name, or longer than `longest` bytes, or of a
    filtered channel unless `filtered` allows that.
    """
    try:
        length = len(realm) + len(spelling.encode())
    except UnicodeEncodeError:
        raise ClientError(error(40010, "it is text that UTF-8 cannot hold")) from None
    if length > longest:
        raise ClientError(error(40010, f"longer than {longest} bytes"))
    if not spelling.startswith("["):
        return ChannelName(realm + _checked(spelling), {})
    qualifier, bracket, channel = spelling[1:].partition("]")
    if not bracket:
        raise ClientError(error(40010, "its qualifier is not closed by ]"))
    kind, mark, query = qualifier.partition("?")
    if not kind.startswith(_FILTER) if kind else not mark:
        # Cut, for refusals are kept: see `Limits.answers_kept`.
        raise ClientError(error(40010, f"the qualifier [{qualifier[:64]}] is not offered here"))
    if kind and not filtered:
        raise ClientError(error(40010, "a filtered channel can be subscribed to, and nothing else"))
    # A frame's own parameters have the same form, so the bound on the spelling bounds these too.
    params = dict(parse_qsl(query, keep_blank_values=True))
    return ChannelName(realm + _checked(channel), params, _expression(kind) if kind else None)


def _expression(kind: str) -> str:
    try:
        return binascii.a2b_base64(kind.removeprefix(_FILTER).encode(), strict_mode=True).decode()
    except ValueError:  # what is not base64, and not UTF-8
        raise ClientError(error(40010, "a filter is base64 of UTF-8")) from None


def _checked(channel: str) -> str:
    if not channel:
        raise ClientError(error(40010, "it is empty"))
    if channel[0] in ":[":
        raise ClientError(error(40010, f"it begins with {channel[0]}"))
    if not _FORBIDDEN.isdisjoint(channel):
        raise ClientError(error(40010, "it holds a line break, a NUL or a unit separator"))
    return channel
