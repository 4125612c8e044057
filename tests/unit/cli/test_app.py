"""The program `fanout`: where options come from, and what it says when one is wrong."""

import json
import os
import subprocess
import sys
import time
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from fanout.cli.app import run
from fanout.config import Config
from tests.support.certificates import make_certificates


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("FANOUT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "node.toml"


def checked(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """What `fanout check` prints, read back."""
    assert run(["check", *arguments]) == 0
    return tomllib.loads(capsys.readouterr().out)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line on stderr of a command line that is refused with status 2."""
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("fanout: ")
    assert captured.err.count("\n") == 1
    return captured.err


class TestPrecedence:
    def test_flag_counts_before_variable_before_file_before_default(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: Path
    ) -> None:
        file.write_text('host = "::1"\nport = 1\nhistory = "1m"\n')
        monkeypatch.setenv("FANOUT_PORT", "2")
        monkeypatch.setenv("FANOUT_HISTORY", "2h")
        found = checked(capsys, "--config", str(file), "--history", "3s")
        assert (found["host"], found["port"], found["history"], found["io_threads"]) == ("::1", 2, "3s", 1)

    def test_variable_may_name_the_file(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: Path
    ) -> None:
        file.write_text("port = 7\n")
        monkeypatch.setenv("FANOUT_CONFIG", str(file))
        assert checked(capsys)["port"] == 7

    def test_several_values_are_flags_again_and_again_lines_or_a_list(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, file: Path
    ) -> None:
        assert checked(capsys, "--route", "a=x", "--route", "b=y")["route"] == ["a=x", "b=y"]
        monkeypatch.setenv("FANOUT_ROUTE", "c=x\n  d=y z\n\n")
        assert checked(capsys)["route"] == ["c=x", "d=y z"]
        monkeypatch.delenv("FANOUT_ROUTE")
        file.write_text('route = ["e=x", "f=y"]')
        assert checked(capsys, "--config", str(file))["route"] == ["e=x", "f=y"]

    def test_variables_value_is_whole_with_its_spaces(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FANOUT_KEY", 'a.b:c={"chat:*": ["subscribe", "publish"]}')
        monkeypatch.setenv("FANOUT_KAFKA", "k:1")
        monkeypatch.setenv("FANOUT_KAFKA_SETTING", "client.id=one two")
        monkeypatch.setenv("FANOUT_SECRET", " spaces on both sides ")
        found = checked(capsys)
        assert found["key"] == ['a.b:********={"chat:*": ["subscribe", "publish"]}']
        assert found["kafka_setting"] == ["client.id=one two"]

    def test_file_may_spell_names_with_hyphens_as_the_flags(
        self, capsys: pytest.CaptureFixture[str], file: Path
    ) -> None:
        file.write_text("history-mib = 9\nio_threads = 0")
        found = checked(capsys, "--config", str(file))
        assert (found["history_mib"], found["io_threads"]) == (9, 0)


class TestCheck:
    def test_tells_what_becomes_of_what_is_published(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        rules = tmp_path / "rules.toml"
        rules.write_text('[[publish]]\nchannel = "chat:*"\ntopic = "chat"\nkey = "#{1}"\npresence = "who"\n')
        assert run(["check", "--rules", str(rules)]) == 0
        printed = capsys.readouterr().out
        assert "# publishes chat:* to chat, bare, by the key #{1}\n# copies presence of chat:* to who\n" in printed

    def test_masks_every_secret(self, capsys: pytest.CaptureFixture[str]) -> None:
        options = ["--kafka=k:1", "--kafka-setting=sasl.password=hunter2", "--secret", "hunter2hunter2hunter2"]
        options += [
            "--schema-registry=https://me:hunter2@hunter2@r:1?key=hunter2",
            "--jwks=https://login:1/keys?key=hunter2,hunter2",
            "--jwks=https://login/keys#hunter2",
            "--schema-registry-setting=basic.auth.user.info=hunter2:x",
        ]
        options += ["--key=a.b:hunter2", '--key=a.c:hunter2={"*":["subscribe"]}', "--kafka-setting=client.id=me"]
        assert run(["check", *options]) == 0
        printed = capsys.readouterr().out
        assert "hunter2" not in printed
        found = tomllib.loads(printed)
        assert found["key"] == ["a.b:********", 'a.c:********={"*":["subscribe"]}']
        assert found["kafka_setting"] == ["sasl.password=********", "client.id=me"]
        assert found["jwks"] == ["https://login:1/keys?********", "https://login/keys?********"]

    @pytest.mark.parametrize(
        "option",
        [
            "--kafka-setting=sasl.password:hunter2",
            "--schema-registry-setting=basic.auth.user.info:hunter2",
            "--revocable=app.name:hunter2",
            "--jwks=http://me:hunter2@login/keys",
            "--jwks=https://me:hunter2@login/keys",
            "--jwks=me:hunter2/hunter2@login?hunter2",
        ],
    )
    def test_tells_no_secret_of_what_it_refuses(self, capsys: pytest.CaptureFixture[str], option: str) -> None:
        assert run(["check", "--kafka=k:1", "--key=app.name:hunter2", option]) == 2
        printed = capsys.readouterr()
        assert "hunter2" not in printed.out + printed.err
        assert option[2:].partition("=")[0] in printed.err

    @pytest.mark.parametrize(
        "setting",
        [
            "sasl.password",
            "ssl.key.password",
            "ssl.key.pem",
            "ssl.keystore.password",
            "sasl.oauthbearer.client.secret",
            "sasl.oauthbearer.config",
            "sasl.oauthbearer.assertion.private.key.passphrase",
        ],
    )
    def test_masks_every_secret_of_kafka(self, capsys: pytest.CaptureFixture[str], setting: str) -> None:
        assert run(["check", "--kafka=k:1", f"--kafka-setting={setting}=a=hunter2\nhunter2"]) == 0
        printed = capsys.readouterr()
        assert "hunter2" not in printed.out + printed.err
        assert f"{setting}=********" in printed.out

    def test_says_where_records_go(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run(["check", "--route", "orders=o:#{key}", "--linger=orders=20ms"]) == 0
        printed = capsys.readouterr().out
        assert "# reads orders and sends to o:#{key}" in printed
        assert "#   holds messages for at most 20 ms" in printed
        assert "# publishes to fanout.messages" in printed

    def test_explains_each_rule_of_a_file(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "rules.toml"
        file.write_text("""
            [[route]]
            topic = "orders.*"
            channel = "o:#{value.id}"
            name = "#{key}"
            client_id = "#{header.by}"
            value = "json"
            tombstone = "delete"
            expose = true
            on_failure = "dead-letter"
            dead_letter = "failed"

            [[route]]
            topic = "orders.eu"
            channel = "eu"

            [[route]]
            topic = "news"
            channel = "news"
            tombstone = "skip"
            on_failure = "stop"
        """)
        assert run(["check", "--rules", str(file)]) == 0
        printed = capsys.readouterr().out
        assert tomllib.loads(printed)["rules"] == str(file)
        explained = [
            "# reads topics that match orders.* and sends to o:#{value.id}",
            "#   takes the value for json",
            "#   names messages #{key}",
            "#   says they are from #{header.by}",
            "#   makes deletes of records without a value",
            "#   shows topic, partition, offset, key and headers",
            "#   writes records that fail to failed",
            "# reads orders.eu by the rule for orders.*, which comes first: its own is never asked",
            "# reads news and sends to news",
            "#   skips records without a value",
            "#   stops at a record that fails, and is not ready from then on",
            "# reads fanout.messages and sends to #{key}",
            "#   skips and counts records that fail",
        ]
        assert "\n".join(explained) in printed

    def test_says_what_a_connectors_configuration_becomes(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "connector.json"
        avro = {"value.converter": "io.confluent.connect.avro.AvroConverter"}
        registry = {"value.converter.schema.registry.url": "http://ann:hunter2@localhost:8081"}
        key = {"client.key": "a.b:hunter2"}
        file.write_text(json.dumps({"topics": "orders", "channel": "#{topic.name}", **avro, **registry, **key}))
        assert run(["check", "--connector", str(file)]) == 0
        printed = capsys.readouterr().out
        assert "hunter2" not in printed
        assert tomllib.loads(printed)["connector"] == str(file)
        assert "# reads orders and sends to #{topic}" in printed
        assert "# connector's value.converter: values are read as avro" in printed
        assert "# connector's client.key: left aside: reading needs no API key" in printed
        assert "# asks for schemas at http://********@localhost:8081" in printed
        file.write_text(json.dumps({"topics": "orders", "channel": "c", "transforms": "unwrap"}))
        assert "transforms: fanout changes no records" in refused(capsys, "check", "--connector", str(file))

    def test_loads_the_certificate(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "other").mkdir()
        made, other = make_certificates(tmp_path), make_certificates(tmp_path / "other")
        assert run(["check", *made.options]) == 0
        assert tomllib.loads(capsys.readouterr().out)["tls_cert"] == str(made.certificate)
        assert run(["check", "--tls-cert", str(made.certificate), "--tls-key", str(other.key)]) == 2
        assert "is not the key of the certificate" in capsys.readouterr().err


class TestMistake:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (["chek"], 'Did you mean "check"?'),
            (["check", "--prot", "1"], "Unknown option: --prot. Did you mean --port?"),
            (["check", "--nope"], "fanout: Unknown option: --nope; see fanout --help"),
            (["check", "--port", "1.5"], 'Invalid value for --port: unable to convert "1.5" into int'),
            (["check", "--port", "many"], 'Invalid value for --port: unable to convert "many" into int'),
            (["check", "--port", "70000"], "port: '70000' is wrong; give a whole number from 0 to 65535"),
            (["check", "--history", "2 days"], "history: '2 days' is not a duration"),
            (["check", "--log-level", "loud"], "Invalid value"),
            (["check", "--route", "orders"], "route: 'orders' names no channel"),
            (["check", "--key", "nothing"], "a key reads appId.keyId:secret"),
            (["check", "--key", "a.b:c", "--key", "a.b:d"], "key a.b is configured twice"),
            (["check", "--config", "/nonexistent.toml"], "config: '/nonexistent.toml' cannot be read (No such file"),
            (["serve", "--kafka", "localhost"], "kafka: 'localhost' is wrong"),
            (["serve", "extra"], "extra"),
        ],
    )
    def test_is_one_line_that_names_the_option(
        self, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
    ) -> None:
        assert words in refused(capsys, *arguments)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("prot = 1", "'prot' in '{file}' is no option; did you mean 'port'?"),
            ("[servers]\na = 1", "'servers' in '{file}' is no option; did you mean 'secret'?"),
            ("zzz = 1", "'zzz' in '{file}' is no option; there are kafka, kafka_setting, route"),
            ("port = [1", "'{file}' is not TOML: Unclosed array"),
            ("port = 'x'", 'Invalid value for [port] from {file}: unable to convert "x" into int'),
            ("\xff", "'{file}' is not TOML"),
        ],
    )
    def test_in_the_file_names_the_file(
        self, capsys: pytest.CaptureFixture[str], file: Path, text: str, words: str
    ) -> None:
        file.write_bytes(text.encode("latin-1"))
        assert words.format(file=file) in refused(capsys, "check", "--config", str(file))

    @pytest.mark.parametrize("command", ["check", "serve"])
    @pytest.mark.parametrize("origin", ["flag", "variable", "file"])
    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("port", "-1"),
            ("port", "1.5"),
            ("history", "0s"),
            ("history", "-1s"),
            ("history", "73h"),
            ("history-mib", "0"),
            ("history-mib", "-1"),
            ("history-mib", "1.5"),
            ("history-mib", "1048577"),
            ("drain", "-1s"),
            ("drain", "61m"),
            ("io-threads", "-1"),
            ("io-threads", "0.5"),
            ("io-threads", "17"),
            ("max-connections", "0"),
            ("max-connections", "-1"),
            ("max-connections", "2.5"),
            ("max-connections", "1000001"),
        ],
    )
    def test_beyond_its_bounds_is_refused_wherever_it_is_given(
        self,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
        file: Path,
        command: str,
        origin: str,
        option: str,
        value: str,
    ) -> None:
        variable = option.upper().replace("-", "_")
        arguments = [command]
        if origin == "flag":
            arguments.append(f"--{option}={value}")
        elif origin == "variable":
            monkeypatch.setenv(f"FANOUT_{variable}", value)
        else:
            file.write_text(f"{option} = {value if value.strip('-.0123456789') == '' else repr(value)}\n")
            arguments += ["--config", str(file)]
        line = refused(capsys, *arguments)
        assert variable in line.upper().replace("-", "_")
        assert value in line

    def test_in_a_variable_names_the_variable(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FANOUT_PORT", "x")
        assert "FANOUT_PORT" in refused(capsys, "check")


class TestHelp:
    def test_teaches_every_option_its_variable_and_its_default(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "300")
        assert run(["serve", "--help"]) == 0
        text = capsys.readouterr().out
        for field in fields(Config):
            assert f"--{field.name.replace('_', '-')} " in text
            assert f"FANOUT_{field.name.upper()}" in text
        assert "[default: 8080]" in text

    def test_loads_nothing_of_a_node(self) -> None:
        """That is what keeps it quick: the modules of a node take several times as long as the whole of it."""
        code = (
            "import sys; from fanout.cli.app import run; run(['serve', '--help']); print(*sys.modules, file=sys.stderr)"
        )
        began = time.monotonic()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert time.monotonic() - began < 5
        heavy = {"asyncio", "uvloop", "picows", "confluent_kafka", "prometheus_client", "fanout._core"}
        assert heavy.isdisjoint(done.stderr.split())
