"""The frames of a connection's own life: its beginning, its heartbeat, its ends (Ably protocol, "Connection life").

An error ends a connection in one of two ways. What a retry can cure is DISCONNECTED, and the client comes back; all
else is ERROR, and it stays away. DISCONNECTED never carries a status of 5xx: there are clients that take it for a sign
to try another host, and having none, stay where they are for ever.
"""

from typing import Any

from fanout.errors import ErrorInfo, error
from fanout.session.effects import Close, Effect, Reply
from fanout.session.limits import SessionSettings
from fanout.session.params import ConnectParams
from fanout.types import Identity
from fanout.wire import FRAME_BYTES, Action, ClientFrame

__all__ = ["closed", "connected", "disconnected", "ended", "heartbeat"]

NORMAL, GOING_AWAY, POLICY = 1000, 1001, 1008  # RFC 6455 §7.4.1


def connected(
    *,
    connection_id: str,
    connection_key: str,
    identity: Identity,
    params: ConnectParams,
    settings: SessionSettings,
    resume_error: ErrorInfo | None,
) -> dict[str, Any]:
    """CONNECTED: who the client is here, and the numbers it has to know."""
    details: dict[str, Any] = {
        "connectionKey": connection_key,
        # Heartbeats come at the node's own pace, so a client can have a longer promise than that but no shorter one.
        "maxIdleInterval": max(settings.max_idle_ms, params.heartbeat_interval_ms or 0),
        "connectionStateTtl": settings.connection_state_ttl_ms,
        "maxMessageSize": settings.limits.message_bytes,
        "maxFrameSize": FRAME_BYTES,
        "serverId": settings.server_id,
    }
    if identity.client_id is not None:
        details["clientId"] = identity.client_id
    frame: dict[str, Any] = {"action": Action.CONNECTED, "connectionId": connection_id, "connectionDetails": details}
    if resume_error is not None:
        frame["error"] = resume_error.to_wire()
    return frame


def heartbeat(frame: ClientFrame) -> dict[str, Any]:
    """The answer to a client's HEARTBEAT, with its `id` if it has one."""
    answer: dict[str, Any] = {"action": Action.HEARTBEAT}
    return answer if frame.id is None else answer | {"id": frame.id}


def closed() -> list[Effect]:
    """The answer to CLOSE: nothing is kept."""
    return [Reply({"action": Action.CLOSED}), Close(NORMAL)]


def disconnected(reason: ErrorInfo, code: int = GOING_AWAY) -> list[Effect]:
    """Sends the client away to connect again and continue."""
    return [
        Reply({"action": Action.DISCONNECTED, "error": reason.to_wire()}),
        Close(code, resumable=True, error=reason),
    ]


def ended(reason: ErrorInfo) -> list[Effect]:
    """Ends a connection, or refuses one that could not begin, for an error of the client's or of ours."""
    if reason.status >= 500:
        return disconnected(error(80003, reason.message))
    if reason.status == 429:
        return disconnected(reason, POLICY)
    # A client whose token is refused, 4014x, comes back with another one, and goes on.
    renewable = reason.code // 10 == 4014
    frame = {"action": Action.ERROR, "error": reason.to_wire()}
    return [Reply(frame), Close(POLICY, resumable=renewable, error=reason)]
