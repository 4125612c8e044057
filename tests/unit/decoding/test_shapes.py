"""How much JSON a record may become is told by its schema, and bounded before it is made."""

import datetime
import io
import json
import random
import string
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import fastavro
import pytest
from google.protobuf.json_format import MessageToDict

from fanout.decoding import decoders as decoders_module
from fanout.decoding.avro_shape import shape_of
from fanout.decoding.decoders import Decoders, Undecodable
from fanout.decoding.json_text import json_text
from fanout.decoding.protobuf_shape import json_bytes, spread_of
from fanout.decoding.registry import Registry
from tests.support.schema_registry import SchemaRegistry, schema_registry
from tests.support.serialized import Serializers, protobuf_classes

Value = Callable[[random.Random], Any]


def record(name: str = "R", **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": field, "type": fields[field]} for field in fields]}


def text(dice: random.Random) -> str:
    return "".join(dice.choices(string.printable + "\0\x1f€\N{PILE OF POO}", k=dice.randrange(20)))


def tree(dice: random.Random, depth: int = 6) -> dict[str, Any]:
    count = dice.randrange(3) if depth else 0
    return {"a_name_that_comes_again_and_again": None, "branches": [tree(dice, depth - 1) for _ in range(count)]}


def often(value: Value) -> Value:
    return lambda dice: {"a": [value(dice) for _ in range(dice.randrange(50))]}


NOTHING = {f"nothing{number}": "null" for number in range(50)}
HOLLOW = record("Hollow", n="int", **NOTHING)
EMPTY = {"n": 1} | dict.fromkeys(NOTHING)
MOMENT = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
SHAPES: dict[str, tuple[Any, Value]] = {
    "nulls": (HOLLOW, often(lambda dice: EMPTY)),
    "union": (["null", HOLLOW, record("Other", a=["null", "int"])], often(lambda dice: dice.choice([None, EMPTY]))),
    "map": ({"type": "map", "values": "null"}, often(lambda dice: {text(dice): None for _ in range(9)})),
    "enum": (
        {"type": "enum", "name": "E", "symbols": ["x" * 300, "y"]},
        often(lambda dice: dice.choice(["x" * 300, "y"])),
    ),
    "values": (
        ["boolean", "double", "string", "bytes", "long"],
        often(lambda dice: dice.choice([True, dice.random() * 1e-200, text(dice), b"\xff" * 9, -(1 << 62), -1])),
    ),
    "float": ("float", often(lambda dice: dice.random() * 1e-30)),
    "decimal": (
        {"type": "bytes", "logicalType": "decimal", "precision": 400, "scale": 300},
        often(lambda dice: Decimal(dice.randrange(100)).scaleb(-300)),
    ),
    "time": (
        {"type": "long", "logicalType": "timestamp-micros"},
        often(lambda dice: MOMENT + datetime.timedelta(microseconds=dice.randrange(100))),
    ),
    "tree": (
        record("Tree", a_name_that_comes_again_and_again="null", branches={"type": "array", "items": "Tree"}),
        often(tree),
    ),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_avro_becomes_no_more_than_its_schema_tells(shape: str) -> None:
    items, value = SHAPES[shape]
    schema = fastavro.parse_schema(record(a={"type": "array", "items": items}))
    spread = shape_of(schema).spread
    for seed in range(100):
        written = io.BytesIO()
        fastavro.schemaless_writer(written, schema, value(random.Random(seed)))
        written.seek(0)
        made = json_text(fastavro.schemaless_reader(written, schema, None))
        assert len(made) <= spread * len(written.getvalue()) + len('{"a":[]}')


def test_what_comes_once_spreads_nothing() -> None:
    once = record(**{f"a_field_with_a_long_name_{number}": "null" for number in range(1000)}, data="string")
    assert shape_of(fastavro.parse_schema(once)).spread == shape_of("string").spread


def test_protobuf_becomes_no_more_than_is_counted() -> None:
    order, line = protobuf_classes()
    for seed in range(100):
        dice = random.Random(seed)
        lines = [line(item=text(dice), pieces=dice.choice([0, 1, -(1 << 31)])) for _ in range(dice.randrange(30))]
        message = order(id="a", raw=dice.randbytes(dice.randrange(50)), lines=lines)
        said = MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        counted = json_bytes(message, message.ByteSize(), 1 << 30)
        assert len(json_text(said)) <= counted
        assert counted <= message.ByteSize() * spread_of(order.DESCRIPTOR) + 200


@pytest.fixture
def registry() -> Iterator[SchemaRegistry]:
    with schema_registry() as running:
        yield running


def test_a_record_of_many_nothings_is_refused_before_it_is_made(
    registry: SchemaRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders_module, "JSON_BYTES_MAX", 100_000)
    order, line = protobuf_classes()
    serializers = Serializers(registry)
    schema = json.dumps(record(a={"type": "array", "items": HOLLOW}))
    made: list[tuple[str, bytes, bytes]] = [
        ("avro", serializers.avro(schema, {"a": [EMPTY] * 20}), serializers.avro(schema, {"a": [EMPTY] * 1_000})),
        (
            "protobuf",
            serializers.protobuf(order(lines=[line()] * 1_000)),
            serializers.protobuf(order(lines=[line()] * 10_000)),
        ),
    ]
    decoders = Decoders(Registry(registry.url, {}))
    for form, few, many in made:
        decoders.prepare(decoders.wanted(form, few))
        assert json.loads(decoders.decode(form, few))
        with pytest.raises(Undecodable, match="MiB of JSON"):
            decoders.decode(form, many)
    decoders.close()
