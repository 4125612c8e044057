"""Decoders: bytes as a Confluent-compatible serializer wrote them, to JSON text.

Such bytes begin with a zero and the schema's id in four bytes. confluent-kafka's own deserialisers read the rest; they
find their schema in the client's memory, because `prepare` was called for its id before. Rules that a registry may
attach to its schemas (encryption of fields, migrations) are not carried out.
"""

import base64
import io
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple

import orjson
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.schema_registry.json_schema import JSONDeserializer
from confluent_kafka.schema_registry.protobuf import ProtobufDeserializer
from confluent_kafka.schema_registry.serde import SchemaId
from google.protobuf import descriptor_pb2, descriptor_pool
from google.protobuf.descriptor import Descriptor, FileDescriptor
from google.protobuf.json_format import MessageToDict
from google.protobuf.message_factory import GetMessageClass

from fanout.decoding.avro_shape import Shape, check_depth, shape_of
from fanout.decoding.json_text import json_text
from fanout.decoding.protobuf_shape import json_bytes, spread_of
from fanout.decoding.registry import Registry

__all__ = ["Decoders", "Undecodable", "Wanted"]

FRAME: Final = 5  # bytes in front of a value: zero, and the id of its schema
JSON_BYTES_MAX: Final = 128 << 20  # one record in JSON, and some times as much for a moment; records have a few MB
CLASSES_MAX: Final = 10_000  # kinds of Protobuf messages kept; made again when they are wanted again
INDEXES_BYTES: Final = 256  # that say which of a schema's messages it is: a hundred levels and more
WITHOUT_SUBJECT: Final = {"subject.name.strategy": lambda *_: None}  # an id alone says which schema it is


class Undecodable(Exception):
    """These bytes are not what the rule says that they are; the text says why."""


class Wanted(NamedTuple):
    """A schema, as it is needed to decode one format."""

    format: str
    schema_id: int


class Decoders:
    """Decodes with the schemas of one registry. Safe to be used by several threads."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._protobuf = _Protobuf()
        client = registry.client
        self._avro = _Avro(client)
        # What a producer has written is passed on as it is: valid JSON, whether or not it keeps to its schema.
        checked = JSONDeserializer(
            None, schema_registry_client=client, conf={**WITHOUT_SUBJECT, "validate": False}, json_decode=_as_written
        )
        self._decode: Mapping[str, Callable[[bytes], bytes]] = {
            "avro": self._avro.decode,
            "json-schema": lambda data: bytes(checked(data) or b""),
            "protobuf": self._protobuf.decode,
        }

    def wanted(self, form: str, data: bytes) -> Wanted:
        """The schema that `data` needs. Raises Undecodable."""
        if len(data) <= FRAME or data[0] != 0:
            raise Undecodable("it does not begin with the id of a schema")
        return Wanted(form, int.from_bytes(data[1:FRAME]))

    def prepare(self, wanted: Wanted) -> None:
        """Fetches a schema and what it refers to. Blocks; raises SchemaUnknown or RegistryAway."""
        if wanted.format == "protobuf":
            self._protobuf.learn(wanted.schema_id, *self._registry.fetch(wanted.schema_id, "serialized"))
            return
        schema, _ = self._registry.fetch(wanted.schema_id, None)
        if wanted.format == "avro":
            self._avro.learn(wanted.schema_id, schema)

    def decode(self, form: str, data: bytes) -> bytes:
        """`data` as JSON text. Raises Undecodable."""
        try:
            return self._decode[form](data)
        except Exception as problem:  # of three libraries, given bytes that anybody wrote
            reason = str(problem).partition("\n")[0] or type(problem).__name__
            raise Undecodable(f"it is no {form} of its schema: {reason}") from None

    def close(self) -> None:
        """Frees the registry's connections."""
        self._registry.close()


def _as_written(payload: bytes) -> bytes:
    orjson.loads(payload)
    return payload


