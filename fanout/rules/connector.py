"""The configuration of the Ably Kafka Connector as rules: the JSON that Kafka Connect is given, as it stands.

Each property becomes part of the rules, or is left aside because what it is about does not exist here, or is refused
because leaving it aside would deliver something else. `Connector.notes` says which, property by property.

| property | becomes |
|---|---|
| `topics`, `topics.regex` | a rule for each topic; one rule with a pattern |
| `channel`, `message.name` | `channel`, `name`; `#{topic.name}` is `#{topic}`, `#{topic.partition}` is `#{partition}` |
| `client.id` | `client_id` |
| `key.converter`, `value.converter` | `key`, `value`: see `connect_converters` |
| `onFailedRecordMapping`, `errors.tolerance`, `errors.deadletterqueue.topic.name` | `on_failure`, `dead_letter` |
"""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from fanout.config import RegistryAddress
from fanout.errors import ConfigError
from fanout.rules.connect_converters import CONVERTERS, Converter, Refused, converter
from fanout.rules.connect_properties import CLASSES, IDLE, IDLE_PREFIXES, REFUSED, REFUSED_PREFIXES
from fanout.rules.connect_topics import misread
from fanout.rules.route import OnFailure, Rule

__all__ = ["NO_CONNECTOR", "Connector", "Note", "read_connector"]

USED: Final = (
    "connector.class",
    "topics",
    "topics.regex",
    "channel",
    "message.name",
    "client.id",
    "onFailedRecordMapping",
    "skipOnKeyAbsence",
    "errors.tolerance",
    "errors.deadletterqueue.topic.name",
)
PROPERTY_OF: Final = {
    "topic": "topics",
    "name": "message.name",
    "client_id": "client.id",
    "dead_letter": "errors.deadletterqueue.topic.name",
}
ON_FAILURE: Final[Mapping[str, OnFailure]] = {"stop": "stop", "skip": "skip", "dlq": "dead-letter"}
FIELDS: Final = {"#{topic.name}": "#{topic}", "#{topic.partition}": "#{partition}"}


class Note(NamedTuple):
    """What became of one property. Its value is not repeated: it may be a secret."""

    property: str
    meaning: str


class Connector(NamedTuple):
    """What a connector's configuration comes to."""

    rules: tuple[Rule, ...]
    registry: RegistryAddress | None
    notes: tuple[Note, ...]


NO_CONNECTOR: Final = Connector((), None, ())


class _Failures(NamedTuple):
    """What becomes of records that do not fit."""

    on_failure: OnFailure
    dead_letter: str | None


def read_connector(file: Path) -> Connector:
    """The rules that a connector's configuration stands for. Raises ConfigError that names all that is refused."""
    properties = _properties(file)
    notes: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name, value in properties.items():
        if name in USED or name.startswith(("key.converter", "value.converter")):
            if "${" in value:
                refused[name] = "it is left to one of Kafka Connect's config providers; write what stands for it"
        elif reason := _reason(name, REFUSED, REFUSED_PREFIXES):
            if value:
                refused[name] = reason
            else:
                notes[name] = "empty"
        elif reason := _reason(name, IDLE, IDLE_PREFIXES):
            notes[name] = f"left aside: {reason}"
        else:
            close = difflib.get_close_matches(name, [*USED, *IDLE, *CONVERTERS], 1)
            refused[name] = f"it is no property of the connector{f'; did you mean {close[0]}?' if close else ''}"
    translation = _Translation(properties, notes, refused)
    rules, registry = translation.rules(), translation.registry()
    if refused:
        listed = "; ".join(f"{name}: {reason}" for name, reason in refused.items())
        raise ConfigError(f"connector: '{file}' cannot be honoured: {listed}")
    return Connector(rules, registry, tuple(Note(name, notes[name]) for name in properties if name in notes))


