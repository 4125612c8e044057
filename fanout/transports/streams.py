"""Channels as an HTTP response that does not end (Ably protocol, "SSE"): for browsers' EventSource, curl, and whatever
else reads lines.

========================  ===========================================================================================
``GET /sse``              server-sent events (HTML standard, "Server-sent events")
``GET /event-stream``     the same if that is what ``Accept`` says, else a JSON object a line
========================  ===========================================================================================

- What is wrong before the response has begun is an HTTP error, as with REST. Later an `error` event tells; it is the
  last one unless it names a channel: there is a gap in that, behind which the stream goes on.
- EventSource comes back after the end of a response, and never after an HTTP error. So whoever asks like one and may
  come back is told by an `error` event too, which then is all of the response.
- Each event's id is the position behind it in every channel of the stream, in the order of the query, so that a
  stream goes on exactly from wherever it was cut. The first id comes before any event.
- A channel of which the log cannot be asked waits: the others go on, and each id has its place as the client gave it.
- Nothing is published here, and no presence set is given; presence events are.
- The response is written by the engine's shards like any other connection; nothing of it passes through here.

Belongs to the event loop.
"""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Final

from fanout.errors import ClientError, ErrorInfo, error
from fanout.session.attach import WaitingAttach
from fanout.session.effects import Attach, Effect, Reply, Retry, Watch
from fanout.session.params import VERSIONS
from fanout.transports.connections import Connections
from fanout.transports.driver import Driver
from fanout.transports.http import Request, Response, Streamed
from fanout.transports.replies import with_cors
from fanout.transports.rest import patient
from fanout.transports.rest.common import protocol_version
from fanout.transports.router import Route
from fanout.transports.stream_link import StreamLink
from fanout.transports.stream_wishes import Wishes
from fanout.wire import JSON, Action, ClientFrame, Flag, encode

__all__ = ["streams"]

_READY_SECONDS: Final = 8.0  # as for connections of other kinds
_COME_BACK: Final = 80003
_NORMAL: Final = 1000  # RFC 6455 §7.4.1
_MODES: Final = Flag.SUBSCRIBE | Flag.PRESENCE_SUBSCRIBE
_HEADERS: Final = (("cache-control", "no-cache, no-transform"), ("x-accel-buffering", "no"))


def streams(connections: Connections) -> Sequence[Route]:
    """The routes: method, path, handler."""

    async def begun(request: Request) -> Response:
        wishes = Wishes.read(request, lines=not (request.path == "/sse" or _asks_for_events(request)))
        if request.method == "HEAD":
            return with_cors(request, Response(200, content_type=wishes.content_type, headers=_HEADERS))
        if request.version != "1.1":
            raise ClientError(error(40000, "streams take HTTP/1.1"))
        driver = _Client(connections, request, wishes)
        link = StreamLink(connections.engine, driver)
        driver.link = link
        await driver.prepare()
        return with_cors(request, Streamed(content_type=wishes.content_type, headers=_HEADERS, begin=link.start))

    begin = patient(begun)

    async def stream(request: Request) -> Response:
        try:
            return await begin(request)
        except ClientError as refused:
            if not (_asks_for_events(request) and _passes(refused.info)):
                raise
            told = _error_event(refused.info.to_wire(), lines=False)
            return with_cors(request, Response(200, told, content_type="text/event-stream", headers=_HEADERS))

    return [("GET", "/sse", stream), ("GET", "/event-stream", stream)]


def _asks_for_events(request: Request) -> bool:
    """Whether the client reads nothing but events, as EventSource does."""
    return any(part.partition(";")[0] == "text/event-stream" for part in request.tokens("accept"))


def _passes(refused: ErrorInfo) -> bool:
    """Whether the same request may be granted later."""
    return refused.code == _COME_BACK or refused.status in (429, 500)


def _error_event(wrong: dict[str, Any], *, lines: bool) -> bytes:
    data = encode(wrong, JSON)
    return b'{"event":"error","data":' + data + b"}\n" if lines else b"event: error\ndata: " + data + b"\n\n"


