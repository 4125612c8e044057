"""The pattern of `topics.regex`: Kafka Connect reads it as Java does, rules as Python does.

It is taken where both mean the same by it, for names as Kafka allows them; what is not known to be so is refused.
"""

import re
from typing import Final

__all__ = ["misread"]

_CHARACTER: Final = r"\\(?:[adDfnrsStvwW]|x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[^a-zA-Z0-9])"
_REPEAT: Final = r"(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})"
_ALIKE: Final = re.compile(
    rf"""
      {_CHARACTER}
    | \\ [AbBZ] (?!\{{)
    | \\ [1-9] (?![0-9])
    | \[ \^?+ \]?+ (?: {_CHARACTER} | (?! -- | && | ~~ | \|\| ) [^\]\[\\] )* \]
    | \( (?: \? (?: [ims]* (?: - [ims]+ )? : | <?[=!] | > ) | (?!\?) )
    | \) (?! {_REPEAT} \+ )     # some of these make Python 3.11 raise while it matches
    | {_REPEAT} [?+]?
    | [^\\\[\(\){{*+?]
    """,
    re.VERBOSE | re.DOTALL,
)


def misread(pattern: str) -> str:
    """Why this would not be read as Java reads it; empty if it is."""
    at = 0
    while at < len(pattern) and (part := _ALIKE.match(pattern, at)) is not None:
        at = part.end()
    if at < len(pattern):
        return (
            f"'{pattern}' has '{pattern[at : at + 12]}', which Java, as Kafka Connect reads it, and Python, which "
            r"counts here, do not read alike, or one of them not at all; \p{Alpha}, \Q..\E, (?<name>..), classes in "
            r"classes and flags for all of it, like (?i), can be written without: [a-z], \., (..), (?i:..)"
        )
    try:
        re.compile(pattern)
    except re.error as problem:
        return f"'{pattern}' is no regular expression of Python, which is what counts here: {problem}"
    return ""
