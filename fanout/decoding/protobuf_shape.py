"""What JSON shows of a Protobuf message beside what its bytes say: names, and the fields that are not set.

A message within a message has two bytes at the least, and may have a hundred fields: one record that says nothing a
million times becomes gigabytes. So where that is to be feared, what a message comes to is counted before it is made.
"""

from typing import Any, Final

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message

__all__ = ["json_bytes", "spread_of"]

VALUE_BYTES: Final = 6  # of JSON for each byte of a message: what is escaped, and numbers, have no more
FIELD_BYTES: Final = 10  # beside the name: quotes, colon, comma, and a zero or nothing


def spread_of(kind: Descriptor) -> int:
    """Bytes of JSON that one byte of a message of this kind may become."""
    kinds: dict[str, Descriptor] = {}
    waiting = [kind]
    while waiting:
        one = waiting.pop()
        if one.full_name not in kinds:
            kinds[one.full_name] = one
            waiting.extend(field.message_type for field in one.fields if field.message_type is not None)
    longest = max((len(field.name) for one in kinds.values() for field in one.fields), default=0)
    return max(map(_unset_bytes, kinds.values())) // 2 + longest + FIELD_BYTES + VALUE_BYTES


def json_bytes(message: Message, size: int, most: int) -> int:
    """Bytes of JSON that a message of so many bytes becomes at the most; counted to a little beyond `most`."""
    unset: dict[str, int] = {}
    found = VALUE_BYTES * size
    waiting = [message]
    while waiting and found <= most:
        one = waiting.pop()
        kind: Any = one.DESCRIPTOR
        if kind.full_name not in unset:
            unset[kind.full_name] = _unset_bytes(kind)
        found += unset[kind.full_name]
        for field, value in one.ListFields():
            found += _text_bytes(field)
            if field.message_type is None:
                continue
            if field.message_type.GetOptions().map_entry:
                if field.message_type.fields_by_name["value"].message_type is not None:
                    waiting.extend(value.values())
            elif field.is_repeated:
                waiting.extend(value)
            else:
                waiting.append(value)
    return found


def _unset_bytes(kind: Descriptor) -> int:
    """What JSON shows of a message of which nothing is set."""
    return 2 + sum(_text_bytes(field) for field in kind.fields if not field.has_presence)


def _text_bytes(field: FieldDescriptor) -> int:
    longest = max(len(value.name) for value in field.enum_type.values) if field.enum_type is not None else 0
    return len(field.name) + FIELD_BYTES + longest
