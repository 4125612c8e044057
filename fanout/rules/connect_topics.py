"""The pattern of `topics.regex`: Kafka Connect reads it as Java does, rules as Python does.

It is taken where both mean the same by it. Most of what only Java has is none of Python's; the rest is looked for here.
"""

import re
from typing import Final

__all__ = ["misread"]

_ESCAPE: Final = re.compile(r"\\(?:[1-9][0-9]|.)", re.DOTALL)
_CLASS: Final = re.compile(r"\[\^?\]?([^\]]*)\]")


def misread(pattern: str) -> str:
    """Why this would not be read as Java reads it; empty if it is."""
    classes = _CLASS.findall(_ESCAPE.sub("_", pattern))
    if any("[" in inside or "&&" in inside for inside in classes):
        return (
            f"'{pattern}' has a class of characters within another, or &&, which only Java takes for that; list the "
            r"characters, and write \[ and \& for these two"
        )
    try:
        re.compile(pattern)
    except re.error as problem:
        return (
            f"'{pattern}' is no regular expression of Python, which is what counts here: {problem}; Java's own, like "
            r"\p{Alpha}, \Q..\E and (?<name>..), can be written without"
        )
    if any(escape[1:].isdigit() and len(escape) == 3 for escape in _ESCAPE.findall(pattern)):
        return f"'{pattern}' has two digits behind a backslash, which Java takes for something else; write it without"
    try:
        re.compile(f"(?:{pattern})")
    except re.error:
        return f"'{pattern}' begins with flags for all of it; write them around it, like (?i:..)"
    return ""
