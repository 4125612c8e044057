"""One message by its serial: as it is now, its versions, changes, and what is said about it (Ably protocol, "REST").

Where memory does not hold it, the log is asked.
"""

import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol

import msgspec
import orjson

from fanout._core import summary_shown
from fanout.auth.realms import bare
from fanout.errors import ClientError, error
from fanout.session.annotations import check_annotations
from fanout.session.changes import check_change, target_serial
from fanout.transports.http import Request, Response
from fanout.transports.ports import Mutator
from fanout.transports.replies import accepted_wire, reply
from fanout.transports.rest.common import Api, body_wire, data_to_wire, decoded_body, written
from fanout.transports.rest.messages import message_to_wire
from fanout.transports.rest.paging import page_limit, page_links, whole_number
from fanout.transports.router import Route
from fanout.types import Annotation, Message
from fanout.wire import JSON, MSGPACK, ClientAnnotation, ClientMessage

__all__ = ["Lookup", "changes"]

_CHANGE: Final[Mapping[int, Any]] = {
    JSON: msgspec.json.Decoder(ClientMessage), MSGPACK: msgspec.msgpack.Decoder(ClientMessage)
}  # fmt: skip
_Said = ClientAnnotation | list[ClientAnnotation]
_SAID: Final[Mapping[int, Any]] = {JSON: msgspec.json.Decoder(_Said), MSGPACK: msgspec.msgpack.Decoder(_Said)}


class Known(Protocol):
    """See `fanout.lookup.Known`."""

    @property
    def message(self) -> Message: ...

    @property
    def summary(self) -> str | None: ...


class Lookup(Protocol):
    """Finds messages for `who` asks; `fanout.lookup.Lookup` answers this. All raise ClientError, 40400 among others."""

    async def find(self, channel: str, serial: str, who: str) -> Known:
        """The message as it is now."""

    async def versions(self, channel: str, serial: str, who: str) -> list[Message]:
        """The message as it was published, and each update and delete; oldest first."""

    async def annotations(self, channel: str, serial: str, who: str) -> list[Annotation]:
        """What was said about the message, oldest first."""


def changes(api: Api, lookup: Lookup, mutator: Mutator) -> Sequence[Route]:
    """The routes: method, path, handler."""
    offered = _Changes(api, lookup, mutator)
    path = "/channels/{channel}/messages/{serial}"
    return [
        ("GET", path, offered.message),
        ("PATCH", path, offered.change),
        ("GET", f"{path}/versions", offered.versions),
        ("GET", f"{path}/annotations", offered.annotations),
        ("POST", f"{path}/annotations", offered.annotate),
        ("GET", f"{path}/client-summary", offered.summary),
    ]


class _Changes:
    def __init__(self, api: Api, lookup: Lookup, mutator: Mutator) -> None:
        self._api = api
        self._lookup = lookup
        self._mutator = mutator

    async def message(self, request: Request) -> Response:
        """The message as it is now."""
        channel, identity = self._api.authorized(request, "history")
        known = await self._lookup.find(channel, self._serial(request), identity.who)
        return reply(request, message_to_wire(known.message, accepted_wire(request)))

    async def versions(self, request: Request) -> Response:
        """A page of the versions, oldest first."""
        channel, identity = self._api.authorized(request, "history")
        versions = await self._lookup.versions(channel, self._serial(request), identity.who)
        wire = accepted_wire(request)
        return _page(request, "versions", [message_to_wire(version, wire) for version in versions])

    async def annotations(self, request: Request) -> Response:
        """A page of what was said, oldest first."""
        channel, identity = self._api.authorized(request, "annotation-subscribe")
        annotations = await self._lookup.annotations(channel, self._serial(request), identity.who)
        wire = accepted_wire(request)
        return _page(request, "annotations", [_annotation_to_wire(annotation, wire) for annotation in annotations])

    async def summary(self, request: Request) -> Response:
        """What the annotations come to, and whether one client is among those who made them."""
        channel, identity = self._api.authorized(request, "history")
        known = await self._lookup.find(channel, self._serial(request), identity.who)
        if known.summary is None:
            raise ClientError(error(40400, "not all annotations of the message are known"))
        shown = summary_shown(known.summary, request.query.get("forClientId"))
        return reply(request, {} if shown is None else orjson.loads(shown))

    async def change(self, request: Request) -> Response:
        """Updates, deletes or appends."""
        identity = self._api.identified(request)
        channel = self._api.channel(request.variables["channel"], identity)
        asked: ClientMessage = decoded_body(request, _CHANGE)
        checked = check_change(
            [msgspec.structs.replace(asked, serial=request.variables["serial"])],
            channel=channel,
            wire=body_wire(request),
            identity=identity,
            connection_id=None,
            id_base=secrets.token_urlsafe(12),
            limits=self._api.limits,
        )
        (version,) = await written(partial(self._mutator.change, channel, [checked.change], identity.who))
        return reply(request, {"versionSerial": version})

    async def annotate(self, request: Request) -> Response:
        """Says something about the message."""
        channel, identity = self._api.authorized(request, "annotation-publish")
        asked = decoded_body(request, _SAID)
        serial = request.variables["serial"]
        checked = check_annotations(
            [
                msgspec.structs.replace(one, message_serial=serial)
                for one in (asked if isinstance(asked, list) else [asked])
            ],
            wire=body_wire(request),
            identity=identity,
            connection_id=None,
            id_base=secrets.token_urlsafe(12),
            limits=self._api.limits,
        )
        serials = await written(partial(self._mutator.change, channel, checked.annotations, identity.who))
        return reply(request, {"channel": bare(channel), "messageSerial": serial, "serials": serials}, 201)

    def _serial(self, request: Request) -> str:
        return target_serial(request.variables["serial"], self._api.limits)


def _page(request: Request, path: str, items: Sequence[dict[str, Any]]) -> Response:
    """A page of a list that only grows at its end: the cursor is how many come before."""
    limit, begin = page_limit(request.query), whole_number(request.query, "cursor", 0)
    links = page_links(path, {"limit": limit}, begin, begin + limit if begin + limit < len(items) else None)
    return reply(request, items[begin : begin + limit], 200, *links)


def _annotation_to_wire(annotation: Annotation, wire: int) -> dict[str, Any]:
    data, encoding = data_to_wire(annotation.data, annotation.encoding, wire)
    fields = {
        "id": annotation.id,
        "action": annotation.action,
        "messageSerial": annotation.message_serial,
        "type": annotation.type,
        "name": annotation.name,
        "count": annotation.count,
        "data": data,
        "encoding": encoding,
        "clientId": annotation.client_id,
        "timestamp": annotation.timestamp,
        "extras": annotation.extras,
        "serial": annotation.serial,
    }
    return {name: value for name, value in fields.items() if value is not None}
