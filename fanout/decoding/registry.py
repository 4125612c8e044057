"""The schema registry: confluent-kafka's own client, and what its errors mean to us.

A schema never changes under its id, so what was fetched once is kept. Everything here blocks, for 5 s a request at
most, and belongs to a thread that may wait.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, TypeVar
from urllib.parse import unquote

from confluent_kafka.schema_registry import Schema, SchemaRegistryClient, SchemaRegistryError

from fanout.errors import ConfigError

__all__ = ["Registry", "RegistryAway", "SchemaUnknown"]

CLIENT: Final = {"timeout": 5, "max.retries": 0}  # who waits for a schema asks again by itself
SCHEMAS_MAX: Final = 10_000  # kept by one node
REFERENCES_MAX: Final = 1_000  # schemas that one may refer to, directly and through others
USER: Final = re.compile(r"//([^/,]*)@")  # to the last @: one in the password belongs to it
_ASK_AGAIN: Final = {401, 403, 408, 429}  # refusals that an operator or time can mend

T = TypeVar("T")


class SchemaUnknown(Exception):
    """The registry has no such schema; the text says which."""


class RegistryAway(Exception):
    """The registry did not answer, or not about this; the text says how."""


class Registry:
    """A Confluent-compatible schema registry. Safe to be used by several threads."""

    def __init__(self, url: str, settings: Mapping[str, str]) -> None:
        """`settings` are of confluent-kafka's client, like `basic.auth.user.info`. Raises ConfigError."""
        user = USER.search(url)  # not left in the URL: HTTP clients log it
        own = {"basic.auth.user.info": unquote(user[1])} if user is not None else {}
        try:
            self.client = SchemaRegistryClient({**CLIENT, **own, **settings, "url": USER.sub("//", url)})
        except (ValueError, TypeError, OSError) as problem:
            raise ConfigError(f"schema-registry-setting: the registry's client refuses it: {problem}") from problem
        self._ids: set[int] = set()

    def fetch(self, schema_id: int, form: str | None) -> tuple[Schema, dict[str, Schema]]:
        """The schema, and by their names all that it refers to, each behind those that it refers to itself.

        `form` is the REST API's `format`. What it answers is kept by the client, and the deserialisers find it there.
        Raises SchemaUnknown or RegistryAway.
        """
        if schema_id not in self._ids and len(self._ids) >= SCHEMAS_MAX:
            raise SchemaUnknown(f"schema {schema_id} is one more than the {SCHEMAS_MAX} that a node keeps")
        schema = _asked(f"schema {schema_id}", lambda: self.client.get_schema(schema_id, fmt=form))
        found: dict[str, Schema] = {}
        self._follow(schema, form, found, set())
        self._ids.add(schema_id)
        return schema, found

    def _follow(self, schema: Schema, form: str | None, found: dict[str, Schema], seen: set[str]) -> None:
        for reference in schema.references or ():
            name, subject, version = str(reference.name), str(reference.subject), int(reference.version or 0)
            if name in seen:
                continue
            if len(seen) == REFERENCES_MAX:
                raise SchemaUnknown(f"it refers to more than {REFERENCES_MAX} schemas")
            seen.add(name)
            ask = partial(self.client.get_version, subject, version, True, form)
            referred = _asked(f"version {version} of subject {subject!r}", ask).schema
            self._follow(referred, form, found, seen)
            found[name] = referred

    def close(self) -> None:
        """Frees the client's connections."""
        self.client.close()


def _asked(what: str, ask: Callable[[], T]) -> T:
    try:
        return ask()
    except SchemaRegistryError as problem:
        status = problem.http_status_code
        if 400 <= status < 500 and status not in _ASK_AGAIN:
            raise SchemaUnknown(f"the registry does not know {what}: {problem.error_message}") from None
        raise RegistryAway(f"the registry answers {status} when asked for {what}") from None
    except Exception as problem:  # whatever the HTTP client of this version raises: no answer is no answer
        raise RegistryAway(f"the registry does not answer: {type(problem).__name__}: {problem}") from None
