"""Publishing on behalf of a connection: whoever shows its key speaks as it does (Ably protocol, "REST").

A connection key is a secret between a client and the servers, so a client hands it to a server of its own when that
shall publish in its place. The message then carries the connection's id and client id, and `echo` treats it as the
connection's own.
"""

from dataclasses import replace

from fanout.auth.connection_key import ConnectionKeys
from fanout.auth.keys import app_of
from fanout.errors import ClientError, error
from fanout.session.opening import KEY_TTL_MS
from fanout.session.resume import ConnectionTable
from fanout.types import Identity

__all__ = ["Behalf"]


class Behalf:
    """Tells whom a connection key speaks for. Belongs to the event loop."""

    def __init__(self, keys: ConnectionKeys, table: ConnectionTable) -> None:
        self._keys = keys
        self._table = table

    def speaker(self, connection_key: str, identity: Identity, now_ms: int) -> tuple[Identity, str]:
        """The identity to publish with, and the connection's id.

        Raises ClientError: 40006 for what is no key of a connection that lives, here or on another node, and belongs to
        the same app; 40012 where `identity` may not speak as that connection's client.
        """
        try:
            key = self._keys.read(connection_key)
        except ClientError:
            raise ClientError(error(40006)) from None
        if app_of(key.key_name) != app_of(identity.key_name):
            raise ClientError(error(40006))
        if not self._table.may_live(key.connection_id, key.issued, now_ms - key.issued <= KEY_TTL_MS):
            raise ClientError(error(40006, "the connection has ended"))
        if identity.client_id not in ("*", key.client_id):
            raise ClientError(error(40012, "it is not the one of the connection that is spoken for"))
        return replace(identity, client_id=key.client_id), key.connection_id
