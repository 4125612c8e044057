"""A connector's configuration: what each property becomes, and what is refused rather than left out."""

import json
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

from fanout.config import Config, RegistryAddress
from fanout.errors import ConfigError
from fanout.routing import configured_routing
from fanout.rules.connector import Connector, read_connector
from fanout.rules.route import Rule

BYTES = "org.apache.kafka.connect.converters.ByteArrayConverter"
TEXT = "org.apache.kafka.connect.storage.StringConverter"
JSON = "org.apache.kafka.connect.json.JsonConverter"
AVRO = "io.confluent.connect.avro.AvroConverter"
LEAST = {"topics": "orders", "channel": "all"}


def read(tmp_path: Path, document: Any) -> Connector:
    file = tmp_path / "connector.json"
    file.write_text(document if isinstance(document, str) else json.dumps(document))
    return read_connector(file)


def rule(tmp_path: Path, **properties: Any) -> Rule:
    made = read(tmp_path, {**LEAST, **{name.replace("__", "."): value for name, value in properties.items()}})
    assert len(made.rules) == 1
    return made.rules[0]


def refusal(tmp_path: Path, properties: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, properties)
    text = str(caught.value)
    assert text.startswith("connector: ")
    assert "\n" not in text
    return text


def test_the_documented_configuration_is_taken_as_it_stands(tmp_path: Path) -> None:
    properties = {
        "connector.class": "com.ably.kafka.connect.ChannelSinkConnector",
        "tasks.max": "3",
        "group.id": "ably-connect-cluster",
        "topics": "topic1,topic2",
        "client.id": "Ably-Kafka-Connector",
        "channel": "#{topic}",
        "message.name": "#{topic}_message",
        "client.key": "app.key:a secret",
        "key.converter": BYTES,
        "value.converter": BYTES,
        "value.converter.schemas.enable": "false",
    }
    for document in (properties, {"name": "ably-channel-sink", "config": properties}):
        made = read(tmp_path, document)
        assert made.rules == tuple(
            Rule(
                topic,
                "#{topic}",
                name="#{topic}_message",
                client_id="Ably-Kafka-Connector",
                value="bytes",
                on_failure="stop",
            )
            for topic in ("topic1", "topic2")
        )
        assert {note.property for note in made.notes} == set(properties) | ({"name"} & set(document))
        assert "a secret" not in str(made.notes)


def test_placeholders_are_translated(tmp_path: Path) -> None:
    made = rule(
        tmp_path, channel="#{topic.name}:#{topic.partition}:#{value.user.id}", message__name="#{key.kind}/#{topic.name}"
    )
    assert (made.channel, made.name) == ("#{topic}:#{partition}:#{value.user.id}", "#{key.kind}/#{topic}")


def test_topics_may_be_a_regular_expression_for_whole_names(tmp_path: Path) -> None:
    made = read(tmp_path, {"topics.regex": "orders|shop-.*", "channel": "c"}).rules[0]
    assert [made.is_for(topic) for topic in ("orders", "shop-1", "orders2", "my-shop-1")] == [True, True, False, False]


@pytest.mark.parametrize(
    ("converter", "form"),
    [
        (None, None),
        (BYTES, "bytes"),
        (TEXT, "text"),
        (AVRO, "avro"),
        ("io.confluent.connect.protobuf.ProtobufConverter", "protobuf"),
        ("io.confluent.connect.json.JsonSchemaConverter", "json-schema"),
    ],
)
def test_converters_are_formats(tmp_path: Path, converter: str | None, form: str | None) -> None:
    needs = (
        {"value__converter__schema__registry__url": "http://r:1"} if form in ("avro", "protobuf", "json-schema") else {}
    )
    assert rule(tmp_path, **({"value__converter": converter} if converter else {}), **needs).value == form


def test_json_is_read_without_an_envelope_alone(tmp_path: Path) -> None:
    assert rule(tmp_path, value__converter=JSON, value__converter__schemas__enable=False).value == "json"
    for more in ({}, {"value.converter.schemas.enable": "true"}):
        assert "schemas.enable: JSON in an envelope" in refusal(tmp_path, {**LEAST, "value.converter": JSON, **more})


