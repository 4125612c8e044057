"""Records of Avro, Protobuf and JSON Schema as JSON text: what stands between a source and everything that reads it.

The engine, its rules and every subscriber speak JSON. `DecodedSource` wraps a log and gives of each topic whose rule
names a format the same records with their keys and values as JSON; where one cannot be made, the record as it lies in
the log with a header that says why, so that its rule fails it like any other. Schemas come from a registry that
speaks the REST API of Confluent's.
"""

from fanout.decoding.decoders import FORMATS, Decoders
from fanout.decoding.schemas import Schemas
from fanout.decoding.source import DecodedSource

__all__ = ["FORMATS", "DecodedSource", "Decoders", "Schemas"]
