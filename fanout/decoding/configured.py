"""Decoding as the rules ask for it: none, without the packages for it, where no rule does."""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING

from fanout.errors import ConfigError
from fanout.routing import Routing
from fanout.rules.route import WITH_SCHEMA
from fanout.sources.base import Source
from fanout.types import Record

if TYPE_CHECKING:
    from fanout.decoding.schemas import Schemas
    from fanout.decoding.sink import Formats

__all__ = ["configured_schemas", "decoded_source"]


AsWritten = Callable[[Record], Record]
"""Gives of a record that the sink is just given the one that lies in the log. For the thread that delivers."""


def decoded_source(source: Source, routing: Routing) -> tuple[Source, AsWritten]:
    """The source, decoding what the rules say is to be decoded; and what undoes that. Raises ConfigError."""
    schemas = configured_schemas(routing)
    if schemas is None:
        return source, lambda record: record
    from fanout.decoding.sink import Formats
    from fanout.decoding.source import DecodedSource

    @cache  # of the topics that the log has
    def formats_of(topic: str) -> "Formats | None":
        rule = routing.rule_of(topic)
        if rule is None or not rule.needs_registry:
            return None
        return Formats(*(form if form in WITH_SCHEMA else None for form in (rule.key, rule.value)))

    made = DecodedSource(source, formats_of, schemas)
    return made, made.as_written


def configured_schemas(routing: Routing) -> "Schemas | None":
    """The registry's schemas, not yet asked for; None where no rule needs any. Raises ConfigError."""
    if routing.registry is None or not any(rule.needs_registry for rule in routing.rules):
        return None
    try:
        from fanout.decoding.decoders import Decoders
        from fanout.decoding.registry import Registry
        from fanout.decoding.schemas import Schemas
    except ImportError as problem:
        raise ConfigError(
            f"schema-registry: its packages are missing ({problem.name}); pip install 'fanout-engine[schemas]'"
        ) from problem
    return Schemas(Decoders(Registry(*routing.registry)))
