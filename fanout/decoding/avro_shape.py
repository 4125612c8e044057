"""What of an Avro schema decides how much a few bytes may become, looked at before the first record is read by it.

- A schema that leads back to itself lets records nest as deep as they are long. fastavro's compiled reader goes down as
  far as they say, and the thread's stack ends before: the process would. So records of such a schema are read by its
  reader in Python first, which raises where it goes too deep.
- The elements of an array that have no bytes are as many as a record of ten bytes says. No such schema is taken.
- Nor is one that nests too deep, or is too long when every name in it is written out, by itself.
- JSON has the names of fields, and nulls, which a record does not pay for. What repeats in it (elements, entries, the
  branches of a union, whatever leads back) makes of each of its bytes so many of JSON at most: the schema's *spread*.
"""

import io
import math
from typing import Any, Final, NamedTuple

from fastavro._read_py import schemaless_reader  # what fastavro falls back on where it is not compiled

__all__ = ["Shape", "check_depth", "shape_of"]

DEPTH_MAX: Final = 200  # levels of types; JSON ends at 254 levels of values
TYPES_MAX: Final = 100_000
DATE_BYTES: Final = 40
VALUE_BYTES: Final = 6  # a byte that JSON escapes, a number or a truth value has no more of its own, byte by byte


class Shape(NamedTuple):
    """What is told of a schema."""

    is_recursive: bool
    """Whether records may nest without an end."""
    spread: int
    """Bytes of JSON that one byte of a record may become, beside what the schema itself comes to once."""


def shape_of(schema: Any) -> Shape:
    """Looks at a schema. Raises ValueError for one by which nothing can be read safely."""
    walk = _Walk()
    walk.size(schema, ())
    return Shape(bool(walk.led_back), math.ceil(walk.spread) + VALUE_BYTES)


def check_depth(data: bytes, schema: Any) -> None:
    """Raises ValueError for a record that nests too deep, as whatever fastavro raises for one that is none."""
    try:
        schemaless_reader(io.BytesIO(data), schema)
    except RecursionError:
        raise ValueError("it nests too deep") from None


class _Size(NamedTuple):
    """What values of a type are at the least: their own bytes, and the JSON that comes with these whatever they say."""

    data: int
    text: int


_PLAIN: Final = {"null": _Size(0, 4), "float": _Size(4, 0), "double": _Size(8, 0)}


class _Walk:
    """One way through all types of a schema."""

    def __init__(self) -> None:
        self.led_back: set[str] = set()
        self.spread = 0.0
        self._named: dict[str, Any] = {}
        self._left = TYPES_MAX

    def size(self, schema: Any, above: tuple[str, ...], depth: int = 0) -> _Size:
        self._left -= 1
        if depth > DEPTH_MAX or self._left < 0:
            raise ValueError("its types nest too deep, or are too many")
        if isinstance(schema, list):
            branches = [self.size(branch, above, depth + 1) for branch in schema]
            for branch in branches:
                self._repeats(branch)
            return _Size(1, max((text for data, text in branches if data == 0), default=0))
        if isinstance(schema, str):
            if schema in above:
                self.led_back.add(schema)
                return _Size(1, 0)
            named = self._named.get(schema)
            return _PLAIN.get(schema, _Size(1, 0)) if named is None else self.size(named, above, depth)
        kind = schema["type"]
        if "name" in schema:
            self._named[schema["name"]] = schema
        if kind in ("record", "error"):
            return self._record(schema, (*above, schema["name"]), depth)
        if kind in ("array", "map"):
            item = self.size(schema["items" if kind == "array" else "values"], above, depth + 1)
            if kind == "array" and item.data == 0:
                raise ValueError("it has an array whose elements have no bytes")
            self._repeats(_Size(item.data, item.text + 1) if kind == "array" else _Size(item.data + 1, item.text + 4))
            return _Size(1, 2)
        if "logicalType" in schema:  # a number that is given as a date, or with zeros
            plain = _Size(schema["size"], 2) if kind == "fixed" else self.size(kind, above, depth + 1)
            return _Size(plain.data, plain.text + DATE_BYTES + int(schema.get("scale", 0)))
        if kind == "fixed":
            return _Size(schema["size"], 2)
        if kind == "enum":
            return _Size(1, max((len(symbol) for symbol in schema["symbols"]), default=0) + 2)
        return self.size(kind, above, depth + 1)

    def _record(self, schema: Any, within: tuple[str, ...], depth: int) -> _Size:
        data, text = 0, 2
        for field in schema["fields"]:
            size = self.size(field["type"], within, depth + 1)
            data += size.data
            text += size.text + len(field["name"].encode()) + 4
        size = _Size(data, text)
        if schema["name"] in self.led_back:
            self._repeats(size)
        return size

    def _repeats(self, size: _Size) -> None:
        """There may be as many values of this size as a record has room for."""
        if size.data:  # what has no bytes is what something else has text for
            self.spread = max(self.spread, size.text / size.data)
