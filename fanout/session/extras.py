"""What a message's extras may hold: JSON, and no deeper than every reader can parse.

The log keeps extras as JSON text, and each reader of the log parses them for its own clients. What could not be written
and read back unchanged is refused when it is published.
"""

import math
from typing import Any

import orjson

from fanout.errors import ClientError, error

__all__ = ["extras_bytes"]


def extras_bytes(extras: Any, deepest: int) -> int:
    """The size of extras as JSON, 0 for None.

    Raises ClientError 40032 for anything but an object of JSON values: more than `deepest` objects and arrays within
    each other, other keys than text, numbers beyond 64 bits or that are none, binary, text that UTF-8 cannot hold.
    """
    if extras is None:
        return 0
    if not isinstance(extras, dict):
        raise ClientError(error(40032, "they are not an object"))
    _check(extras, deepest)
    try:
        return len(orjson.dumps(extras))
    except TypeError:  # orjson's own error: other keys than text, numbers beyond 64 bits, text with lone surrogates
        raise ClientError(error(40032, "they cannot be written as JSON")) from None


def _check(value: Any, deepest: int) -> None:
    """Refuses what orjson writes all the same, as something else, and what is too deep."""
    if isinstance(value, dict | list):
        if deepest == 0:
            raise ClientError(error(40032, "they are nested too deeply"))
        for inner in value.values() if isinstance(value, dict) else value:
            _check(inner, deepest - 1)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ClientError(error(40032, "they hold a number that is none"))
    elif not isinstance(value, str | int | float | None):
        raise ClientError(error(40032, f"they hold a {type(value).__name__}"))
