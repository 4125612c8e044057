"""How a conversation begins: who it is, and whether it goes on with an earlier one (Ably protocol, "Connection life").

A refused resume never fails the connection; it gets a new id and the reason:

=====  ==========================================================================================
80018  the presented key is none of ours
80015  it was given to other credentials: another app, or another client id
80008  the connection has ended: lost longer ago than its time to live, closed, or its key is old
=====  ==========================================================================================

A node knows when it lost a connection itself. Of one that it never saw, because another node served it or this one was
restarted, it knows the key's age alone, which says nothing about when the transport was lost; so such a key is good
for `KEY_TTL_MS`. That is safe at any age: message ids go on with the connection id, and are never used twice.

Each time that a connection is continued begins a new generation of it, which its new key says: so it is known, wherever
it is continued next, whose word about its presence members is the newer one.
"""

from collections.abc import Mapping
from typing import Any, Final

from fanout.auth.connection_key import ConnectionKey, ConnectionKeys, new_connection_id
from fanout.auth.credentials import Presented
from fanout.auth.keys import app_of
from fanout.errors import ClientError, ErrorInfo, error
from fanout.session.auth import reidentified
from fanout.session.connection import connected
from fanout.session.effects import Effect
from fanout.session.limits import SessionSettings
from fanout.session.params import ConnectParams
from fanout.session.ports import Authenticator, Channels
from fanout.session.resume import ConnectionState, ConnectionTable
from fanout.session.session import Session
from fanout.types import Identity

__all__ = ["KEY_TTL_MS", "open_session", "reauthenticate"]

KEY_TTL_MS: Final = 72 * 3_600_000
"""How long after it was given a connection key is honoured where its connection is unknown."""


def open_session(
    query: Mapping[str, str],
    *,
    authorization: str | None = None,
    authenticator: Authenticator,
    table: ConnectionTable,
    connection_keys: ConnectionKeys,
    channels: Channels,
    settings: SessionSettings,
    now_ms: int,
) -> Session:
    """Begins a conversation from a URL's query and, where a client can send one, its `Authorization` header.

    Raises ClientError: 40017, 40003 for the query; 401 and others for credentials. The driver answers such an error in
    band, with the effects of `fanout.session.connection.ended`, since browsers cannot read a failed handshake.
    """
    params = ConnectParams.parse(query)
    identity = authenticator.identify(Presented.read(query, authorization, query.get("clientId")), now_ms)
    resumed = query.get("resume") or query.get("recover")  # they mean the same
    state, refused = _continued(resumed, identity, connection_keys, table, now_ms)
    greeting = _greeting(state, identity, params, refused, connection_keys, settings, now_ms)
    return Session(
        identity=identity, params=params, channels=channels, state=state, greeting=greeting, limits=settings.limits
    )


def reauthenticate(
    session: Session,
    token: str,
    *,
    authenticator: Authenticator,
    connection_keys: ConnectionKeys,
    settings: SessionSettings,
    now_ms: int,
) -> list[Effect]:
    """Carries `fanout.session.effects.Authenticate` out: goes on with the newer token, or ends the connection."""
    try:
        identity = reidentified(session.identity, token, authenticator, now_ms)
    except ClientError as refused:
        return session.fail(refused.info)
    greeting = _greeting(session.state, identity, session.params, None, connection_keys, settings, now_ms)
    return session.authenticated(identity, greeting, now_ms)


def _greeting(
    state: ConnectionState,
    identity: Identity,
    params: ConnectParams,
    resume_error: ErrorInfo | None,
    connection_keys: ConnectionKeys,
    settings: SessionSettings,
    now_ms: int,
) -> dict[str, Any]:
    state.key_issued = now_ms
    key = ConnectionKey(state.connection_id, identity.key_name, identity.client_id, now_ms, state.generation)
    return connected(
        connection_id=state.connection_id,
        connection_key=connection_keys.sign(key),
        identity=identity,
        params=params,
        settings=settings,
        resume_error=resume_error,
    )


def _continued(
    presented: str | None, identity: Identity, connection_keys: ConnectionKeys, table: ConnectionTable, now_ms: int
) -> tuple[ConnectionState, ErrorInfo | None]:
    refused = None
    if presented is not None:
        try:
            return _resumed(connection_keys.read(presented), identity, table, now_ms), None
        except ClientError as reason:
            refused = reason.info
    return table.open(new_connection_id()), refused


def _resumed(key: ConnectionKey, identity: Identity, table: ConnectionTable, now_ms: int) -> ConnectionState:
    if app_of(key.key_name) != app_of(identity.key_name) or key.client_id != identity.client_id:
        raise ClientError(error(80015))
    if key.connection_id not in table and now_ms - key.issued > KEY_TTL_MS:
        raise ClientError(error(80008, "its key is too old"))
    state = table.resume(key.connection_id, key.issued)
    if state is None:
        raise ClientError(error(80008))
    state.generation = max(state.generation, key.generation) + 1
    return state