def test_the_registry_of_the_converters_is_the_nodes(tmp_path: Path) -> None:
    value = {
        "value.converter": AVRO,
        "value.converter.schema.registry.url": "http://r:1",
        "value.converter.basic.auth.credentials.source": "USER_INFO",
        "value.converter.schema.registry.basic.auth.user.info": "ann:open sesame",
    }
    made = read(tmp_path, {**LEAST, **value})
    assert made.registry == RegistryAddress("http://r:1", {"basic.auth.user.info": "ann:open sesame"})
    assert "sesame" not in str(made.notes)
    other = {"key.converter": AVRO, "key.converter.schema.registry.url": "http://other:1"}
    assert "another registry" in refusal(tmp_path, {**LEAST, **value, **other})
    assert read(tmp_path, LEAST).registry is None


@pytest.mark.parametrize(
    ("given", "on_failure", "dead_letter"),
    [
        ({}, "stop", None),
        ({"errors.tolerance": "none"}, "stop", None),
        ({"errors.tolerance": "all"}, "skip", None),
        ({"errors.tolerance": "all", "errors.deadletterqueue.topic.name": "dlq"}, "dead-letter", "dlq"),
        ({"onFailedRecordMapping": "skip", "errors.deadletterqueue.topic.name": "dlq"}, "skip", None),
        ({"onFailedRecordMapping": "dlq", "errors.deadletterqueue.topic.name": "dlq"}, "dead-letter", "dlq"),
        ({"onFailedRecordMapping": "stop", "errors.tolerance": "all"}, "stop", None),
        ({"skipOnKeyAbsence": "true"}, "skip", None),
    ],
)
def test_what_becomes_of_records_that_do_not_fit(
    tmp_path: Path, given: dict[str, str], on_failure: str, dead_letter: str | None
) -> None:
    made = read(tmp_path, {**LEAST, **given})
    assert [(rule.on_failure, rule.dead_letter) for rule in made.rules] == [(on_failure, dead_letter)]
    assert {note.property for note in made.notes} >= set(given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"transforms": "unwrap", "transforms.unwrap.type": "X"}, "transforms: fanout changes no records"),
        ({"predicates": "p"}, "predicates: fanout changes no records"),
        ({"client.channel.cipher.key": "k"}, "client.channel.cipher.key: fanout encrypts no payloads"),
        ({"connector.class": "io.debezium.X"}, "connector.class: it is not the Ably Kafka Connector"),
        ({"topics.regex": "o.*"}, "topics: give this or topics.regex"),
        ({"topics": "a b"}, "topics: 'a b' is no name of a topic"),
        ({"topics": "a*"}, "topics: it is a list of names"),
        ({"topics": " , "}, "topics: it is a list of names"),
        ({"channel": "#{valu.x}"}, "channel: '#{valu.x}'"),
        ({"message.name": "#{value.a[]}"}, "message.name: '#{value.a[]}'"),
        ({"message.name": "${env:NAME}"}, "message.name: it is left to one of Kafka Connect's config providers"),
        ({"client.id": "#{key}"}, "client.id: the connector fills nothing in here"),
        ({"value.converter": "org.apache.kafka.connect.converters.LongConverter"}, "value.converter: there are"),
        ({"value.converter.schemas.enable": "false"}, "value.converter: its settings are given, and it is not"),
        ({"value.converter": AVRO}, "value.converter.schema.registry.url: it is missing"),
        ({"value.converter": TEXT, "value.converter.no.such": "x"}, "value.converter.no.such: fanout has nothing"),
        (
            {"value.converter": TEXT, "value.converter.converter.encoding": "ISO-8859-1"},
            "value.converter.converter.encoding: text is read as UTF-8 alone",
        ),
        (
            {"key.converter": TEXT, "key.converter.converter.encoding": "UTF-16"},
            "key.converter.converter.encoding: text is read as UTF-8 alone",
        ),
        (
            {"value.converter": AVRO, "value.converter.schema.registry.ssl.truststore.location": "x"},
            "give PEM files by schema-registry-setting",
        ),
        (
            {
                "value.converter": AVRO,
                "value.converter.schema.registry.url": "http://r:1",
                "value.converter.basic.auth.credentials.source": "SASL_INHERIT",
            },
            "value.converter.basic.auth.credentials.source: there are URL, and USER_INFO",
        ),
        ({"onFailedRecordMapping": "dlq"}, "onFailedRecordMapping: dlq needs errors.deadletterqueue.topic.name"),
        ({"onFailedRecordMapping": "ignore"}, "onFailedRecordMapping: it is stop, skip or dlq"),
        ({"errors.tolerance": "some"}, "errors.tolerance: it is none or all"),
        (
            {"errors.tolerance": "all", "errors.deadletterqueue.topic.name": "orders"},
            "errors.deadletterqueue.topic.name: 'orders' is the topic that the rule reads",
        ),
        ({"chanel": "x"}, "chanel: it is no property of the connector; did you mean channel?"),
    ],
)
def test_what_cannot_be_honoured_is_refused(tmp_path: Path, given: dict[str, str], said: str) -> None:
    assert said in refusal(tmp_path, {**LEAST, **given})


