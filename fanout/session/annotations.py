"""Annotations: what a client may say about messages (Ably protocol, "Annotations").

A type is `namespace:method.version`; the method says how annotations of it are summed up, and what they need:

===============  ===========================================
``total.v1``     nothing
``flag.v1``      a client id
``distinct.v1``  a client id and a name
``unique.v1``    a client id and a name
``multiple.v1``  a name; `count` is 1 unless given
===============  ===========================================

A type with another method, or none, is delivered and not summed up. Sessions and REST ask the same question here;
whether the message is there is `fanout.mutate`'s.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from fanout.errors import ClientError, error
from fanout.session.changes import target_serial
from fanout.session.extras import extras_bytes
from fanout.session.limits import Limits
from fanout.session.messages import byte_size, message_ids, resolve_client_id
from fanout.types import Identity, OutAnnotation
from fanout.wire import ClientAnnotation, decode_data

__all__ = ["CheckedAnnotations", "check_annotations"]

_IDENTIFIED: Final = ("flag.v1", "distinct.v1", "unique.v1")
_NAMED: Final = ("distinct.v1", "unique.v1", "multiple.v1")
_COUNT_MAX: Final = 1 << 31


class CheckedAnnotations(NamedTuple):
    """Annotations ready for `fanout.mutate`, and their size in bytes by the rule for messages."""

    annotations: list[OutAnnotation]
    size: int


def check_annotations(
    annotations: Sequence[ClientAnnotation],
    *,
    wire: int,
    identity: Identity,
    connection_id: str | None,
    id_base: str,
    limits: Limits,
) -> CheckedAnnotations:
    """Checks the annotations of one frame and completes them. Ids are given by the client, or `id_base:index`.

    Raises ClientError: 40000 for none, an action, type, name or count that makes no sense, 40003 for the serial, 40034
    for too many, 40161 without the client id that the type needs, and as for a publish 40009, 40012, 40013, 40031,
    40032.
    """
    if not annotations:
        raise ClientError(error(40000, "a frame without annotations"))
    if len(annotations) > limits.annotations_per_frame:
        raise ClientError(
            error(40034, f"{len(annotations)} in one frame, {limits.annotations_per_frame} annotations are the limit")
        )
    ids = message_ids(annotations, id_base, connection_id, limits)
    checked, size = [], 0
    for annotation, annotation_id in zip(annotations, ids, strict=True):
        one = _check(annotation, annotation_id, wire, identity, connection_id, limits)
        size += byte_size(one.type) + byte_size(one.name) + byte_size(one.client_id) + byte_size(one.data)
        size += extras_bytes(one.extras, limits.extras_depth)
        if size > limits.message_bytes:
            raise ClientError(error(40009, f"annotations of more than {limits.message_bytes} bytes"))
        checked.append(one)
    return CheckedAnnotations(checked, size)


def _check(
    annotation: ClientAnnotation,
    annotation_id: str,
    wire: int,
    identity: Identity,
    connection_id: str | None,
    limits: Limits,
) -> OutAnnotation:
    if annotation.action not in (None, 0, 1):
        raise ClientError(error(40000, "the action of an annotation is 0 (create) or 1 (delete)"))
    kind = annotation.type
    if not isinstance(kind, str) or not 0 < byte_size(kind) <= limits.annotation_type_bytes:
        raise ClientError(error(40000, f"the type of an annotation has 1 to {limits.annotation_type_bytes} bytes"))
    method = kind.rpartition(":")[2]
    name = _name(annotation.name, method, limits)
    client_id = resolve_client_id(annotation.client_id, identity)
    if client_id is None and method in _IDENTIFIED:
        raise ClientError(error(40161, f"annotations of the method {method} take a client id"))
    data, encoding = decode_data(annotation.data, annotation.encoding, wire)
    if encoding is not None and len(encoding.encode()) > limits.encoding_bytes:
        raise ClientError(error(40013, f"an encoding longer than {limits.encoding_bytes} bytes"))
    return OutAnnotation(
        serial=target_serial(annotation.message_serial, limits),
        type=kind,
        id=annotation_id,
        deletes=annotation.action == 1,
        name=name,
        count=_count(annotation.count),
        data=data,
        encoding=encoding,
        client_id=client_id,
        connection_id=connection_id,
        extras=annotation.extras,
    )


def _name(name: Any, method: str, limits: Limits) -> str | None:
    if name is None and method not in _NAMED:
        return None
    if not isinstance(name, str) or not 0 < byte_size(name) <= limits.annotation_type_bytes:
        raise ClientError(error(40000, f"the name of an annotation has 1 to {limits.annotation_type_bytes} bytes"))
    return name


def _count(count: Any) -> int | None:
    if count is None:
        return None
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= _COUNT_MAX:
        raise ClientError(error(40000, f"the count of an annotation is a whole number up to {_COUNT_MAX}"))
    return count
