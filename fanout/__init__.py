"""fanout carries Kafka to people: ordered, resumable channels over WebSocket, served from Python by a native core.

What a program needs to embed a node is here. `Server` is loaded when it is first asked for, because it brings the whole
node with it; all else is cheap.
"""

from typing import TYPE_CHECKING, Any

from fanout.config import Config
from fanout.errors import (
    ClientError,
    ConfigError,
    ContinuityLost,
    ErrorInfo,
    FanoutError,
    SourceBusy,
    SourceDamaged,
    SourceError,
    SourceTimeout,
    SourceTooLarge,
)
from fanout.types import Identity, Message, Record

if TYPE_CHECKING:
    from fanout.server import Server, Subscription

__all__ = [
    "ClientError",
    "Config",
    "ConfigError",
    "ContinuityLost",
    "ErrorInfo",
    "FanoutError",
    "Identity",
    "Message",
    "Record",
    "Server",
    "SourceBusy",
    "SourceDamaged",
    "SourceError",
    "SourceTimeout",
    "SourceTooLarge",
    "Subscription",
]


def __getattr__(name: str) -> Any:
    """Loads what is lazy (PEP 562)."""
    if name in ("Server", "Subscription"):
        from fanout import server

        return getattr(server, name)
    raise AttributeError(f"module 'fanout' has no attribute '{name}'")