def test_all_that_is_refused_is_said_at_once(tmp_path: Path) -> None:
    text = refusal(tmp_path, {"topics": "a", "transforms": "x", "predicates": "p", "value.converter": "X"})
    assert [
        name for name in ("transforms:", "predicates:", "value.converter:", "channel: it is missing") if name in text
    ] == [
        "transforms:",
        "predicates:",
        "value.converter:",
        "channel: it is missing",
    ]


@pytest.mark.parametrize(
    ("pattern", "at"),
    [
        (r"\p{Alpha}+", r"\p{Alpha}+"),
        (r"\Qa.b\E", r"\Qa.b\E"),
        (r"(?<shop>a|b)-.*", "(?<shop>a|b)"),
        (r"(?P<shop>a|b)", "(?P<shop>a|b"),
        (r"\h*", r"\h*"),
        (r"a\R", r"\R"),
        (r"a\X", r"\X"),
        (r"\cA", r"\cA"),
        (r"\ea", r"\ea"),
        (r"\N{DIGIT ONE}", r"\N{DIGIT ONE"),
        (r"\x{41}", r"\x{41}"),
        (r"\b{g}a", r"\b{g}a"),
        (r"a\0101", r"\0101"),
        (r"\012", r"\012"),
        (r"(a)\123", r"\123"),
        (r"[\101]", r"[\101]"),
        (r"[\b]", r"[\b]"),
        (r"(?i)orders", "(?i)orders"),
        (r"(?U)a", "(?U)a"),
        (r"(?u:a)", "(?u:a)"),
        (r"(?x:a b)", "(?x:a b)"),
        (r"a(?#b)", "(?#b)"),
        (r"(a)?(?(1)b|c)", "(?(1)b|c)"),
        (r"a{,3}", "{,3}"),
        (r"a{b}", "{b}"),
        (r"(?:a|ab){2}+", "){2}+"),
        (r"[a-z&&[^b]]+", "[a-z&&[^b]]+"),
        (r"shop-[a-c[x-z]]", "[a-c[x-z]]"),
        (r"[\]\[x&&y]", r"[\]\[x&&y]"),
        (r"[]a[b]]", "[]a[b]]"),
        (r"[a--b]", "[a--b]"),
        (r"[+--b]", "[+--b]"),
        (r"[a~~b]", "[a~~b]"),
        (r"[a||b]", "[a||b]"),
    ],
)
def test_a_regular_expression_that_java_would_read_otherwise_is_refused(tmp_path: Path, pattern: str, at: str) -> None:
    with warnings.catch_warnings(action="error"):
        text = refusal(tmp_path, {"topics.regex": pattern, "channel": "c"})
    assert f"topics.regex: '{pattern}' has '{at}', which" in text
    assert text.count("topics.regex") == 1


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"a)|(b", "unbalanced parenthesis"),
        (r"[\w-.]+", "bad character range"),
        (r"[b-a]", "bad character range"),
        (r"(?<=a|ab)b", "look-behind requires fixed-width"),
        (r"a{2}{3}", "multiple repeat"),
        (r"a\2", "invalid group reference"),
    ],
)
def test_one_that_python_has_not_is_refused(tmp_path: Path, pattern: str, said: str) -> None:
    text = refusal(tmp_path, {"topics.regex": pattern, "channel": "c"})
    assert f"topics.regex: '{pattern}' is no regular expression of Python" in text
    assert said in text