class _Translation:
    """One configuration under way; what became of each property goes into `notes` or `refused`."""

    def __init__(self, properties: Mapping[str, str], notes: dict[str, str], refused: dict[str, str]) -> None:
        self._properties = properties
        self._notes = notes
        self._refused = refused
        self._key = self._converter("key")
        self._value = self._converter("value")

    def rules(self) -> tuple[Rule, ...]:
        """The rules; none where something is refused."""
        self._check_class()
        topics, failures = self._topics(), self._failures()
        channel, name = self._template("channel"), self._template("message.name")
        client_id = self._properties.get("client.id")
        if channel is None:
            self._refused.setdefault("channel", "it is missing; the connector needs one")
        if client_id is not None:
            self._notes["client.id"] = "the client id of every message"
            if "#{" in client_id:
                self._refused["client.id"] = "the connector fills nothing in here"
        if self._refused or channel is None:
            return ()
        found = []
        for topic in topics:
            try:
                found.append(
                    Rule(
                        topic,
                        channel,
                        name=name,
                        client_id=client_id,
                        key=self._key.format,
                        value=self._value.format,
                        on_failure=failures.on_failure,
                        dead_letter=failures.dead_letter,
                    )
                )
            except ValueError as problem:
                field, _, text = str(problem).partition(": ")
                property_of = PROPERTY_OF if "topics" in self._properties else {**PROPERTY_OF, "topic": "topics.regex"}
                self._refused[property_of.get(field, field)] = text
        return tuple(found)

    def registry(self) -> RegistryAddress | None:
        """The schema registry of both converters."""
        addresses = [c.registry for c in (self._key, self._value) if c.registry is not None]
        if len(addresses) == 2 and addresses[0] != addresses[1]:
            self._refused["key.converter.schema.registry.url"] = (
                "it is another registry than the value's; a node has one"
            )
        return addresses[0] if addresses else None

    def _check_class(self) -> None:
        given = self._properties.get("connector.class")
        if given is None:
            return
        if given not in CLASSES:
            self._refused["connector.class"] = f"it is not the Ably Kafka Connector, {CLASSES[0]}"
        self._notes["connector.class"] = "the connector that fanout stands in for"

    def _topics(self) -> list[str]:
        listed, regex = self._properties.get("topics"), self._properties.get("topics.regex")
        if (listed is None) == (regex is None):
            self._refused["topics"] = "give this or topics.regex, one of them"
            return []
        if regex is not None:
            self._notes["topics.regex"] = "one rule, for all topics whose whole name matches"
            if reason := misread(regex):
                self._refused["topics.regex"] = reason
            return [rf"^(?:{regex})\Z"]
        names = list(dict.fromkeys(name.strip() for name in (listed or "").split(",") if name.strip()))
        self._notes["topics"] = f"a rule for each: {', '.join(names)}"
        if not names or any("*" in name or "?" in name or name.startswith("^") for name in names):
            self._refused["topics"] = "it is a list of names with commas between"
        return names

    def _template(self, name: str) -> str | None:
        given = self._properties.get(name)
        if given is None:
            return None
        made = given
        for theirs, ours in FIELDS.items():
            made = made.replace(theirs, ours)
        self._notes[name] = f"the {'channel' if name == 'channel' else 'name'} of every message: {made}"
        return made

    def _converter(self, part: str) -> Converter:
        try:
            made = converter(part, self._properties)
        except Refused as problem:
            self._refused[problem.name] = problem.reason
            return Converter(None, None, {})
        self._notes.update(made.notes)
        return made

    def _failures(self) -> _Failures:
        """One answer for records that cannot be converted and for those that the templates do not fit."""
        given = self._properties
        topic = given.get("errors.deadletterqueue.topic.name") or None
        tolerance = given.get("errors.tolerance", "none")
        mapping = given.get("onFailedRecordMapping")
        skips = given.get("skipOnKeyAbsence", "false").lower() == "true"
        if tolerance not in ("none", "all"):
            self._refused["errors.tolerance"] = "it is none or all"
        if mapping not in (None, "stop", "skip", "dlq"):
            self._refused["onFailedRecordMapping"] = "it is stop, skip or dlq"
        if mapping is None:
            chosen = "skip" if skips else "stop" if tolerance == "none" else "dlq" if topic else "skip"
        else:
            chosen = mapping
        if chosen == "dlq" and topic is None:
            self._refused["onFailedRecordMapping"] = "dlq needs errors.deadletterqueue.topic.name"
        meaning = {
            "stop": "a record that does not fit stops its rule, and the node is not ready",
            "skip": "a record that does not fit is skipped and counted",
            "dlq": "a record that does not fit is written to the dead-letter topic, with the reason in its headers",
        }.get(chosen, "")
        for name in ("onFailedRecordMapping", "skipOnKeyAbsence", "errors.tolerance"):
            if name in given:
                self._notes[name] = f"{meaning}, whether its bytes or the templates are why"
        if topic is not None:
            used = chosen == "dlq"
            self._notes["errors.deadletterqueue.topic.name"] = (
                "the dead-letter topic" if used else "left aside: nothing goes there"
            )
        return _Failures(ON_FAILURE.get(chosen, "stop"), topic if chosen == "dlq" else None)


def _reason(name: str, names: Mapping[str, str], prefixes: Mapping[str, str]) -> str:
    """Why a property is what the tables say of it; empty when they say nothing."""
    return names.get(name) or next((why for prefix, why in prefixes.items() if name.startswith(prefix)), "")


def _properties(file: Path) -> dict[str, str]:
    """The properties, which may stand under `config` as Kafka Connect's REST API has them. Raises ConfigError."""
    try:
        document = json.loads(file.read_bytes())
    except OSError as problem:
        raise ConfigError(f"connector: '{file}' cannot be read ({problem.strerror}); name a JSON file") from problem
    except (ValueError, RecursionError) as problem:
        raise ConfigError(f"connector: '{file}' is not JSON: {problem}") from problem
    if isinstance(document, dict) and isinstance(document.get("config"), dict):
        document = {**{name: value for name, value in document.items() if name != "config"}, **document["config"]}
    if not isinstance(document, dict) or not document:
        raise ConfigError(f'connector: \'{file}\' is no object of properties, like {{"topics": "orders", ...}}')
    return dict(_texts(file, document))


def _texts(file: Path, document: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, bool | int | float):
            yield name, json.dumps(value)
        elif isinstance(value, str):
            yield name, value.strip()
        else:
            raise ConfigError(f"connector: {name} in '{file}' is no text; the properties of a connector are")
