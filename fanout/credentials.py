"""Who is let in, and the node's secret: as configured, and made up and kept where nothing is.

What is made is kept beside the log, so that a restart changes nothing: the page's address stays good, and positions
that clients hold stay valid. The file is for its owner's eyes alone (mode 0600). Nodes that share a log need one secret
between them, which is then configured and not made here.
"""

import logging
import os
import secrets
import tempfile
from collections.abc import Callable, Collection, Iterable
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import orjson

from fanout.auth.credentials import Presented
from fanout.auth.keys import Key, Keys, generate_key
from fanout.auth.revoked import Revoked
from fanout.auth.tokens import Tokens
from fanout.config import Config
from fanout.errors import ClientError, ConfigError, error
from fanout.fetching import fetch
from fanout.session.ports import Authenticator
from fanout.types import Identity

__all__ = ["Access", "Authorize", "Credentials", "configured_keys", "grant_access", "load_or_create"]

log = logging.getLogger(__name__)

Authorize = Callable[[str, str | None], Identity | None]
"""A program's own rule: who presents this credential, key or token, asking for this client id or none; None to refuse.

An identity that expires is treated like a token: its client is asked for another credential before, and sent away at
that time.
"""

FILE = "credentials.json"


@dataclass(frozen=True, slots=True)
class Credentials:
    """`key` is an API key as text, with every capability; `secret` seals positions and connection keys."""

    key: str
    secret: str


class Access(NamedTuple):
    """Who is let in. `key` is one that clients can use, if any; `made` says that nobody configured it.

    `keys` can be added to and taken from while the node runs, and is empty where a program has its own rule.
    """

    authenticator: Authenticator
    keys: Keys
    tokens: Tokens
    revoked: Revoked
    secret: bytes
    key: str | None
    made: bool


def grant_access(config: Config, authorize: Authorize | None) -> Access:
    """What the configuration gives; the rest is read from the data directory, or made there. Does blocking I/O.

    Raises ConfigError.
    """
    secret, made_key = config.secret, None
    if secret is None or (authorize is None and not config.key):
        kept = load_or_create(config.data)
        secret, made_key = secret or kept.secret, kept.key
    if authorize is not None:
        return _access(config, Keys(), secret, None)._replace(authenticator=_Rule(authorize))
    if not config.key and made_key is not None:
        return _access(config, configured_keys((made_key,), config.revocable), secret, made_key)._replace(made=True)
    name, _, rest = config.key[0].partition(":")
    usable = f"{name}:{rest.partition('=')[0]}"  # without its capability
    return _access(config, configured_keys(config.key, config.revocable), secret, usable)


def configured_keys(texts: Iterable[str], revocable: Collection[str]) -> Keys:
    """The table of the keys that `texts` spell, those named in `revocable` with tokens that can be revoked.

    Raises ConfigError for what is none, and for a name in `revocable` that is no key's.
    """
    keys = Keys()
    for key in map(Key.parse, texts):
        keys.add(replace(key, revocable_tokens=key.name in revocable))
    for name in revocable:
        if keys.find(name) is None:
            raise ConfigError(f"revocable: '{name}' is no key's name; give the part of a key before the colon")
    return keys


def _access(config: Config, keys: Keys, secret: str, key: str | None) -> Access:
    # Takes 50 ms, for what only a running node needs.
    from fanout.auth.key_sets import DOCUMENT_BYTES, KeySets
    from fanout.auth.known import KnownCredentials

    tokens, revoked = Tokens(secret.encode()), Revoked()
    key_sets = KeySets(config.jwks, partial(fetch, limit=DOCUMENT_BYTES)) if config.jwks else None
    known = KnownCredentials(keys, tokens, revoked, key_sets)
    return Access(known, keys, tokens, revoked, secret.encode(), key, made=False)


class _Rule:
    """The program's own rule in the place of keys and tokens.

    A client for which the rule raises, or answers something other than an identity or None, is refused with 50000: the
    mistake is not the client's. Each kind of exception is logged once, so that clients cannot fill the disk.
    """

    def __init__(self, authorize: Authorize) -> None:
        self._authorize = authorize
        self._told: set[type[Exception]] = set()

    def identify(self, shown: Presented, now_ms: int) -> Identity:
        """See `fanout.session.ports.Authenticator`."""
        try:
            identity = self._authorize(shown.text, shown.client_id)
            if not isinstance(identity, Identity | None):
                raise TypeError(f"authorize returns an Identity or None, not {type(identity).__name__}")
        except Exception as problem:
            if type(problem) not in self._told:
                self._told.add(type(problem))
                log.exception("authorize failed; such clients are turned away")
            raise ClientError(error(50000)) from problem
        if identity is None:
            raise ClientError(error(40101))
        if identity.expires is not None and identity.expires <= now_ms:
            raise ClientError(error(40142))
        return identity


def load_or_create(directory: Path) -> Credentials:
    """The directory's credentials, made at the first call, whichever process comes first.

    Raises ConfigError when the directory cannot be written or the file cannot be understood.
    """
    path = directory / FILE
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _create(path)
        text = path.read_bytes()
    except OSError as problem:
        raise ConfigError(
            f"data: '{directory}' cannot be used ({problem.strerror}); give a directory that you may write to"
        ) from problem
    try:
        made = Credentials(**orjson.loads(text))
        if not (isinstance(made.key, str) and isinstance(made.secret, str)):
            raise TypeError("not text")
    except (TypeError, ValueError) as problem:
        raise ConfigError(f"'{path}' is damaged; delete it and another is made, with another key") from problem
    return made


def _create(path: Path) -> None:
    """Writes the file whole and then names it, so that no other process ever reads half of it."""
    made = Credentials(generate_key(), secrets.token_hex(32))
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{FILE}.")  # mode 0600
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(orjson.dumps(asdict(made), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)
    except FileExistsError:
        pass  # another process was first: its credentials count
    finally:
        os.unlink(temporary)
