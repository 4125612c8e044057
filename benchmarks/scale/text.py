"""How the tables of docs/scale.md are set: Markdown, three figures that count, units that fit."""

import math
from collections.abc import Iterable, Sequence

__all__ = ["in_bytes", "in_seconds", "in_share", "number", "table"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def number(value: float) -> str:
    """Three figures that count, those of large numbers in groups: 0.0123, 1.23, 12.3, 123,000."""
    if value == 0:
        return "0"
    decimals = 2 - math.floor(math.log10(abs(value)))
    return f"{round(value, decimals):,.{max(decimals, 0)}f}"


def in_bytes(value: float) -> str:
    """A size, by thousands."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(value) < 1000:
            return f"{number(value)} {unit}"
        value /= 1000
    return f"{number(value)} TB"


def in_share(value: float) -> str:
    """A share in percent."""
    return f"{value * 100:.0f} %" if value >= 0.095 else f"{value * 100:.1f} %"


def in_seconds(value: float) -> str:
    """A time; infinite is never."""
    if math.isinf(value):
        return "never"
    return f"{value:.1f} s" if value >= 0.095 else f"{value * 1000:.1f} ms"
