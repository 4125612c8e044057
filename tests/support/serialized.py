"""What producers write: confluent-kafka's own serializers over a registry, and Protobuf classes without a compiler."""

import json
from pathlib import Path
from typing import Any

from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroSerializer
from confluent_kafka.schema_registry.json_schema import JSONSerializer
from confluent_kafka.schema_registry.protobuf import ProtobufSerializer
from confluent_kafka.serialization import MessageField, SerializationContext
from google.protobuf import descriptor_pb2, descriptor_pool, timestamp_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto
from google.protobuf.message_factory import GetMessageClass

from tests.support.schema_registry import SchemaRegistry

__all__ = ["ORDER", "Serializers", "protobuf_classes"]

CONTEXT = SerializationContext("t", MessageField.VALUE)
BY_TOPIC = {"subject.name.strategy.type": "TOPIC"}
ORDER = json.dumps(
    {
        "type": "record",
        "name": "Order",
        "fields": [
            {"name": "id", "type": "string"},
            {"name": "count", "type": "long"},
            {"name": "note", "type": ["null", "string"], "default": None},
        ],
    }
)


class Serializers:
    """Serializers as a producer uses them; each call registers its schema."""

    def __init__(self, registry: SchemaRegistry, credentials: str | None = None, authority: Path | None = None) -> None:
        settings = {"basic.auth.user.info": credentials} if credentials else {}
        trust = {"ssl.ca.location": str(authority)} if authority else {}
        self.client = SchemaRegistryClient({"url": registry.url, **settings, **trust})

    def avro(self, schema: str | Schema, value: Any) -> bytes:
        serialize = AvroSerializer(self.client, schema, conf=BY_TOPIC)
        return bytes(serialize(value, CONTEXT) or b"")

    def json(self, schema: str | Schema, value: Any) -> bytes:
        serialize = JSONSerializer(schema, self.client, conf=BY_TOPIC)
        return bytes(serialize(value, CONTEXT) or b"")

    def protobuf(self, message: Any) -> bytes:
        serialize = ProtobufSerializer(type(message), self.client, conf=BY_TOPIC)
        return bytes(serialize(message, CONTEXT) or b"")

    def register(self, subject: str, schema: str, kind: str) -> SchemaReference:
        """Registers a schema for others to refer to, under its subject as its name."""
        self.client.register_schema(subject, Schema(schema, kind))
        return SchemaReference(name=subject, subject=subject, version=1)


def protobuf_classes() -> tuple[type[Any], type[Any]]:
    """Classes `shop.Order` (with a timestamp, and a place from another file) and `shop.Order.Line`, nested in it.

    message Place { string city = 1; }
    message Order {
      message Line { string item = 1; int32 pieces = 2; }
      string id = 1; int64 total_cents = 2; repeated Line lines = 3;
          Timestamp placed = 4; Place place = 5; bytes raw = 6;
    }
    """
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    place = descriptor_pb2.FileDescriptorProto(name="place.proto", package="shop", syntax="proto3")
    _message(place.message_type.add(), "Place", [("city", "STRING", "")])
    pool.Add(place)
    shop = descriptor_pb2.FileDescriptorProto(
        name="shop.proto",
        package="shop",
        syntax="proto3",
        dependency=["google/protobuf/timestamp.proto", "place.proto"],
    )
    order = shop.message_type.add()
    fields = [
        ("id", "STRING", ""),
        ("total_cents", "INT64", ""),
        ("lines", "MESSAGE", ".shop.Order.Line"),
        ("placed", "MESSAGE", ".google.protobuf.Timestamp"),
        ("place", "MESSAGE", ".shop.Place"),
        ("raw", "BYTES", ""),
    ]
    _message(order, "Order", fields)
    order.field[2].label = FieldDescriptorProto.LABEL_REPEATED
    _message(order.nested_type.add(), "Line", [("item", "STRING", ""), ("pieces", "INT32", "")])
    pool.Add(shop)
    return tuple(GetMessageClass(pool.FindMessageTypeByName(name)) for name in ("shop.Order", "shop.Order.Line"))


def _message(message: descriptor_pb2.DescriptorProto, name: str, fields: list[tuple[str, str, str]]) -> None:
    message.name = name
    for number, (field, kind, of) in enumerate(fields, 1):
        kind_number = FieldDescriptorProto.Type.Value(f"TYPE_{kind}")
        message.field.add(
            name=field, number=number, type=kind_number, type_name=of or None, label=FieldDescriptorProto.LABEL_OPTIONAL
        )
