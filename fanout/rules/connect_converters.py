"""Kafka Connect's converters as formats of rules, with the properties that they read.

| converter | format |
|---|---|
| `ByteArrayConverter` | `bytes`; a key may be text |
| `StringConverter` | `text` |
| `JsonConverter` with `schemas.enable=false` | `json` |
| `AvroConverter`, `ProtobufConverter`, `JsonSchemaConverter` | `avro`, `protobuf`, `json-schema` |
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from fanout.config import RegistryAddress
from fanout.rules.route import WITH_SCHEMA, Format

__all__ = ["CONVERTERS", "Converter", "Refused", "converter"]

CONVERTERS: Final = ("key.converter", "value.converter")
FORMATS: Final[Mapping[str, Format]] = {
    "org.apache.kafka.connect.converters.ByteArrayConverter": "bytes",
    "org.apache.kafka.connect.storage.StringConverter": "text",
    "org.apache.kafka.connect.json.JsonConverter": "json",
    "io.confluent.connect.avro.AvroConverter": "avro",
    "io.confluent.connect.protobuf.ProtobufConverter": "protobuf",
    "io.confluent.connect.json.JsonSchemaConverter": "json-schema",
}
URL: Final = "schema.registry.url"
SOURCE: Final = "basic.auth.credentials.source"
USER: Final = ("basic.auth.user.info", "schema.registry.basic.auth.user.info")
# What changes nothing of what is read: caches, the writing side, how Connect holds what it read.
IDLE: Final = (
    "schemas.cache.config",
    "schemas.cache.size",
    "auto.register.schemas",
    "use.latest.version",
    "latest.compatibility.strict",
    "enhanced.avro.schema.support",
    "enhanced.protobuf.schema.support",
    "connect.meta.data",
    "max.schemas.per.subject",
    "key.subject.name.strategy",
    "value.subject.name.strategy",
)
ENCODING: Final = "converter.encoding"
UTF_8: Final = ("utf-8", "utf8")  # as Java knows it


class Refused(Exception):
    """A property that cannot be honoured."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason


class Converter(NamedTuple):
    """What one converter comes to: a format, a registry, and what became of its properties."""

    format: Format | None
    registry: RegistryAddress | None
    notes: dict[str, str]


def converter(part: str, properties: Mapping[str, str]) -> Converter:
    """The converter of `part`, which is `key` or `value`. Raises Refused."""
    name = f"{part}.converter"
    settings = {key.removeprefix(f"{name}."): text for key, text in properties.items() if key.startswith(f"{name}.")}
    given = properties.get(name)
    if given is None:
        if settings:
            raise Refused(name, f"its settings are given, and it is not: name it, like {next(iter(FORMATS))}")
        return Converter(None, None, {})
    form = FORMATS.get(given)
    if form is None:
        raise Refused(name, f"there are {', '.join(FORMATS)}")
    notes = {name: f"{part}s are read as {form}"}
    for setting in settings:
        notes[f"{name}.{setting}"] = _meaning(name, setting, settings[setting], form)
    if form == "json" and settings.get("schemas.enable", "true") != "false":
        raise Refused(f"{name}.schemas.enable", "JSON in an envelope with a schema is not read; it must be false")
    registry = _registry(name, settings) if form in WITH_SCHEMA else None
    if part == "key" and form == "bytes":
        notes[name] = "keys are taken as text where a template asks for them"
        return Converter(None, None, notes)
    return Converter(form, registry, notes)


def _meaning(name: str, setting: str, value: str, form: str) -> str:
    if setting == "schemas.enable":
        return "values carry no schema"
    if setting == ENCODING and form == "text":
        if value.lower() not in UTF_8:
            raise Refused(f"{name}.{setting}", "text is read as UTF-8 alone; write that, or leave it out")
        return "text is read as UTF-8"
    if setting in (*IDLE, ENCODING):
        return "left aside: it changes nothing of what is read"
    if form in WITH_SCHEMA and setting in (URL, SOURCE, *USER):
        return "how the schema registry is reached"
    if setting.startswith("schema.registry.ssl."):
        raise Refused(f"{name}.{setting}", "give PEM files by schema-registry-setting, like ssl.ca.location")
    raise Refused(f"{name}.{setting}", "fanout has nothing that does this")


def _registry(name: str, settings: Mapping[str, str]) -> RegistryAddress:
    url = settings.get(URL)
    if not url:
        raise Refused(f"{name}.{URL}", "it is missing; this converter needs a schema registry")
    client: dict[str, str] = {}
    source = settings.get(SOURCE, "URL")
    user = next((settings[key] for key in USER if key in settings), None)
    if source == "USER_INFO" and user is not None:
        client["basic.auth.user.info"] = user
    elif source != "URL":
        raise Refused(f"{name}.{SOURCE}", "there are URL, and USER_INFO with basic.auth.user.info")
    return RegistryAddress(url, client)
