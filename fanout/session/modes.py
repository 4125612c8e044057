"""What an attachment asks for and is given: channel modes and parameters (Ably protocol, "Modes", "Params").

Granted = requested ∩ what the capability allows ∩ what fanout offers: to publish, to subscribe, and both of presence.
A parameter that is recognised and valid is told back in ATTACHED; one that is not known here is ignored and left out; a
known one with a value that makes no sense refuses the ATTACH with 40000.
"""

import re
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Final

import msgspec

from fanout.auth.capabilities import Capability, operations_on
from fanout.errors import ClientError, error
from fanout.wire import Flag

__all__ = ["METRICS", "ChannelParams", "granted_modes", "parse_params", "requested_modes"]

METRICS: Final = (
    "connections", "publishers", "subscribers", "presenceConnections", "presenceMembers", "presenceSubscribers",
    "objectPublishers", "objectSubscribers",
)  # fmt: skip
"""What is known of a channel's occupancy, by the protocol's names. Objects are not offered: nobody counts for them."""

_MODES: Final = {flag.name.lower(): flag.value for flag in Flag if flag >= Flag.PRESENCE}
_EVERY_MODE: Final = reduce(or_, _MODES.values())
_DEFAULT: Final = Flag.PUBLISH | Flag.SUBSCRIBE | Flag.PRESENCE | Flag.PRESENCE_SUBSCRIBE | Flag.ANNOTATION_PUBLISH
_OFFERED: Final = {
    Flag.PUBLISH.value: "publish",
    Flag.SUBSCRIBE.value: "subscribe",
    Flag.ANNOTATION_PUBLISH.value: "annotation-publish",
    Flag.ANNOTATION_SUBSCRIBE.value: "annotation-subscribe",
    Flag.PRESENCE.value: "presence",
    Flag.PRESENCE_SUBSCRIBE.value: "subscribe",
}
"""By mode, the operation that the capability must allow."""

_PARAMS: Final = ("rewind", "rewindLimit", "echo", "modes", "occupancy", "appendMode", "delta")
_OCCUPANCY: Final = {None, "metrics", *(f"metrics.{name}" for name in METRICS)}
"""What may be asked; who asks for one figure gets all."""

_REWIND: Final = re.compile(r"([0-9]{1,6})([sm]?)")
_MS: Final = {"s": 1_000, "m": 60_000}


class ChannelParams(msgspec.Struct, frozen=True):
    """Parameters of one attachment. `rewind_count` and `rewind_ms` are 0 where nothing limits, or nothing is asked."""

    rewind_count: int
    rewind_ms: int
    echo: bool
    modes: int | None
    occupancy: bool
    """Whether the attachment is told how many use the channel."""
    whole_appends: bool
    """Whether the attachment is given appends as updates with the whole message."""
    delta: bool
    """Whether payloads are wanted as deltas."""
    recognised: dict[str, str]
    """As the client wrote them, to be told back."""

    @property
    def rewinds(self) -> bool:
        """Whether messages of the past are asked for."""
        return self.rewind_count > 0 or self.rewind_ms > 0


_PLAIN: Final = ChannelParams(
    0, 0, echo=True, modes=None, occupancy=False, whole_appends=False, delta=False, recognised={}
)
"""Of every attachment without parameters."""


def parse_params(params: Mapping[str, str]) -> ChannelParams:
    """Reads the parameters of an attachment. Raises ClientError 40000 naming the one that makes no sense."""
    recognised = {name: params[name] for name in _PARAMS if name in params}
    if not recognised:
        return _PLAIN
    count, period = _rewind(params.get("rewind"))
    if period and "rewindLimit" in params:
        count = _rewind_limit(params["rewindLimit"])
    if params.get("echo", "true") not in ("true", "false"):
        raise ClientError(error(40000, "echo is true or false"))
    modes = _mode_list(params["modes"]) if "modes" in params else None
    occupancy = params.get("occupancy")
    if occupancy not in _OCCUPANCY:
        raise ClientError(error(40000, "occupancy is metrics, or one of them, like metrics.subscribers"))
    if params.get("appendMode", "full") != "full":
        raise ClientError(error(40000, "appendMode is full"))
    if params.get("delta", "vcdiff") != "vcdiff":
        raise ClientError(error(40000, "delta is vcdiff"))
    return ChannelParams(
        rewind_count=count,
        rewind_ms=period,
        echo=params.get("echo") != "false",
        modes=modes,
        occupancy=occupancy is not None,
        whole_appends="appendMode" in params,
        delta="delta" in params,
        recognised=recognised,
    )


def requested_modes(flags: int, params: ChannelParams) -> int:
    """The modes an ATTACH asks for: by its parameters, else by its flags, else the protocol's usual ones."""
    return params.modes or flags & _EVERY_MODE or _DEFAULT


def granted_modes(requested: int, capability: Capability, channel: str) -> int:
    """What of `requested` is offered here and permitted on `channel`."""
    allowed, granted = operations_on(capability, channel), 0
    for mode, operation in _OFFERED.items():
        if mode & requested and (operation in allowed or "*" in allowed):
            granted |= mode
    return granted


def _mode_list(text: str) -> int:
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in _MODES:
            raise ClientError(error(40000, f"modes: {name!r} is none of {', '.join(_MODES)}"))
    return reduce(or_, (_MODES[name] for name in names))


def _rewind(text: str | None) -> tuple[int, int]:
    if text is None:
        return 0, 0
    found = _REWIND.fullmatch(text)
    if found is None or int(found[1]) == 0:
        raise ClientError(error(40000, "rewind is a number of messages, or a time such as 15s or 2m"))
    number, unit = int(found[1]), found[2]
    return (0, number * _MS[unit]) if unit else (number, 0)


def _rewind_limit(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,6}", text) or int(text) == 0:
        raise ClientError(error(40000, "rewindLimit is a number of messages"))
    return int(text)
