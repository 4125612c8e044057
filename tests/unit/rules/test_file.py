"""The file of rules: what it may say, and how what it may not is told."""

from pathlib import Path

import pytest

from fanout.errors import ConfigError
from fanout.rules.file import RulesFile, read_rules
from fanout.rules.publish import PublishRule
from fanout.rules.route import Rule


def written(directory: Path, text: str) -> Path:
    """A file with that text."""
    file = directory / "rules.toml"
    file.write_text(text)
    return file


def test_tables_are_rules_in_their_order(tmp_path: Path) -> None:
    text = """
        [[route]]
        topic = "orders.*"
        channel = "orders:#{value.customer.id}"
        name = "#{header.event}"
        client_id = "#{key}"
        key = "text"
        value = "json"
        tombstone = "delete"
        on_failure = "dead-letter"
        dead_letter = "orders-failed"
        expose = true
        linger = "20ms"

        [[publish]]
        channel = "chat:*"
        topic = "chat"

        [[route]]
        topic = "news"
        channel = "news"
    """
    assert read_rules(written(tmp_path, text)) == RulesFile(
        route=(
            Rule(
                "orders.*",
                "orders:#{value.customer.id}",
                name="#{header.event}",
                client_id="#{key}",
                key="text",
                value="json",
                tombstone="delete",
                on_failure="dead-letter",
                dead_letter="orders-failed",
                expose=True,
                linger="20ms",
            ),
            Rule("news", "news"),
        ),
        publish=(PublishRule("chat:*", "chat"),),
    )


def test_an_empty_file_has_no_rules(tmp_path: Path) -> None:
    assert read_rules(written(tmp_path, "")) == RulesFile()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("route = [", "is not TOML"),
        ("route = " + "[" * 100_000, "is not TOML"),
        ("[route]\ntopic='t'\nchannel='c'", "has one [route]; write [[route]]"),
        ("[[routes]]\ntopic='t'", "is no table of rules; there are [[route]] and [[publish]]"),
        ("route = ['t=c']", "[[route]] 1 in 'FILE': Expected `object`, got `str`"),
        ("[[route]]\ntopic='t'", "[[route]] 1 in 'FILE': Object missing required field `channel`"),
        ("[[route]]\ntopic='t'\nchannel='c'\nchanel='d'", "unknown field `chanel`"),
        ("[[route]]\ntopic='t'\nchannel=7", "[[route]] 1 in 'FILE': channel: Expected `str`, got `int`"),
        (
            "[[route]]\ntopic='t'\nchannel='c'\n[[route]]\ntopic='u'\nchannel='#{x}'",
            "[[route]] 2 in 'FILE': channel: '#",
        ),
        ("[[route]]\ntopic='t'\nchannel='c'\nvalue='xml'", "value: Invalid enum value 'xml'"),
        ("[[publish]]\nchannel='t'\ntopic='a b'", "[[publish]] 1 in 'FILE': topic: 'a b' is no name of a topic"),
    ],
)
def test_what_is_wrong_is_told_with_its_table_and_field(tmp_path: Path, text: str, words: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ConfigError) as refused:
        read_rules(file)
    assert words.replace("FILE", str(file)) in str(refused.value)


def test_a_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"rules: '.*missing.toml' cannot be read \(No such file"):
        read_rules(tmp_path / "missing.toml")
