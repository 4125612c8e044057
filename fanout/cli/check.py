"""`fanout check`: prints the configuration that a node would run with, as the TOML file that says the same."""

import json
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from fanout.config import MASK, Config, masked_url
from fanout.rules.publish import PublishRule
from fanout.rules.route import Rule

__all__ = ["check"]

PRIVATE = re.compile(
    r"password|secret|key|token|credential|jaas|user\.info|oauthbearer\.config", re.IGNORECASE
)  # names of the Kafka and the registry client's settings


def check(*, config: Annotated[Config | None, Parameter(name="*")] = None) -> int:
    """Prints the configuration that `serve` would run with, and where records go; masks secrets."""
    from fanout.credentials import configured_keys
    from fanout.decoding import configured_schemas
    from fanout.routing import configured_routing
    from fanout.rules.connector import read_connector
    from fanout.transports.tls import server_context

    config = config or Config()
    if config.key:
        configured_keys(config.key, config.revocable)
    if config.tls_cert is not None and config.tls_key is not None:
        server_context(config.tls_cert, config.tls_key)
    routes = configured_routing(config)
    if (schemas := configured_schemas(routes)) is not None:
        schemas.stop()
    lines = [_line(field.name, _masked(field.name, getattr(config, field.name))) for field in fields(config)]
    lines += ["", *(line for rule in routes.rules for line in _routed(rule, routes.shadow_of(rule)))]
    lines += [line for rule in routes.publish for line in _published(rule, routes.publish_topic)]
    if config.connector is not None:
        lines += [f"# connector's {name}: {meaning}" for name, meaning in read_connector(config.connector).notes]
    if routes.registry is not None:
        lines.append(f"# asks for schemas at {_masked('schema_registry', routes.registry.url)}")
    lines.append(f"# publishes to {routes.publish_topic}")
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


def _routed(rule: Rule, shadow: Rule | None) -> Iterator[str]:
    """What becomes of the records of a rule's topics."""
    topics = f"topics that match {rule.topic}" if rule.is_pattern else rule.topic
    if shadow is not None:
        yield f"# reads {topics} by the rule for {shadow.topic}, which comes first: its own is never asked"
        return
    yield f"# reads {topics} and sends to {rule.channel}"
    for part, format_ in (("key", rule.key), ("value", rule.value)):
        if format_ is not None:
            yield f"#   takes the {part} for {format_}"
    if rule.name is not None:
        yield f"#   names messages {rule.name}"
    if rule.client_id is not None:
        yield f"#   says they are from {rule.client_id}"
    if rule.tombstone == "skip":
        yield "#   skips records without a value"
    elif rule.tombstone == "delete":
        yield "#   makes deletes of records without a value"
    if rule.expose:
        yield "#   shows topic, partition, offset, key and headers"
    if rule.linger_ms:
        yield f"#   holds messages for at most {rule.linger_ms} ms"
    if rule.snapshot:
        yield "#   gives who attaches the newest message of each key first"
    if rule.partitioner is not None:
        yield f"#   knows the partition of a channel: {rule.partitioner} of its key"
    if rule.is_on_demand:
        yield "#   reads a partition when somebody needs a channel in it"
    yield f"#   {_on_failure(rule)}"


def _on_failure(rule: Rule) -> str:
    match rule.on_failure:
        case "dead-letter":
            return f"writes records that fail to {rule.dead_letter}"
        case "stop":
            return "stops at a record that fails, and is not ready from then on"
    return "skips and counts records that fail"


def _published(rule: PublishRule, topic: str) -> Iterator[str]:
    """What becomes of messages, and of presence, on some channels."""
    yield f"# publishes {rule.channel} to {rule.topic or topic}, {rule.format}, by the key {rule.key}"
    if rule.presence is not None:
        yield f"# copies presence of {rule.channel} to {rule.presence}"


def _line(name: str, value: object) -> str:
    """One option in TOML; one that is not set is a comment."""
    if value is None or value == ():
        return f"# {name} is not set"
    if isinstance(value, Path):
        value = str(value)
    return f"{name} = {json.dumps(value, ensure_ascii=False)}"  # of such values JSON's form is TOML's too


def _masked(name: str, value: object) -> object:
    if not value or not isinstance(value, str | tuple):
        return value
    if name == "secret":
        return MASK
    if name == "key":
        return tuple(re.sub(r":[^=]*", f":{MASK}", key, count=1) for key in value)
    if name == "schema_registry":
        return ",".join(map(masked_url, str(value).split(",")))
    if name == "jwks":
        return tuple(map(masked_url, value))
    if name in ("kafka_setting", "schema_registry_setting"):
        return tuple(re.sub(r"=.*", f"={MASK}", text, flags=re.DOTALL) if _is_private(text) else text for text in value)
    return value


def _is_private(setting: str) -> bool:
    return PRIVATE.search(setting.partition("=")[0]) is not None