@pytest.mark.parametrize(
    ("pattern", "name", "other"),
    [
        (r"(?:orders|shop)\.[^&]+", "shop.a", "shop."),
        (r"(?i:Orders)-[\[\]\&&a-z]{2,}+", "orders-ab", "orders-a"),
        (r"(?i:a(?-i:b))", "Ab", "AB"),
        (r"a++b|(?>x|xy)z", "aab", "xyz"),
        (r"(\w)\1\d", "aa1", "ab1"),
        (r"[]a-c]+", "abc", "x"),
        (r"[^]a]", "b", "a"),
        (r"[\w.-]+", "a-b.c", "a b"),
        (r"[a-c-e]+", "a-e", "d"),
        (r"a\\12|b", "b", "a12"),
        (r"\Aa\x41\u0042\Z|^b$", "aAB", "aAC"),
        (r"(?=a)\w+?(?<!c)(?<=b)(?!b)", "ab", "ac"),
        (r"a\b-a\Ba{1,2}?\-{2}", "a-aa--", "a-aa-"),
        (r"a}|]", "a}", "a"),
    ],
)
def test_one_that_both_read_alike_is_taken(tmp_path: Path, pattern: str, name: str, other: str) -> None:
    with warnings.catch_warnings(action="error"):
        made = read(tmp_path, {"topics.regex": pattern, "channel": "c"}).rules[0]
    assert (made.is_for(name), made.is_for(other)) == (True, False)


@pytest.mark.parametrize("encoding", ["UTF-8", "utf8"])
def test_text_is_utf_8(tmp_path: Path, encoding: str) -> None:
    made = read(tmp_path, {**LEAST, "value.converter": TEXT, "value.converter.converter.encoding": encoding})
    assert ("value.converter.converter.encoding", "text is read as UTF-8") in made.notes


def test_empty_properties_that_would_be_refused_are_nothing(tmp_path: Path) -> None:
    assert len(read(tmp_path, {**LEAST, "transforms": "", "predicates": ""}).rules) == 1


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "is not JSON"),
        ("[]", "is no object of properties"),
        ({}, "is no object of properties"),
        ({"topics": ["a"]}, "topics in '.*' is no text"),
    ],
)
def test_files_that_are_no_configuration_are_refused(tmp_path: Path, document: Any, said: str) -> None:
    assert re.search(said, refusal(tmp_path, document))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file"):
        read_connector(tmp_path / "none.json")


def test_its_rules_come_behind_the_others_and_options_win(tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_text(
        json.dumps(
            {
                "topics": "a,b",
                "channel": "of the connector",
                "value.converter": AVRO,
                "value.converter.schema.registry.url": "http://r:1",
            }
        )
    )
    made = configured_routing(Config(route=("a=of the route",), publish_topic="p", connector=file))
    assert [(rule.topic, rule.channel) for rule in made.rules] == [
        ("a", "of the route"),
        ("a", "of the connector"),
        ("b", "of the connector"),
    ]
    assert made.registry == RegistryAddress("http://r:1", {})
    moved = Config(connector=file, schema_registry="https://s:2", schema_registry_setting=("ssl.ca.location=ca.pem",))
    assert configured_routing(moved).registry == RegistryAddress("https://s:2", {"ssl.ca.location": "ca.pem"})


def test_a_registry_that_is_needed_must_be_named(tmp_path: Path) -> None:
    file = tmp_path / "rules.toml"
    file.write_text('[[route]]\ntopic = "orders"\nchannel = "c"\nkey = "protobuf"\n')
    with pytest.raises(ConfigError, match="schema-registry is not given, but records of 'orders' need one"):
        configured_routing(Config(rules=file))
    assert configured_routing(Config(rules=file, schema_registry="http://r:1")).registry == ("http://r:1", {})
    with pytest.raises(ConfigError, match="schema-registry-setting is given, but schema-registry is not"):
        configured_routing(Config(schema_registry_setting=("ssl.ca.location=x",)))


@pytest.mark.parametrize("url", ["", "localhost:8081", "ftp://r:1", "http://", "http://a:1,b:2", "http://a:999999"])
def test_urls_that_are_none_are_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="schema-registry is no URL"):
        Config(schema_registry=url)


@pytest.mark.parametrize("setting", ["x", "=x", "url=http://x", "timeout=1"])
def test_settings_that_are_none_are_refused(setting: str) -> None:
    with pytest.raises(ConfigError, match="schema-registry-setting"):
        Config(schema_registry="http://r:1", schema_registry_setting=(setting,))
