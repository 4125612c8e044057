"""Channel names as clients spell them (Ably protocol, "Names and qualifiers").

::

    name               the channel
    [?rewind=1]name    the same channel with parameters, as in a URL's query
    [meta]…, [filter=…]name
                       metachannels and filtered channels: not offered

The spelling is the attachment's identity on its connection; the channel is what it leads to, in the realm of whoever
spells it (`fanout.auth.realms`). What may name a channel is
the engine's rule (`is_channel_name` in `rust/engine/src/route.rs`), since a message to any other name reaches nobody.
"""

from typing import Final, NamedTuple
from urllib.parse import parse_qsl

from fanout.auth.realms import SEPARATOR
from fanout.errors import ClientError, error

__all__ = ["ChannelName", "parse_name"]


_FORBIDDEN: Final = frozenset("\n\r\0" + SEPARATOR)


class ChannelName(NamedTuple):
    """A spelling taken apart: the channel as the log knows it, and the parameters of its qualifier."""

    channel: str
    params: dict[str, str]


def parse_name(spelling: str, longest: int, realm: str = "") -> ChannelName:
    """Takes a spelling apart. Raises ClientError 40010 if it is not a name, or longer than `longest` bytes."""
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
    if not qualifier.startswith("?"):
        # Cut, for refusals are kept: see `Limits.answers_kept`.
        raise ClientError(error(40010, f"the qualifier [{qualifier[:64]}] is not offered here, only [?params]"))
    # A frame's own parameters have the same form, so the bound on the spelling bounds these too.
    return ChannelName(realm + _checked(channel), dict(parse_qsl(qualifier[1:], keep_blank_values=True)))


def _checked(channel: str) -> str:
    if not channel:
        raise ClientError(error(40010, "it is empty"))
    if channel[0] in ":[":
        raise ClientError(error(40010, f"it begins with {channel[0]}"))
    if not _FORBIDDEN.isdisjoint(channel):
        raise ClientError(error(40010, "it holds a line break, a NUL or a unit separator"))
    return channel