class _Avro:
    """Avro by schemas that were looked at first: see `fanout.decoding.avro_shape`."""

    def __init__(self, client: SchemaRegistryClient) -> None:
        self._read = AvroDeserializer(client, conf=WITHOUT_SUBJECT)
        self._shapes: dict[int, tuple[Shape, Any]] = {}  # with their schemas by the ids, as many as `Registry` fetches

    def learn(self, schema_id: int, schema: Schema) -> None:
        """Takes a schema. Raises ValueError for one by which nothing can be read safely."""
        parsed = self._read._get_parsed_schema(schema)  # noqa: SLF001 - the very one that records are read by
        self._shapes[schema_id] = shape_of(parsed), parsed

    def decode(self, data: bytes) -> bytes:
        shape, schema = self._shapes[int.from_bytes(data[1:FRAME])]
        if len(data) * shape.spread > JSON_BYTES_MAX:
            raise ValueError(f"its {len(data)} bytes may become more than {JSON_BYTES_MAX >> 20} MiB of JSON")
        if shape.is_recursive:
            check_depth(data[FRAME:], schema)
        return json_text(self._read(data))


class _Protobuf:
    """Protobuf without generated classes: they are made from the schemas."""

    def __init__(self) -> None:
        self._files: dict[int, FileDescriptor] = {}  # by the ids of schemas, as many as `Registry` fetches
        self._kinds: dict[tuple[int, tuple[int, ...]], tuple[ProtobufDeserializer, int]] = {}  # with their spreads

    def learn(self, schema_id: int, schema: Schema, references: dict[str, Schema]) -> None:
        """Takes a schema, in the form `serialized`: a FileDescriptorProto in base64. Raises for what is none."""
        pool = descriptor_pool.DescriptorPool()
        for name, referred in references.items():
            _add(pool, _file(name, referred))
        file = _file("default", schema)
        _add(pool, file)
        self._files[schema_id] = pool.FindFileByName(file.name)

    def decode(self, data: bytes) -> bytes:
        where = SchemaId("PROTOBUF")
        where.from_bytes(io.BytesIO(data[: FRAME + INDEXES_BYTES]))
        indexes = int(where.id or 0), tuple(where.message_indexes or (0,))
        deserialiser, spread = self._kinds.get(indexes) or self._kind(*indexes)
        message: Any = deserialiser(data)
        if len(data) * spread > JSON_BYTES_MAX and json_bytes(message, len(data), JSON_BYTES_MAX) > JSON_BYTES_MAX:
            raise ValueError(f"its {len(data)} bytes become more than {JSON_BYTES_MAX >> 20} MiB of JSON")
        return json_text(
            MessageToDict(message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True)
        )

    def _kind(self, schema_id: int, indexes: tuple[int, ...]) -> tuple[ProtobufDeserializer, int]:
        if min(indexes) < 0:
            raise IndexError("the message's index is negative")
        messages: Any = list(self._files[schema_id].message_types_by_name.values())
        found: Descriptor = messages[indexes[0]]
        for index in indexes[1:]:
            found = found.nested_types[index]
        if len(self._kinds) >= CLASSES_MAX:
            self._kinds.clear()
        kind = ProtobufDeserializer(GetMessageClass(found)), spread_of(found)
        self._kinds[schema_id, indexes] = kind
        return kind


def _file(name: str, schema: Schema) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto.FromString(base64.standard_b64decode(schema.schema_str or ""))
    file.name = name
    return file


def _add(pool: descriptor_pool.DescriptorPool, file: descriptor_pb2.FileDescriptorProto) -> None:
    """Adds a file behind those that it imports: what is not added by then is one of Google's or Confluent's own."""
    for name in file.dependency:
        try:
            pool.FindFileByName(name)
        except KeyError:
            own = descriptor_pb2.FileDescriptorProto()
            descriptor_pool.Default().FindFileByName(name).CopyToProto(own)
            _add(pool, own)
    pool.Add(file)
