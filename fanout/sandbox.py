"""Apps that clients' test suites provision for themselves, for `--sandbox`.

An app has keys, and a realm of its own (`fanout.auth.realms`): two apps never see each other's channels. Apps live in
the memory of the node; a restart forgets them, and their channels with them, though their messages stay in the log.
Of what is asked for beyond keys, namespaces with `mutableMessages` get what they say, and the members that channels
are to have enter them; the rest, such as limits, is ignored: all channels keep their messages.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from fanout.auth.capabilities import canonical, parse_capability
from fanout.auth.keys import Key, Keys, check_client_id
from fanout.auth.realms import new_app_id, realm_of
from fanout.callbacks import outcome
from fanout.errors import ClientError, ErrorInfo, error
from fanout.namespaces import Namespaces
from fanout.presence.service import Presence
from fanout.session.limits import Limits
from fanout.session.names import parse_name
from fanout.types import PresenceEvent
from fanout.wire import JSON, decode_data

__all__ = ["APPS_MAX", "KEYS_MAX", "MEMBERS_MAX", "NAMESPACES_MAX", "Sandbox"]

APPS_MAX: Final = 1_000
"""Apps at a time. A suite makes one for a file or for a class; those that it forgets to delete are few."""

KEYS_MAX: Final = 100
"""Keys of one app."""

NAMESPACES_MAX: Final = 100
"""Namespaces of one app."""

MEMBERS_MAX: Final = 1_000
"""Presence members of one app that enter with it, over all its channels."""

_EVERYTHING: Final = '{"*":["*"]}'  # of ordinary channels: metachannels must be asked for


class _Key(msgspec.Struct, rename="camel"):
    capability: str | dict[str, list[str]] = _EVERYTHING
    revocable_tokens: bool = False


class _Namespace(msgspec.Struct, rename="camel"):
    id: str
    persisted: bool = False
    push_enabled: bool = False
    mutable_messages: bool = False


class _Member(msgspec.Struct, rename="camel"):
    client_id: str
    data: str | None = None
    encoding: str | None = None


class _Channel(msgspec.Struct):
    name: str
    presence: list[_Member] = []


class _App(msgspec.Struct):
    keys: list[_Key] = []
    namespaces: list[_Namespace] = []
    channels: list[_Channel] = []


class _Made(NamedTuple):
    keys: Sequence[str]
    mutable: Sequence[str]


class Sandbox:
    """The provisioned apps of one node. Belongs to the event loop."""

    def __init__(self, keys: Keys, namespaces: Namespaces, presence: Presence, limits: Limits) -> None:
        """The node's tables, which grow and shrink with the apps."""
        self._keys = keys
        self._namespaces = namespaces
        self._presence = presence
        self._limits = limits
        self._apps: dict[str, _Made] = {}

    def __contains__(self, app: str) -> bool:
        return app in self._apps

    async def provision(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Makes an app with the keys and namespaces that are wanted; what its owner needs to know, as REST shows it.

        Returns when the log has the app's members. Raises ClientError: 40001 for what is malformed, 40003 for more than
        there may be, 42910 for one app too many; 40010, 40012, 40013 for members that cannot be; the log's errors. Then
        there is no app.
        """
        try:
            app = msgspec.convert(wanted, _App)
            rights = [_rights(key.capability) for key in app.keys]
        except ValueError as problem:  # msgspec's own errors among them
            raise ClientError(error(40001, str(problem))) from None
        members = sum(len(channel.presence) for channel in app.channels)
        if len(app.keys) > KEYS_MAX or len(app.namespaces) > NAMESPACES_MAX or members > MEMBERS_MAX:
            text = f"{KEYS_MAX} keys, {NAMESPACES_MAX} namespaces and {MEMBERS_MAX} members are the limit"
            raise ClientError(error(40003, text))
        if len(self._apps) >= APPS_MAX:
            raise ClientError(error(42910, f"{APPS_MAX} apps are the limit; delete those that are not used any more"))
        app_id = new_app_id()
        entering = [
            (parse_name(channel.name, self._limits.channel_bytes, realm_of(app_id)).channel, _events(app_id, channel))
            for channel in app.channels
        ]
        made = self._make(app_id, app, rights)
        try:
            for channel, events in entering:
                await self._enter(channel, app_id, events)
        except ClientError:
            self.remove(app_id)
            raise
        return made

    def _make(self, app_id: str, app: _App, rights: Sequence[dict[str, frozenset[str]]]) -> dict[str, Any]:
        keys = [
            Key(f"{app_id}.{secrets.token_hex(4)}", secrets.token_urlsafe(24), capability, key.revocable_tokens)
            for key, capability in zip(app.keys, rights, strict=True)
        ]
        for key in keys:
            self._keys.add(key)
        mutable = [f"{realm_of(app_id)}{namespace.id}" for namespace in app.namespaces if namespace.mutable_messages]
        for namespace in mutable:
            self._namespaces.add_mutable(namespace)
        self._apps[app_id] = _Made([key.name for key in keys], mutable)
        return {
            "id": app_id,
            "appId": app_id,
            "accountId": "sandbox",
            "status": "enabled",
            "keys": [_shown(key) for key in keys],
            "namespaces": msgspec.to_builtins(app.namespaces),
        }

    def remove(self, app: str) -> None:
        """Forgets an app, if there is one of that id: its keys open nothing any more."""
        made = self._apps.pop(app, None)
        if made is None:
            return
        for name in made.keys:
            self._keys.remove(name)
        for namespace in made.mutable:
            self._namespaces.remove_mutable(namespace)
        self._presence.ended(app)

    async def _enter(self, channel: str, connection_id: str, events: Sequence[PresenceEvent]) -> None:
        """Members enter as if a connection of the app's id had said so, which lasts as long as the app."""
        written: asyncio.Future[Sequence[None] | ErrorInfo] = outcome(
            partial(self._presence.write, connection_id, channel, events)
        )
        if isinstance(result := await written, ErrorInfo):
            raise ClientError(result)


def _events(connection_id: str, channel: _Channel) -> list[PresenceEvent]:
    """The steps by which a channel's members enter. Raises ClientError 40012, 40013."""
    events = []
    for index, member in enumerate(channel.presence):
        data, encoding = decode_data(member.data, member.encoding, JSON)
        client_id = check_client_id(member.client_id)
        size = len(client_id.encode()) + len(member.data or "")
        events.append(PresenceEvent("enter", f"{connection_id}:0:{index}", client_id, data, encoding, size=size))
    return events


def _rights(capability: str | Mapping[str, Sequence[str]]) -> dict[str, frozenset[str]]:
    return parse_capability(capability if isinstance(capability, str) else msgspec.json.encode(capability))


def _shown(key: Key) -> dict[str, Any]:
    key_id = key.name.partition(".")[2]
    return {
        "id": key_id,
        "value": key.secret,
        "keyName": key.name,
        "keySecret": key.secret,
        "keyStr": f"{key.name}:{key.secret}",
        "capability": canonical(key.capability),
        "revocableTokens": key.revocable_tokens,
        "status": 0,
        "expires": 0,
    }
