"""Apps that clients' test suites provision for themselves, for `--sandbox`.

An app has keys, and a realm of its own (`fanout.auth.realms`): two apps never see each other's channels. Apps live in
the memory of the node; a restart forgets them, and their channels with them, though their messages stay in the log.
Of what is asked for beyond keys, namespaces with `mutableMessages` get what they say; the rest, such as limits, is
ignored: all channels keep their messages.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from fanout.auth.capabilities import canonical, parse_capability
from fanout.auth.keys import Key, Keys
from fanout.auth.realms import new_app_id, realm_of
from fanout.errors import ClientError, error
from fanout.namespaces import Namespaces

__all__ = ["APPS_MAX", "KEYS_MAX", "NAMESPACES_MAX", "Sandbox"]

APPS_MAX: Final = 1_000
"""Apps at a time. A suite makes one for a file or for a class; those that it forgets to delete are few."""

KEYS_MAX: Final = 100
"""Keys of one app."""

NAMESPACES_MAX: Final = 100
"""Namespaces of one app."""

_EVERYTHING: Final = '{"*":["*"]}'  # of ordinary channels: metachannels must be asked for


class _Key(msgspec.Struct, rename="camel"):
    capability: str | dict[str, list[str]] = _EVERYTHING
    revocable_tokens: bool = False


class _Namespace(msgspec.Struct, rename="camel"):
    id: str
    persisted: bool = False
    push_enabled: bool = False
    mutable_messages: bool = False


class _App(msgspec.Struct):
    keys: list[_Key] = []
    namespaces: list[_Namespace] = []


class _Made(NamedTuple):
    keys: Sequence[str]
    mutable: Sequence[str]


class Sandbox:
    """The provisioned apps of one node. Belongs to the event loop."""

    def __init__(self, keys: Keys, namespaces: Namespaces) -> None:
        """The node's tables, which grow and shrink with the apps."""
        self._keys = keys
        self._namespaces = namespaces
        self._apps: dict[str, _Made] = {}

    def __contains__(self, app: str) -> bool:
        return app in self._apps

    def provision(self, wanted: Mapping[str, Any]) -> dict[str, Any]:
        """Makes an app with the keys and namespaces that are wanted; what its owner needs to know, as REST shows it.

        Raises ClientError: 40001 for what is malformed, 40003 for more than there may be, 42910 for one app too many.
        """
        try:
            app = msgspec.convert(wanted, _App)
            rights = [_rights(key.capability) for key in app.keys]
        except ValueError as problem:  # msgspec's own errors among them
            raise ClientError(error(40001, str(problem))) from None
        if len(app.keys) > KEYS_MAX or len(app.namespaces) > NAMESPACES_MAX:
            raise ClientError(error(40003, f"{KEYS_MAX} keys and {NAMESPACES_MAX} namespaces are the limit"))
        if len(self._apps) >= APPS_MAX:
            raise ClientError(error(42910, f"{APPS_MAX} apps are the limit; delete those that are not used any more"))
        app_id = new_app_id()
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
