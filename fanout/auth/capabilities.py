"""Capabilities: which operations a credential allows on which channels (Ably protocol, "Capabilities").

A capability is a JSON object of resources, each with a list of operations. A resource is compared with a channel
segment by segment, split at colons:

=============  ==================================================================
resource       channels
=============  ==================================================================
``*``          every ordinary channel
``a:*:c``      ``*`` before the end stands for exactly one segment
``a:*``        ``*`` at the end stands for one segment or more
``foo*``       the channel of that very name: a star is special only on its own
``[meta]*``    every metachannel; ``[queue]*`` likewise
``[*]*``       everything
=============  ==================================================================

The operations of all matching resources are united.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

import orjson

from fanout.auth.realms import bare

__all__ = [
    "EVERYTHING", "EVERYWHERE", "OPERATIONS", "Capability", "allows", "canonical", "operations_on", "parse_capability",
    "split_space",
]  # fmt: skip

Capability = Mapping[str, frozenset[str]]

OPERATIONS: Final = frozenset(
    (
        "subscribe", "publish", "presence", "history", "stats", "channel-metadata", "push-subscribe", "push-admin",
        "annotation-publish", "annotation-subscribe", "object-publish", "object-subscribe", "message-update-own",
        "message-update-any", "message-delete-own", "message-delete-any", "privileged-headers",
    )
)  # fmt: skip
"""Every operation of the protocol, offered here or not: a capability written for another server stays valid."""

EVERYWHERE: Final = "[*]*"
"""The resource that stands for all channels, also those of other spaces."""

EVERYTHING: Final[dict[str, frozenset[str]]] = {EVERYWHERE: frozenset("*")}
"""What a key may do that names no capability."""


MATCHES_KEPT: Final = 2_048
"""Pairs of resource and channel whose answer is kept, the last ones asked for: many clients ask for few channels. With
the longest names, in characters that take the most memory, 8 MiB."""


def parse_capability(text: str | bytes) -> dict[str, frozenset[str]]:
    """Reads a capability's JSON text. Raises ValueError saying what is wrong with it."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as reason:
        raise ValueError(f'a capability is a JSON object such as {{"*": ["subscribe"]}}: {reason}') from None
    if not isinstance(document, dict) or not document:
        raise ValueError('a capability is a JSON object with at least one resource, such as {"*": ["subscribe"]}')
    return {resource: _operations(resource, operations) for resource, operations in document.items()}


def _operations(resource: str, operations: object) -> frozenset[str]:
    if not resource:
        raise ValueError("a capability names an empty resource")
    if not isinstance(operations, list) or not operations:
        raise ValueError(f"the operations on {resource!r} are not a list with something in it")
    for operation in operations:
        if operation != "*" and (not isinstance(operation, str) or operation not in OPERATIONS):
            raise ValueError(f"unknown operation {operation!r} on {resource!r}")
    if "*" in operations and len(operations) > 1:
        raise ValueError(f"'*' on {resource!r} stands alone, or not at all")
    return frozenset(operations)


def canonical(capability: Capability) -> str:
    """The JSON text that stands for this capability alone: resources and operations sorted, no spaces."""
    lists = {resource: sorted(operations) for resource, operations in capability.items()}
    return orjson.dumps(lists, option=orjson.OPT_SORT_KEYS).decode()


def allows(capability: Capability, channel: str, operation: str) -> bool:
    """Whether `operation` is permitted on `channel`, its name without qualifiers, with its realm or without."""
    for resource, operations in capability.items():
        if (operation in operations or "*" in operations) and _matches(resource, channel):
            return True
    return False


def operations_on(capability: Capability, channel: str) -> frozenset[str]:
    """The operations that are permitted on `channel`, its name without qualifiers; `*` among them stands for all."""
    name = bare(channel)
    matching = [
        operations
        for resource, operations in capability.items()
        if resource == name or ("*" in resource and _matches(resource, channel))
    ]
    return matching[0] if len(matching) == 1 else frozenset().union(*matching)


@lru_cache(MATCHES_KEPT)
def _matches(resource: str, channel: str) -> bool:
    if resource == EVERYWHERE:
        return True
    resource_space, resource_name = split_space(resource)
    channel_space, channel_name = split_space(bare(channel))
    if resource_space != channel_space:
        return False
    pattern, segments = resource_name.split(":"), channel_name.split(":")
    if pattern[-1] == "*":
        pattern.pop()
        if len(segments) <= len(pattern):
            return False
    elif len(segments) != len(pattern):
        return False
    return all(wanted in ("*", segment) for wanted, segment in zip(pattern, segments, strict=False))


def split_space(name: str) -> tuple[str, str]:
    """`[meta]log` -> (`[meta]`, `log`); an ordinary name -> (``, name)."""
    if name.startswith("["):
        space, bracket, rest = name.partition("]")
        return space + bracket, rest
    return "", name
