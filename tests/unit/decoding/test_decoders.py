"""Each format as confluent-kafka's serializers write it, over a registry that speaks HTTP."""

import datetime
import json
import logging
from collections.abc import Iterator
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from confluent_kafka.schema_registry import Schema
from google.protobuf import descriptor_pool
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.decoding import registry as registry_module
from fanout.decoding.decoders import Decoders, Undecodable
from fanout.decoding.registry import Registry, RegistryAway, SchemaUnknown
from fanout.errors import ConfigError
from tests.support.certificates import make_certificates
from tests.support.schema_registry import SchemaRegistry, schema_registry
from tests.support.serialized import ORDER, Serializers, protobuf_classes


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with schema_registry() as running:
        yield running


def decode(registry: SchemaRegistry, form: str, data: bytes) -> Any:
    decoders = Decoders(Registry(registry.url, {}))
    decoders.prepare(decoders.wanted(form, data))
    text = decoders.decode(form, data)
    decoders.close()
    return json.loads(text)


def test_avro_becomes_json(registry: SchemaRegistry) -> None:
    data = Serializers(registry).avro(ORDER, {"id": "a", "count": 1 << 60, "note": None})
    assert decode(registry, "avro", data) == {"id": "a", "count": 1 << 60, "note": None}


def test_what_json_has_no_type_for_is_text(registry: SchemaRegistry) -> None:
    kinds: dict[str, tuple[Any, Any, Any]] = {
        "b": ("bytes", b"\xff\x00", "/wA="),
        "d": (
            {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2},
            Decimal("1234567.80"),
            "1234567.80",
        ),
        "day": ({"type": "int", "logicalType": "date"}, datetime.date(2026, 2, 3), "2026-02-03"),
        "at": (
            {"type": "long", "logicalType": "timestamp-millis"},
            datetime.datetime(2026, 2, 3, 4, 5, 6, 7000, datetime.UTC),
            "2026-02-03T04:05:06.007000Z",
        ),
        "time": ({"type": "long", "logicalType": "time-micros"}, datetime.time(4, 5, 6, 7), "04:05:06.000007"),
        "uuid": ({"type": "string", "logicalType": "uuid"}, UUID(int=5), "00000000-0000-0000-0000-000000000005"),
        "nan": ("double", float("nan"), None),
        "e": ({"type": "enum", "name": "E", "symbols": ["ON", "OFF"]}, "OFF", "OFF"),
        "m": ({"type": "map", "values": {"type": "array", "items": "int"}}, {"x": [1, 2]}, {"x": [1, 2]}),
    }
    schema = {"type": "record", "name": "R", "fields": [{"name": k, "type": t} for k, (t, _, _) in kinds.items()]}
    data = Serializers(registry).avro(json.dumps(schema), {k: value for k, (_, value, _) in kinds.items()})
    assert decode(registry, "avro", data) == {k: expected for k, (_, _, expected) in kinds.items()}


def test_an_avro_text_is_a_json_text(registry: SchemaRegistry) -> None:
    assert decode(registry, "avro", Serializers(registry).avro('"string"', "abc")) == "abc"


def test_avro_schemas_may_refer_to_others(registry: SchemaRegistry) -> None:
    serializers = Serializers(registry)
    place = serializers.register(
        "Place", '{"type":"record","name":"Place","fields":[{"name":"city","type":"string"}]}', "AVRO"
    )
    outer = '{"type":"record","name":"Shop","fields":[{"name":"at","type":"Place"}]}'
    data = serializers.avro(Schema(outer, "AVRO", [place]), {"at": {"city": "Ulm"}})
    assert decode(registry, "avro", data) == {"at": {"city": "Ulm"}}


def test_avro_that_nests_deeper_than_a_record_may_is_refused_and_ends_no_process(registry: SchemaRegistry) -> None:
    tree = {"type": "record", "name": "Tree", "fields": [{"name": "next", "type": ["null", "Tree"]}]}
    value: dict[str, Any] = {"next": None}
    for _ in range(100):
        value = {"next": value}
    data = Serializers(registry).avro(json.dumps(tree), value)
    assert decode(registry, "avro", data) == value
    with pytest.raises(Undecodable, match="nests too deep"):
        decode(registry, "avro", data[:5] + b"\x02" * 1_000_000 + b"\x00")


