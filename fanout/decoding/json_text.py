"""Decoded values as JSON text, one way for each type, whatever the format was.

| value | JSON |
|---|---|
| bytes, fixed | text, base64 (RFC 4648, section 4) |
| decimal | text with all its digits |
| date, time, timestamp | text, RFC 3339; a timestamp in UTC |
| UUID | text |
| NaN, infinity | null |
"""

import base64
from decimal import Decimal
from typing import Any

import orjson

__all__ = ["json_text"]


def json_text(value: Any) -> bytes:
    """`value` as JSON. Raises TypeError for what JSON cannot say: integers above 64 bits, texts that are no Unicode,
    more than 254 levels.
    """
    return orjson.dumps(value, default=_other, option=orjson.OPT_UTC_Z)


def _other(value: Any) -> str:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(f"{type(value).__name__} cannot be JSON")
