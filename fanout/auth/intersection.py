"""What two capabilities both allow: a key's, and what a token asks for (Ably protocol, "Capabilities").

For each pair of resources, one of each side, the channels that both stand for are again one resource, or none:

=============  ============  =========
one            the other     both
=============  ============  =========
``[*]*``       anything      the other
``a:*``        ``a:b``       ``a:b``
``a:*``        ``*:b:*``     ``a:b:*``
``a:*:c``      ``*:b:c``     ``a:b:c``
``a:*``        ``b:*``       none
``[meta]*``    ``*``         none
=============  ============  =========

That resource allows the operations that both name. So the result allows an operation on a channel exactly where both
sides do. Pure; any thread.
"""

from typing import Final

from fanout.auth.capabilities import EVERYWHERE, Capability, split_space

__all__ = ["PAIRS_MAX", "STARRED_MAX", "intersect"]

PAIRS_MAX: Final = 5_000
"""Pairs of resources looked at, about 1 µs each: more would hold up the loop."""

STARRED_MAX: Final = 100
"""Resources with a star that a token has: each of them is compared with every channel its client attaches to."""


def intersect(one: Capability, other: Capability) -> dict[str, frozenset[str]]:
    """What both allow; empty if nothing.

    Raises ValueError for more than `PAIRS_MAX` pairs of resources, and for more than `STARRED_MAX` with a star in the
    result.
    """
    if len(one) * len(other) > PAIRS_MAX:
        raise ValueError(f"a key's {len(one)} resources and a token's {len(other)} are too many to compare")
    result: dict[str, frozenset[str]] = {}
    for resource, operations in one.items():
        for other_resource, other_operations in other.items():
            allowed = _both_operations(operations, other_operations)
            both = _both(resource, other_resource) if allowed else None
            if both is not None:
                result[both] = _either_operations(result.get(both, frozenset()), allowed)
    if sum("*" in resource for resource in result) > STARRED_MAX:
        raise ValueError(f"{STARRED_MAX} resources with a star are the limit")
    return result


def _both_operations(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    if "*" in one:
        return other
    return one if "*" in other else one & other


def _either_operations(one: frozenset[str], other: frozenset[str]) -> frozenset[str]:
    """A star stands alone, as in every capability."""
    return frozenset("*") if "*" in one or "*" in other else one | other


def _both(one: str, other: str) -> str | None:
    """The resource that stands for the channels of both."""
    if one == other or other == EVERYWHERE:
        return one
    if one == EVERYWHERE:
        return other
    space, name = split_space(one)
    other_space, other_name = split_space(other)
    if space != other_space:
        return None
    segments = _both_segments(name.split(":"), other_name.split(":"))
    return None if segments is None else space + ":".join(segments)


def _both_segments(one: list[str], other: list[str]) -> list[str] | None:
    one_open, other_open = one[-1] == "*", other[-1] == "*"
    one, other = one[:-1] if one_open else one, other[:-1] if other_open else other
    # A final star wants one segment more than what stands before it.
    if (len(other) < len(one) + one_open and not other_open) or (len(one) < len(other) + other_open and not one_open):
        return None
    shared: list[str] = []
    for index in range(max(len(one), len(other))):
        wanted = one[index] if index < len(one) else "*"
        other_wanted = other[index] if index < len(other) else "*"
        if wanted not in ("*", other_wanted) and other_wanted != "*":
            return None
        shared.append(other_wanted if wanted == "*" else wanted)
    return [*shared, "*"] if one_open and other_open else shared
