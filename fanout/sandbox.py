"""Apps that clients' test suites provision for themselves, for `--sandbox`.

An app has keys, and a realm of its own (`fanout.auth.realms`): two apps never see each other's channels. Apps live in
the memory of the node; a restart forgets them, and their channels with them, though their messages stay in the log.
What is asked for beyond keys (namespaces, channels, limits) is given back as it came.
"""

import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from fanout.auth.capabilities import canonical, parse_capability
from fanout.auth.keys import Key, Keys
from fanout.auth.realms import new_app_id
from fanout.errors import ClientError, error

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


class _App(msgspec.Struct):
    keys: list[_Key] = []
    namespaces: list[dict[str, Any]] = []


class Sandbox:
    """The provisioned apps of one node. Belongs to the event loop."""

    def __init__(self, keys: Keys) -> None:
        """`keys` is the node's table, which grows and shrinks with the apps."""
        self._keys = keys
        self._apps: dict[str, Sequence[str]] = {}

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
        self._apps[app_id] = [key.name for key in keys]
        return {
            "id": app_id,
            "appId": app_id,
            "accountId": "sandbox",
            "status": "enabled",
            "keys": [_shown(key) for key in keys],
            "namespaces": app.namespaces,
        }

    def remove(self, app: str) -> None:
        """Forgets an app, if there is one of that id: its keys open nothing any more."""
        for name in self._apps.pop(app, ()):
            self._keys.remove(name)


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
