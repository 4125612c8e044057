"""From CONNECT to a session: who presents what, whose session it is, what would be published as its will.

========================  ====================================================================
user name and password    the name of a key and its secret; of another user name, a token
user name alone           a token
password alone            a token (MQTT 5.0)
========================  ====================================================================

The MQTT client identifier names the session and no more: who publishes is told by the credential. Pure; event loop.
"""

import re
import secrets
import sys
from base64 import urlsafe_b64encode
from functools import lru_cache
from hashlib import blake2b
from typing import Final

from fanout.auth.capabilities import allows
from fanout.auth.keys import app_of
from fanout.auth.realms import realm_of
from fanout.errors import ClientError, error
from fanout.packets import Connect
from fanout.session.limits import Limits
from fanout.session.messages import check_messages
from fanout.session.names import parse_name
from fanout.session.session import Session
from fanout.transports.mqtt_messages import client_message
from fanout.transports.mqtt_ports import Name, Will
from fanout.transports.mqtt_topics import Topics
from fanout.wire import MSGPACK

__all__ = [
    "CLIENT_ID_BYTES", "connection_id_of", "credentials", "new_client_id", "remembered", "session_name", "will_of",
]  # fmt: skip

CLIENT_ID_BYTES: Final = 512
"""The longest client identifier: it names what nodes keep of a session."""

_KEY_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\.[A-Za-z0-9_-]{1,64}")
_SPOKEN: Final = {"v": "6", "format": "msgpack", "heartbeats": "false"}


def credentials(connect: Connect) -> dict[str, str]:
    """The query of a connection that presents what CONNECT does. Raises ClientError 40101 if it presents nothing."""
    try:
        password = (connect.password or b"").decode()
    except UnicodeDecodeError:
        raise ClientError(error(40101, "the password is not UTF-8")) from None
    username = connect.username or ""
    if password and _KEY_NAME.fullmatch(username):
        return _SPOKEN | {"key": f"{username}:{password}"}
    if password or username:
        return _SPOKEN | {"access_token": password or username}
    raise ClientError(error(40101, "there are none; give a key's name and its secret, or a token"))


@lru_cache(8)
def remembered(version: int, *, wants_reasons: bool, kept: bool, packet_maximum: int) -> Connect:
    """What is remembered of a CONNECT, shared by all who said the same. `kept`: a session expiry interval was given."""
    expiry = 1 if kept else None
    return Connect(version, "", True, 0, None, None, None, expiry, 0, packet_maximum, False, wants_reasons)


def new_client_id() -> str:
    """An identifier for a client that gave none."""
    return f"fanout-{secrets.token_urlsafe(12)}"


def session_name(session: Session, client_id: str) -> Name:
    """Whose session a client asks for. Raises ClientError 40012 for an identifier that is too long to be kept."""
    if len(client_id.encode()) > CLIENT_ID_BYTES:
        raise ClientError(error(40012, f"longer than {CLIENT_ID_BYTES} bytes"))
    identity = session.identity
    owner = app_of(identity.key_name)
    if identity.client_id not in (None, "*"):
        owner = f"{owner}:{identity.client_id}"
    return Name(sys.intern(owner), client_id)


def connection_id_of(name: Name) -> str:
    """What messages say of where they come from, whichever connection of the client they come by and on whichever node:
    No Local goes by the client identifier (MQTT 5.0 §3.8.3.1).
    """
    owner, client_id = (part.encode() for part in name)
    digest = blake2b(len(owner).to_bytes(4) + owner + client_id, digest_size=12).digest()
    return urlsafe_b64encode(digest).decode()


def will_of(connect: Connect, session: Session, topics: Topics, limits: Limits) -> Will | None:
    """What is to be published if the client is lost. Raises ClientError for what it could not publish now."""
    said = connect.will
    if said is None:
        return None
    identity = session.identity
    channel = parse_name(topics.channel(said.topic), limits.channel_bytes, realm_of(identity.key_name)).channel
    if not allows(identity.capability, channel, "publish"):
        raise ClientError(error(40160, "this credential does not allow publish on the channel of the will"))
    checked, _ = check_messages(
        [client_message(said)],
        wire=MSGPACK,
        identity=identity,
        connection_id=session.connection_id,
        id_base=f"{session.state.connection_id}:will",
        limits=limits,
    )
    return Will(channel, checked[0], said.delay, said.retain)
