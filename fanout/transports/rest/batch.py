"""Many channels in one request: publishing to them, and who is present on each (Ably protocol, "REST").

- A channel stands for itself: it is written, or shown, as a whole or refused, and the answer says for each what became
  of it.
- A publish's body is one specification or an array of them, each with channels and messages: every channel gets all the
  messages. What is wrong with a specification itself refuses the request, before anything is written.
- Clients of protocol version 2 get one flat list, and 400 if a channel failed; later ones are told how many succeeded,
  a publish's for each specification.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

import msgspec
import orjson

from fanout.callbacks import outcome
from fanout.errors import ClientError, ErrorInfo, error
from fanout.session.messages import check_messages
from fanout.transports.http import Request, Response
from fanout.transports.replies import accepted_wire, error_headers, reply
from fanout.transports.rest.common import Api, BodyMessage, batch_result, body_wire, decoded_body, protocol_version
from fanout.transports.rest.presence import presence_to_wire
from fanout.transports.router import Route
from fanout.types import Identity, OutMessage
from fanout.wire import JSON, MSGPACK

__all__ = ["batch"]

CHANNELS_MAX: Final = 100
"""Channels in one specification, or to be shown; the protocol's number."""

MEMBERS_MAX: Final = 10_000
"""Members shown in one answer, of all its channels: some 3 MB. A channel beyond that is to be asked for by itself."""

MEMBERS_BYTES: Final = 4 << 20
"""What these members show, in bytes of data and extras."""

MEMBERS_PER_TURN: Final = 1_000
"""Members of one look at a channel, after which others get their turn."""

SPECIFICATIONS_MAX: Final = 100
"""Specifications in one request."""

PUBLISHES_MAX: Final = 10_000
"""Messages times channels in one request: a short body must not become a flood. Half of what a source takes."""


class _Specification(msgspec.Struct, frozen=True):
    channels: str | list[str]
    messages: BodyMessage | list[BodyMessage]


_Body = _Specification | list[_Specification]
_DECODERS: Final[Mapping[int, Any]] = {JSON: msgspec.json.Decoder(_Body), MSGPACK: msgspec.msgpack.Decoder(_Body)}


def batch(api: Api) -> Sequence[Route]:
    """The routes: method, path, handler."""

    async def publish(request: Request) -> Response:
        """Writes the messages of each specification to each of its channels."""
        identity = api.identified(request)
        body = decoded_body(request, _DECODERS)
        checked = await _checked(api, identity, body if isinstance(body, list) else [body], body_wire(request))
        results = [await _publish(api, identity, channels, messages) for channels, messages in checked]
        if protocol_version(request) > 2:
            return reply(request, [batch_result(result) for result in results], 201)
        return _flat(request, [item for result in results for item in result], 201)

    async def presence(request: Request) -> Response:
        """The members of each channel that the query names."""
        identity = api.identified(request)
        separator = request.query.get("separator") or ","
        spellings = [name for name in request.query.get("channels", "").split(separator) if name]
        if not 1 <= len(spellings) <= CHANNELS_MAX:
            raise ClientError(error(40003, f"channels names from 1 to {CHANNELS_MAX}"))
        shown = await _present(api, identity, spellings, accepted_wire(request))
        return reply(request, batch_result(shown)) if protocol_version(request) > 2 else _flat(request, shown, 200)

    return [("POST", "/messages", publish), ("GET", "/presence", presence)]


def _flat(request: Request, items: Sequence[Mapping[str, Any]], status: int) -> Response:
    """The answer to clients of version 2."""
    if not any("error" in item for item in items):
        return reply(request, items, status)
    reason = error(40020)
    return reply(request, {"error": reason.to_wire(), "batchResponse": items}, reason.status, *error_headers(reason))


async def _checked(
    api: Api, identity: Identity, specifications: Sequence[_Specification], wire: int
) -> list[tuple[list[str], list[OutMessage]]]:
    """Channels and messages of each specification. Raises ClientError."""
    if len(specifications) > SPECIFICATIONS_MAX:
        raise ClientError(error(40003, f"{SPECIFICATIONS_MAX} specifications are the limit"))
    checked, publishes = [], 0
    for specification in specifications:
        channels = [specification.channels] if isinstance(specification.channels, str) else specification.channels
        if not 1 <= len(channels) <= CHANNELS_MAX:
            raise ClientError(error(40003, f"a specification names from 1 to {CHANNELS_MAX} channels"))
        given = specification.messages
        messages = given if isinstance(given, list) else [given]
        if any(message.connection_key is not None for message in messages):
            raise ClientError(error(40006, "a batch speaks for no connection; publish to its channels one by one"))
        publishes += len(channels) * len(messages)
        if publishes > PUBLISHES_MAX:
            raise ClientError(error(40034, f"{PUBLISHES_MAX} are the limit, counted for each channel"))
        written = check_messages(
            messages,
            wire=wire,
            identity=identity,
            connection_id=None,
            id_base=secrets.token_urlsafe(12),
            limits=api.limits,
        )
        checked.append((channels, written.messages))
        await asyncio.sleep(0)  # others' turn: checking a thousand messages takes some ms
    return checked


async def _publish(
    api: Api, identity: Identity, channels: Sequence[str], messages: Sequence[OutMessage]
) -> list[dict[str, Any]]:
    """What became of each channel, once the log has said so for all."""
    message_id = messages[0].id.removesuffix(":0")
    outcomes: list[asyncio.Future[list[str] | ErrorInfo] | ErrorInfo] = []
    for spelling in channels:
        try:
            channel = api.permitted(spelling, identity, "publish")
        except ClientError as refused:
            outcomes.append(refused.info)
            continue
        outcomes.append(outcome(partial(api.publisher.publish, channel, messages)))
        await asyncio.sleep(0)  # others' turn: a publish of the largest size takes some ms
    results = [one if isinstance(one, ErrorInfo) else await one for one in outcomes]
    return [
        {"channel": channel, "error": result.to_wire()}
        if isinstance(result, ErrorInfo)
        else {"channel": channel, "messageId": message_id, "serials": result}
        for channel, result in zip(channels, results, strict=True)
    ]


async def _present(api: Api, identity: Identity, spellings: Sequence[str], wire: int) -> list[dict[str, Any]]:
    """Each channel with its members, or with why they are not shown."""
    shown: list[dict[str, Any]] = []
    room, room_bytes = MEMBERS_MAX, MEMBERS_BYTES
    for spelling in spellings:
        try:
            channel = api.visible(spelling, identity)
            members, size, following = [], 0, None
            while True:
                page, following = api.engine.members(channel, None, None, following, MEMBERS_PER_TURN)
                members += page
                size += sum(len(member.data or "") + len(orjson.dumps(member.extras)) for member in page)
                if len(members) > room or size > room_bytes:
                    raise ClientError(error(40009, f"more than {MEMBERS_MAX} members; ask for this channel by itself"))
                await asyncio.sleep(0)
                if following is None:
                    break
        except ClientError as refused:
            shown.append({"channel": spelling, "error": refused.info.to_wire()})
            continue
        room, room_bytes = room - len(members), room_bytes - size
        shown.append({"channel": spelling, "presence": [presence_to_wire(member, wire) for member in members]})
    return shown
