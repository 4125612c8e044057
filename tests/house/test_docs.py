"""The documents say what the code does: error table, options, limits, metrics, links."""

import json
import re
from dataclasses import fields
from pathlib import Path

import orjson
import pytest

from fanout import backlog, sandbox
from fanout.config import Config
from fanout.session.limits import Limits
from fanout.sources import base, kafka, kafka_append
from fanout.transports import _websocket, driver, mqtt, mqtt_publishes, mqtt_retained, mqtt_waiting, stream_wishes

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "examples/README.md")
]
DOCUMENTS += sorted((ROOT / "docs").glob("*.md"))
PROTOCOL = (ROOT / "docs/protocol.md").read_text()
OPERATING = (ROOT / "docs/operating.md").read_text()


def test_error_table_is_the_one_that_the_server_reads() -> None:
    table = orjson.loads((ROOT / "fanout/errors.json").read_bytes())
    rows = re.findall(r"^\| (\d{5}) \| (\d{3}) \| (.*) \|$", PROTOCOL, re.MULTILINE)
    assert rows == [(str(entry["code"]), str(entry["status"]), entry["message"]) for entry in table]


def test_settings_of_kafka_are_listed() -> None:
    text = (ROOT / "docs/kafka.md").read_text()
    section = text[text.index("## Settings") : text.index("## Security")]
    fixed = section[section.index("is refused:") : section.index("\n\n", section.index("is refused:"))]
    assert set(re.findall(r"`([a-z.]+)`", fixed)) == kafka.OURS - kafka.ALIASES
    for name in (kafka.CLIENT | kafka.CONSUMER | kafka_append.PRODUCER).keys() - {"log_level"}:
        assert f"`{name}`" in section


def test_readme_lists_every_option_with_its_default() -> None:
    readme = (ROOT / "README.md").read_text()
    section = readme[readme.index("## Configuration") : readme.index("## What it does not do")]
    for field in fields(Config):
        option = re.compile(rf"`--{field.name.replace('_', '-')}[ `]")
        rows = [line for line in section.splitlines() if option.search(line)]
        assert len(rows) == 1, field.name
        if isinstance(field.default, str | int | Path) and field.default is not False:
            assert f"`{field.default}`" in rows[0], field.name


@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("channels of one connection", Limits().attachments),
        ("channels of one stream", stream_wishes.CHANNELS_MAX),
        ("a channel's name", Limits().channel_bytes),
        ("one publish", Limits().message_bytes),
        ("one publish", Limits().messages_per_frame),
        ("publishes of one connection that wait for the log", driver._PENDING_MAX),
        ("those of its former transports with them", Limits().messages_in_flight),
        ("those of its former transports with them", Limits().bytes_in_flight >> 20),
        ("publishes of a node that wait for the log", backlog.HIGH[0]),
        ("publishes of a node that wait for the log", backlog.HIGH[1] >> 20),
        ("those of who publishes for the first time, or by HTTP, with them", base.LIMITS.append_records),
        ("those of who publishes for the first time, or by HTTP, with them", base.LIMITS.append_bytes >> 20),
        ("`rewind`", Limits().rewind_messages),
        ("WebSocket messages that have begun and not ended", _websocket.MESSAGE_BYTES >> 10),
        ("WebSocket messages that have begun and not ended", _websocket.INCOMPLETE_BYTES >> 20),
        ("MQTT clients that have not said CONNECT", mqtt_waiting.CONNECTIONS_MAX),
        ("MQTT clients that have not said CONNECT", mqtt_waiting.BYTES_MAX >> 20),
        ("publishes of an MQTT connection without PUBACK or PUBCOMP", mqtt_publishes.RECEIVE_MAXIMUM),
        ("retained messages that an MQTT client is yet to be given", mqtt_retained.RETAINED_BYTES >> 10),
        ("filters of an MQTT connection; a packet of its", mqtt.PACKET_BYTES >> 10),
        ("with `--sandbox`: apps, keys, namespaces and members of one", sandbox.APPS_MAX),
        ("with `--sandbox`: apps, keys, namespaces and members of one", sandbox.KEYS_MAX),
        ("with `--sandbox`: apps, keys, namespaces and members of one", sandbox.NAMESPACES_MAX),
        ("with `--sandbox`: apps, keys, namespaces and members of one", sandbox.MEMBERS_MAX),
    ],
)
def test_operating_states_the_limits_of_the_code(what: str, number: int) -> None:
    (row,) = (line for line in OPERATING.splitlines() if line.startswith(f"| {what} |"))
    assert re.search(rf"\b{number:,} ", row)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_pinned_client_packages_are_exact_versions() -> None:
    package = json.loads((ROOT / "tests/clients/package.json").read_text())
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in package["dependencies"].values())