@pytest.mark.parametrize(
    "items", ["null", {"type": "record", "name": "E", "fields": [{"name": "n", "type": "null"}]}], ids=str
)
def test_an_avro_array_of_nothing_is_refused_however_long_a_record_says_it_is(
    registry: SchemaRegistry, items: object
) -> None:
    schema = {"type": "record", "name": "R", "fields": [{"name": "a", "type": {"type": "array", "items": items}}]}
    reference = Serializers(registry).register("endless", json.dumps(schema), "AVRO")
    schema_id = Registry(registry.url, {}).client.get_version(reference.subject or "", 1).schema_id or 0
    with pytest.raises(ValueError, match="elements have no bytes"):
        decode(registry, "avro", b"\0" + schema_id.to_bytes(4) + b"\xff" * 8 + b"\x7f")


def test_protobuf_becomes_json_with_all_its_fields_and_names_as_in_the_schema(registry: SchemaRegistry) -> None:
    order, line = protobuf_classes()
    message = order(id="a", lines=[line(item="tea", pieces=2)], raw=b"\xff")
    message.placed.FromJsonString("2026-02-03T04:05:06Z")
    message.place.city = "Ulm"
    assert decode(registry, "protobuf", Serializers(registry).protobuf(message)) == {
        "id": "a",
        "total_cents": "0",  # 64 bits are text in Protobuf's own mapping to JSON
        "lines": [{"item": "tea", "pieces": 2}],
        "placed": "2026-02-03T04:05:06Z",
        "place": {"city": "Ulm"},
        "raw": "/w==",
    }


def test_protobuf_messages_may_be_nested_types(registry: SchemaRegistry) -> None:
    _, line = protobuf_classes()
    data = Serializers(registry).protobuf(line(item="tea"))
    assert decode(registry, "protobuf", data) == {"item": "tea", "pieces": 0}


