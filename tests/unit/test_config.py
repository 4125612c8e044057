"""One typed configuration: what it derives, and what it refuses in which words."""

from pathlib import Path
from typing import Any

import pytest

from fanout.config import Config, parse_duration
from fanout.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "milliseconds"), [("500ms", 500), ("0s", 0), ("90s", 90_000), ("2m", 120_000), ("72h", 259_200_000)]
)
def test_duration_is_a_number_and_a_unit(text: str, milliseconds: int) -> None:
    assert parse_duration(text) == milliseconds


@pytest.mark.parametrize("text", ["", "2", "m", "2 m", "-2m", "2.5m", "2d", "2M", "1h30m", "٣m2", "9999999999ms"])
def test_other_durations_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="give a whole number and a unit, like 500ms, 90s, 2m or 72h"):
        parse_duration(text)


def test_defaults_need_no_kafka_and_stay_on_this_machine() -> None:
    config = Config()
    assert config.kafka_settings == {}
    assert (config.host, config.port) == ("127.0.0.1", 8080)
    assert config.history_ms == 120_000
    assert config.history_bytes == 512 << 20
    assert (config.retention_ms, config.retention_bytes) == (72 * 3_600_000, None)
    assert config.drain_ms == 10_000


def test_kafka_settings_hold_the_bootstrap_servers_and_every_setting() -> None:
    config = Config(kafka="one:9092,two:9092", kafka_setting=("security.protocol=SASL_SSL", "sasl.password=a=b"))
    assert config.kafka_settings == {
        "bootstrap.servers": "one:9092,two:9092",
        "security.protocol": "SASL_SSL",
        "sasl.password": "a=b",
    }


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_apps_may_be_made_where_no_other_machine_can_reach(host: str) -> None:
    assert Config(sandbox=True, host=host).sandbox


def test_secrets_are_not_in_the_repr() -> None:
    config = Config(
        kafka="k:1", kafka_setting=("sasl.password=hunter2",), key=("app.key:hunter2",), secret="hunter2" * 3
    )
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"kafka": "localhost"}, "kafka: 'localhost' is wrong; give the bootstrap servers as HOST:PORT"),
        ({"kafka": "a:1,b:99999"}, "kafka: 'a:1,b:99999' is wrong"),
        ({"kafka_setting": ("a=b",)}, "kafka-setting is given, but kafka is not"),
        ({"kafka": "a:1", "kafka_setting": ("ssl",)}, "kafka-setting: 'ssl' is wrong; write NAME=VALUE"),
        ({"tls_cert": "a.pem"}, "tls-cert is given, but tls-key is not"),
        ({"tls_key": "a.key"}, "tls-key is given, but tls-cert is not"),
        ({"host": ""}, "host: '' is wrong; give an address"),
        (
            {"sandbox": True, "host": "0.0.0.0"},
            "host: '0.0.0.0' is wrong; with --sandbox give an address of this machine",
        ),
        ({"sandbox": True, "host": "example.com"}, "host: 'example.com' is wrong"),
        ({"port": 65_536}, "port: '65536' is wrong; give a whole number from 0 to 65535"),
        ({"port": -1}, "port: '-1' is wrong"),
        ({"jwks": ("http://example.com/keys",)}, "jwks: 'http://example.com/keys' is wrong; give an https URL"),
        ({"jwks": ("file:///etc/passwd",)}, "jwks: 'file:///etc/passwd' is wrong"),
        ({"jwks": ("https://[",)}, "jwks: 'https://[' is wrong"),
        ({"port": 1.5}, "port: '1.5' is wrong; give a whole number"),
        ({"secret": "fifteen bytes.."}, "secret is too short: give at least 16 bytes"),
        ({"history": "2 minutes"}, "history: '2 minutes' is not a duration; give a whole number and a unit"),
        ({"history": "0s"}, "history: '0s' is wrong; give a time from 1s to 72h"),
        ({"history": "999ms"}, "history: '999ms' is wrong; give a time from 1s to 72h"),
        ({"history": "73h"}, "history: '73h' is wrong; give a time from 1s to 72h"),
        ({"history": "-1s"}, "history: '-1s' is not a duration; give a whole number and a unit"),
        ({"retention": "59s"}, "retention: '59s' is wrong; give a time from 1m to 8760h"),
        ({"retention": "a day"}, "retention: 'a day' is not a duration"),
        ({"retention_mib": 0}, "retention-mib: '0' is wrong; give a whole number from 1 to 1073741824"),
        ({"kafka": "k:9", "retention_mib": 1}, "retention-mib is given, and so is kafka: it is the embedded log's"),
        ({"kafka": "k:9", "retention": "1h"}, "retention is given, and so is kafka"),
        ({"history_mib": 0}, "history-mib: '0' is wrong; give a whole number from 1 to 1048576"),
        ({"history_mib": 1_048_577}, "history-mib: '1048577' is wrong"),
        ({"io_threads": -1}, "io-threads: '-1' is wrong; give a whole number from 0 to 16"),
        ({"io_threads": 17}, "io-threads: '17' is wrong; give a whole number from 0 to 16"),
        ({"max_connections": 0}, "max-connections: '0' is wrong; give a whole number from 1 to 1000000"),
        ({"max_connections": 1_000_001}, "max-connections: '1000001' is wrong"),
        ({"drain": "3601s"}, "drain: '3601s' is wrong; give a time from 0s to 1h"),
        ({"drain": "-1s"}, "drain: '-1s' is not a duration"),
    ],
)
def test_wrong_value_is_refused_in_one_line_that_names_the_option(options: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as refused:
        Config(**options)
    assert str(refused.value).startswith(text)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "options",
    [
        {"port": 0, "history": "1s", "history_mib": 1, "io_threads": 0, "max_connections": 1, "drain": "0s"},
        {
            "port": 65_535,
            "history": "72h",
            "history_mib": 1_048_576,
            "retention": "8760h",
            "retention_mib": 1 << 30,
            "io_threads": 16,
            "max_connections": 1_000_000,
            "drain": "1h",
        },
    ],
)
def test_bounds_themselves_are_taken(options: dict[str, Any]) -> None:
    Config(**options)


def test_a_directory_may_be_given_as_text() -> None:
    assert Config(data="somewhere").data == Path("somewhere")  # type: ignore[arg-type]
