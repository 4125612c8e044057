"""Records of Avro, Protobuf and JSON Schema as JSON text: what stands between a source and everything that reads it.

The engine, its rules and every subscriber speak JSON. `DecodedSource` wraps a log and gives of each topic whose rule
names a format the same records with their keys and values as JSON; where one cannot be made, the record as it lies in
the log with a header that says why, so that its rule fails it like any other. Schemas come from a registry that
speaks the REST API of Confluent's.

The packages for it are the extra `schemas`; nothing of them is imported before a rule needs it.
"""

from fanout.decoding.configured import configured_schemas, decoded_source

__all__ = ["configured_schemas", "decoded_source"]