def test_what_a_protobuf_record_says_of_its_message_costs_no_more_than_a_few_bytes_of_it(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = Serializers(registry).protobuf(protobuf_classes()[0](id="a"))
    decoders = Decoders(Registry(registry.url, {}))
    decoders.prepare(decoders.wanted("protobuf", good))
    made: list[None] = []
    monkeypatch.setattr(descriptor_pool, "DescriptorPool", lambda: made.append(None))
    hostile = [b"\x02\xd0\x0f", b"\x02\x01", b"\xff" * (1 << 20), b"\xc0\x9a\x0c" + b"\x02" * 200_000]
    for indexes in hostile:
        for _ in range(2):
            with pytest.raises(Undecodable):
                decoders.decode("protobuf", good[:5] + indexes)
    assert json.loads(decoders.decode("protobuf", good))["id"] == "a"
    assert made == []
    decoders.close()


def test_json_with_a_schema_is_what_the_producer_wrote(registry: SchemaRegistry) -> None:
    schema = '{"title":"Order","type":"object","properties":{"id":{"type":"string"}},"required":["id"]}'
    data = Serializers(registry).json(schema, {"id": "a", "more": 1.5})
    decoders = Decoders(Registry(registry.url, {}))
    decoders.prepare(decoders.wanted("json-schema", data))
    assert decoders.decode("json-schema", data) == data[5:]
    decoders.close()


def test_what_was_fetched_is_not_asked_for_again(registry: SchemaRegistry) -> None:
    order, _ = protobuf_classes()
    serializers = Serializers(registry)
    values = {"avro": serializers.avro(ORDER, {"id": "a", "count": 1}), "protobuf": serializers.protobuf(order(id="a"))}
    decoders = Decoders(Registry(registry.url, {}))
    registry.asked.clear()
    for form, data in values.items():
        decoders.prepare(decoders.wanted(form, data))
    asked = len(registry.asked)
    registry.stop()
    for form, data in [*values.items()] * 3:
        decoders.decode(form, data)
        decoders.prepare(decoders.wanted(form, data))
    assert len(registry.asked) == asked
    decoders.close()


@pytest.mark.parametrize("form", ["avro", "protobuf", "json-schema"])
@pytest.mark.parametrize("data", [b"", b"\0\0\0\0\1", b'{"id":"a"}', b"\1" + bytes(40)])
def test_bytes_without_the_id_of_a_schema_are_refused(registry: SchemaRegistry, form: str, data: bytes) -> None:
    decoders = Decoders(Registry(registry.url, {}))
    with pytest.raises(Undecodable, match="does not begin with the id of a schema"):
        decoders.wanted(form, data)
    decoders.close()


def test_bytes_of_another_shape_are_refused(registry: SchemaRegistry) -> None:
    order, _ = protobuf_classes()
    serializers = Serializers(registry)
    schema = '{"title":"T","type":"object"}'
    good = {
        "avro": serializers.avro(ORDER, {"id": "a", "count": 1}),
        "protobuf": serializers.protobuf(order(id="a")),
        "json-schema": serializers.json(schema, {}),
    }
    decoders = Decoders(Registry(registry.url, {}))
    bad = {
        "avro": [b"\x7f", b"\xff" * 20, b"\x02\xff\x02"],
        "protobuf": [b"\x02\x03\x02", b"\x02\x09", b"\0\x0a\xff", b"\x7f", b"\xff" * 12],
        "json-schema": [b"{", b"\xff", b"\0"],
    }
    for form, data in good.items():
        decoders.prepare(decoders.wanted(form, data))
        for rest in bad[form]:
            with pytest.raises(Undecodable, match=f"is no {form} of its schema"):
                decoders.decode(form, data[:5] + rest)
    decoders.close()


def test_whatever_stands_behind_the_id_is_json_or_refused(registry: SchemaRegistry) -> None:
    order, _ = protobuf_classes()
    serializers = Serializers(registry)
    frames = {
        "avro": serializers.avro(ORDER, {"id": "a", "count": 1})[:5],
        "protobuf": serializers.protobuf(order(id="a"))[:5],
        "json-schema": serializers.json('{"title":"T","type":"object"}', {})[:5],
    }
    decoders = Decoders(Registry(registry.url, {}))
    for form, frame in frames.items():
        decoders.prepare(decoders.wanted(form, frame + b"x"))

    @settings(max_examples=300, deadline=None)
    @given(st.sampled_from(sorted(frames)), st.binary(min_size=1, max_size=60))
    def either(form: str, data: bytes) -> None:
        with suppress(Undecodable):
            json.loads(decoders.decode(form, frames[form] + data))

    either()
    decoders.close()


def test_what_the_registry_does_not_know_is_told_from_a_registry_that_is_away(registry: SchemaRegistry) -> None:
    decoders = Decoders(Registry(registry.url, {}))
    wanted = decoders.wanted("avro", b"\0\0\0\0\x63x")
    with pytest.raises(SchemaUnknown, match="does not know schema 99"):
        decoders.prepare(wanted)
    for status in (401, 403, 429, 500, 503):
        registry.failing = status
        with pytest.raises(RegistryAway, match=str(status)):
            decoders.prepare(wanted)
    registry.stop()
    with pytest.raises(RegistryAway, match="does not answer"):
        decoders.prepare(wanted)
    decoders.close()


def test_the_registry_may_want_credentials_which_are_never_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with schema_registry("ann:open sesame") as registry:
        data = Serializers(registry, "ann:open sesame").avro(ORDER, {"id": "a", "count": 1})
        with_user = registry.url.replace("//", "//ann:open%20sesame@")
        for url, given_settings in ((registry.url, {"basic.auth.user.info": "ann:open sesame"}), (with_user, {})):
            decoders = Decoders(Registry(url, given_settings))
            decoders.prepare(decoders.wanted("avro", data))
            decoders.close()
        for user in ("", "ann:sesame@", "ann:open@sesame@"):
            url = registry.url.replace("//", f"//{user}")
            decoders = Decoders(Registry(url, {}))
            with pytest.raises(RegistryAway, match="401") as caught:
                decoders.prepare(decoders.wanted("avro", data))
            assert "sesame" not in str(caught.value)
            decoders.close()
    assert "/schemas/ids/1" in caplog.text
    assert "sesame" not in caplog.text


def test_the_registry_may_speak_tls(tmp_path: Path) -> None:
    made = make_certificates(tmp_path)
    with schema_registry(certificates=made) as registry:
        data = Serializers(registry, authority=made.authority).avro(ORDER, {"id": "a", "count": 1})
        decoders = Decoders(Registry(registry.url, {"ssl.ca.location": str(made.authority)}))
        decoders.prepare(decoders.wanted("avro", data))
        decoders.close()
        strangers = Decoders(Registry(registry.url, {}))
        with pytest.raises(RegistryAway, match="does not answer"):
            strangers.prepare(strangers.wanted("avro", data))
        strangers.close()


def test_settings_that_the_client_does_not_know_are_refused() -> None:
    with pytest.raises(ConfigError, match="schema-registry-setting"):
        Registry("http://127.0.0.1:1", {"no.such": "setting"})


def test_a_node_keeps_a_bounded_number_of_schemas(registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_module, "SCHEMAS_MAX", 1)
    serializers = Serializers(registry)
    first, second = serializers.avro('"string"', "a"), serializers.avro('"long"', 1)
    decoders = Decoders(Registry(registry.url, {}))
    decoders.prepare(decoders.wanted("avro", first))
    with pytest.raises(SchemaUnknown, match="one more than"):
        decoders.prepare(decoders.wanted("avro", second))
    decoders.prepare(decoders.wanted("avro", first))
    decoders.close()