class _Client(Driver):
    """The driver of one stream."""

    __slots__ = ("_attaches", "_connection", "_prepared", "_waiting", "_watches", "_wishes")

    def __init__(self, connections: Connections, request: Request, wishes: Wishes) -> None:
        """Raises ClientError 40017 for a version that is none."""
        dropped = ("resume", "recover", "format", "heartbeats")  # of sockets
        query = {name: value for name, value in request.query.items() if name not in dropped}
        # Whoever types the address need not know of versions, and pages written for the first one say 1.2.
        query["v"] = str(max(protocol_version(request), VERSIONS[0]))
        self._connection = replace(request, query=query)
        super().__init__(connections, self._connection, wishes.wire)
        self._wishes = wishes
        self._attaches: dict[str, Attach] = {}
        self._waiting: dict[str, int] = {}  # channels that wait for the log, and their attachments' numbers
        self._watches: list[Watch] = []
        self._prepared: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def prepare(self) -> None:
        """Begins the session and finds the place in each channel of which the log can be asked.

        Raises ClientError for a client that is not let in, and KeysAwaited if that cannot be told yet.
        """
        node = self._node
        try:
            async with asyncio.timeout(_READY_SECONDS):
                await node.ready.wait()
        except TimeoutError:
            raise ClientError(error(80003, "this node is not ready yet")) from None
        request = self._connection
        session = node.open_session(request.query, request.headers.get("authorization"), node.clock())
        self._session = session
        session.deliver = self._deliver
        try:
            if session.identity.expires is not None:
                node.terms.begin(self, session.identity)
            self._run(session.open)
            for spelling, position in self._wishes.places.items():
                wanted = ClientFrame(
                    Action.ATTACH,
                    channel=spelling,
                    channel_serial=position or None,
                    flags=_MODES,
                    params={**self._wishes.params},
                )
                self._run(partial(session.receive, wanted, node.clock()))
            await self._prepared
        except BaseException:
            self.disconnected()
            raise

    def begin(self) -> None:
        """The head of the response is written: everything else is the engine's."""
        assert self._session is not None
        self._register(self._session.connection_id, heartbeats=self._wishes.heartbeats)
        engine = self._node.engine
        attaches = [self._attaches[spelling] for spelling in self._wishes.places if spelling in self._attaches]
        told = b"".join(self._gap(attach) for attach in attaches) + self._first_id()
        if self._waiting:
            if told:
                engine.send(self._handle, told)
            for spelling, place in self._places():
                attach = self._attaches.get(spelling)
                engine.hold(self._handle, attach.attachment if attach else self._waiting[spelling], place)
            told = b""
        # Else nothing is given before the last one is there: what comes with it, and with no other, says so.
        for attach in attaches:
            self._attach(attach, told if attach is attaches[-1] else b"")
        self._attaches.clear()
        self._waiting.clear()
        for watch in self._watches:
            self._carry_out(watch)

    def disconnected(self) -> None:
        """See `Driver`. Nothing of the conversation is kept: the client goes on by its last event."""
        if self._session is not None:
            self._session.receive(ClientFrame(Action.CLOSE), self._node.clock())
        super().disconnected()

    # -- effects --

    def _perform(self, effect: Effect) -> None:
        match effect:
            case Reply():
                self._tell(effect.frame)
            case Attach() if self._handle:
                self._attach(effect, self._gap(effect))
            case Attach():
                self._waiting.pop(effect.spelling, None)
                self._attaches[effect.spelling] = effect
                self._settle_if_all_are_known()
            case Retry(unanswered=True, frame=WaitingAttach(spelling, number=int(number))) if not self._handle:
                self._carry_out(effect)
                self._waiting[spelling] = number
                self._settle_if_all_are_known()
            case Watch() if not self._handle:
                self._watches.append(effect)
            case _:
                self._carry_out(effect)

    def _tell(self, frame: dict[str, Any]) -> None:
        """Of what a session says only what is wrong is told."""
        wrong = frame.get("error")
        if wrong is None:
            return
        if self._handle:
            self._node.engine.send(self._handle, self._event(wrong))
            if "channel" in frame:  # that waited, and is refused
                self.link.finish(_NORMAL)
        else:
            self._settle(ErrorInfo(wrong["code"], wrong["statusCode"], wrong["message"]))

    def _settle_if_all_are_known(self) -> None:
        if len(self._attaches) + len(self._waiting) == len(self._wishes.places):
            self._settle(None)

    def _settle(self, refused: ErrorInfo | None) -> None:
        if self._prepared.done():
            return
        if refused is None:
            self._prepared.set_result(None)
        else:
            self._prepared.set_exception(ClientError(refused))

    # -- what the engine has no messages for --

    def _gap(self, attach: Attach) -> bytes:
        """What is to be told of a position that could not be gone on from."""
        wrong = attach.frame.get("error")
        return b"" if wrong is None else self._event({**wrong, "channel": attach.spelling})

    def _event(self, wrong: dict[str, Any]) -> bytes:
        return _error_event(wrong, lines=self._wishes.lines)

    def _places(self) -> Iterator[tuple[str, str]]:
        """Where each channel stands before anything was given. Before a snapshot it has no position."""
        for spelling, position in self._wishes.places.items():
            attach = self._attaches.get(spelling)
            yield spelling, attach.plan.first if attach else position

    def _first_id(self) -> bytes:
        """The id of a client that was given nothing yet."""
        text = ",".join(place for _, place in self._places()).encode()
        if not text:
            return b""
        return b'{"id":"' + text + b'"}\n' if self._wishes.lines else b"id: " + text + b"\n\n"
