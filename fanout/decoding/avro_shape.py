"""What of an Avro schema decides how much a few bytes may become, looked at before the first record is read by it.

- A schema that leads back to itself lets records nest as deep as they are long. fastavro's compiled reader goes down as
  far as they say, and the thread's stack ends before: the process would. So records of such a schema are read by its
  reader in Python first, which raises where it goes too deep.
- The elements of an array that have no bytes are as many as a record of ten bytes says. No such schema is taken.
- Nor is one that nests too deep, or is too long when every name in it is written out, by itself.
"""

import io
from typing import Any, Final

from fastavro._read_py import schemaless_reader  # what fastavro falls back on where it is not compiled

__all__ = ["check_depth", "is_recursive"]

DEPTH_MAX: Final = 200  # levels of types; JSON ends at 254 levels of values
TYPES_MAX: Final = 100_000


def is_recursive(schema: Any) -> bool:
    """Whether records may nest without an end. Raises ValueError for a schema by which nothing can be read safely."""
    walk = _Walk()
    walk.size(schema, ())
    return walk.is_recursive


def check_depth(data: bytes, schema: Any) -> None:
    """Raises ValueError for a record that nests too deep, as whatever fastavro raises for one that is none."""
    try:
        schemaless_reader(io.BytesIO(data), schema)
    except RecursionError:
        raise ValueError("it nests too deep") from None


class _Walk:
    """One way through all types of a schema. What it calls the size of a type is 0 if its values may have no bytes."""

    def __init__(self) -> None:
        self.is_recursive = False
        self._named: dict[str, Any] = {}
        self._left = TYPES_MAX

    def size(self, schema: Any, above: tuple[str, ...], depth: int = 0) -> int:
        self._left -= 1
        if depth > DEPTH_MAX or self._left < 0:
            raise ValueError("its types nest too deep, or are too many")
        if isinstance(schema, list):
            for branch in schema:
                self.size(branch, above, depth + 1)
            return 1
        if isinstance(schema, str):
            if schema in above:
                self.is_recursive = True
                return 1
            named = self._named.get(schema)
            return int(schema != "null") if named is None else self.size(named, above, depth)
        kind = schema["type"]
        if "name" in schema:
            self._named[schema["name"]] = schema
        if kind in ("record", "error"):
            within = (*above, schema["name"])
            return max((self.size(field["type"], within, depth + 1) for field in schema["fields"]), default=0)
        if kind == "array" and self.size(schema["items"], above, depth + 1) == 0:
            raise ValueError("it has an array whose elements have no bytes")
        if kind == "map":
            self.size(schema["values"], above, depth + 1)
        if kind == "fixed":
            return int(schema["size"] > 0)
        return 1 if kind in ("array", "map", "enum") else self.size(kind, above, depth + 1)
