"""Changes and annotations on their way to the log: whether there is such a message, who may change it, what is written.

A record says what is to be changed, and readers merge it onto the version that they hold, in the order of the log
(`rust/engine/src/change.rs`). For readers that hold none it says more:

- An update or delete always holds the whole message as this node knows it, and names what of it is new.
- An append holds its piece alone, unless the newest record with the whole message is older than half the history
  window: then it holds all, and says how much of it is new.
- An annotation comes with the summary of those before it, if that can be told only from records older than that.

So whoever reads the last history window can tell what every message has become that was changed in it. Changes of one
message are written in the order in which they were asked for, also where the first has to be looked for in the log.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import orjson

from fanout.errors import ClientError, ErrorInfo, error
from fanout.lookup import Known, Lookup
from fanout.namespaces import Namespaces
from fanout.session.extras import extras_bytes
from fanout.session.limits import Limits
from fanout.session.messages import byte_size
from fanout.shares import Shares
from fanout.types import Message, OutAnnotation, OutChange, OutMessage

__all__ = ["Mutator"]

WAITING: Final = 1_000
"""Changes that wait for a message to be found, shared by who asks for them: 42910 beyond."""

Done = Callable[[list[str] | ErrorInfo], None]
Asked = Sequence[OutChange | OutAnnotation]
_Key = tuple[str, str]  # channel and serial


class Writer(Protocol):
    """Writes messages to the log; `fanout.publish.Publisher` answers this."""

    def publish(self, channel: str, messages: Sequence[OutMessage], done: Done) -> None: ...


class Mutator:
    """Writes changes and annotations. Belongs to the event loop."""

    def __init__(
        self,
        lookup: Lookup,
        writer: Writer,
        namespaces: Namespaces,
        *,
        clock: Callable[[], int],
        history_ms: int,
        limits: Limits,
    ) -> None:
        """`clock` reads the time in ms."""
        self._lookup = lookup
        self._writer = writer
        self._namespaces = namespaces
        self._clock = clock
        self._anchor_ms = history_ms // 2
        self._limits = limits
        self._last: dict[_Key, asyncio.Task[None]] = {}  # the newest change of each message that waits
        self._waiting: set[asyncio.Task[None]] = set()
        self._shares = Shares(WAITING, error(42910, "too many changes wait for old messages"))

    def change(self, channel: str, changes: Asked, who: str, done: Done) -> None:
        """Writes the changes that `who` asks for next to each other.

        `done` is called once, on the loop, perhaps before this returns: with the serial of each new version or
        annotation when the log has them durably; or with 93002 for a channel whose messages cannot be changed, 40400
        for a message that is not there, 40160 for somebody else's, 40009 or 40013 for what the message would become,
        and whatever a publish is refused with. They may be sent again under their ids.
        """
        if not self._namespaces.mutable(channel):
            done(error(93002))
            return
        keys = {(channel, change.serial) for change in changes}
        before = {self._last[key] for key in keys if key in self._last}
        if not before:
            held = {serial: self._lookup.held(channel, serial) for _, serial in keys}
            known = {serial: found for serial, found in held.items() if found is not None}
            if len(known) == len(keys):
                self._write(channel, changes, known, done)
                return
        try:
            self._shares.take(who)
        except ClientError as refused:
            done(refused.info)
            return
        task = asyncio.get_running_loop().create_task(self._find_and_write(channel, changes, who, before, done))
        self._waiting.add(task)
        self._last.update(dict.fromkeys(keys, task))
        task.add_done_callback(lambda task: self._found(keys, who, task))

    async def _find_and_write(
        self, channel: str, changes: Asked, who: str, before: set[asyncio.Task[None]], done: Done
    ) -> None:
        if before:
            await asyncio.wait(before)
        try:
            serials = {one.serial for one in changes}
            known = {serial: await self._lookup.find(channel, serial, who) for serial in serials}
        except ClientError as refused:
            done(refused.info)
        else:
            self._write(channel, changes, known, done)

    def _found(self, keys: set[_Key], who: str, task: asyncio.Task[None]) -> None:
        self._shares.give(who)
        self._waiting.discard(task)
        for key in keys:
            if self._last.get(key) is task:
                del self._last[key]

    def _write(self, channel: str, changes: Asked, known: dict[str, Known], done: Done) -> None:
        try:
            messages = [
                self._changed(one, known[one.serial])
                if isinstance(one, OutChange)
                else self._annotated(one, known[one.serial])
                for one in changes
            ]
        except ClientError as refused:
            done(refused.info)
            return
        self._writer.publish(channel, messages, done)

    def _changed(self, change: OutChange, known: Known) -> OutMessage:
        """The record's message. Raises ClientError."""
        base = known.message
        if change.owner is not None and base.client_id != change.owner:
            raise ClientError(error(40160, "the message is somebody else's"))
        name = base.name if change.name is None else change.name
        extras = base.extras if change.extras is None else change.extras
        data, encoding = (base.data, base.encoding) if change.data is None else (change.data, change.encoding)
        if change.action == "append":
            data, encoding = _joined(base, change.data), None
        size = byte_size(name) + byte_size(base.client_id) + byte_size(data)
        if size + extras_bytes(extras, self._limits.extras_depth) > self._limits.message_bytes:
            raise ClientError(error(40009, f"a message of more than {self._limits.message_bytes} bytes"))
        headers = [("fanout.action", change.action.encode()), ("fanout.serial", change.serial.encode())]
        if change.version:
            headers.append(("fanout.version", orjson.dumps(change.version)))
        if change.action == "append" and not self._is_old(known.whole_ms):
            return OutMessage(
                id=change.id,
                data=change.data,
                name=change.name,
                connection_id=change.connection_id,
                extras=change.extras,
                headers=tuple(headers),
            )
        given = {"name": change.name, "data": change.data, "extras": change.extras}
        headers.append(("fanout.timestamp", str(base.timestamp).encode()))
        headers.append(("fanout.set", " ".join(field for field, new in given.items() if new is not None).encode()))
        if change.action == "append":
            headers.append(("fanout.appended", str(byte_size(change.data)).encode()))
        return OutMessage(
            id=change.id,
            data=data,
            name=name,
            encoding=encoding,
            client_id=base.client_id,
            connection_id=change.connection_id,
            extras=extras,
            headers=tuple(headers),
        )

    def _annotated(self, annotation: OutAnnotation, known: Known) -> OutMessage:
        said = {"action": int(annotation.deletes), "type": annotation.type}
        said |= {} if annotation.name is None else {"name": annotation.name}
        said |= {} if annotation.count is None else {"count": annotation.count}
        headers = [
            ("fanout.action", b"annotation"),
            ("fanout.serial", annotation.serial.encode()),
            ("fanout.annotation", orjson.dumps(said)),
        ]
        if known.summary is not None and self._is_old(known.summary_ms):
            headers.append(("fanout.summary", known.summary.encode()))
        return OutMessage(
            id=annotation.id,
            data=annotation.data,
            encoding=annotation.encoding,
            client_id=annotation.client_id,
            connection_id=annotation.connection_id,
            extras=annotation.extras,
            headers=tuple(headers),
        )

    def _is_old(self, written_ms: int) -> bool:
        """Whether a reader that begins now or soon may miss what was written then."""
        return self._clock() - written_ms > self._anchor_ms


def _joined(base: Message, piece: str | bytes | None) -> str | bytes:
    """The data with something behind them. Raises ClientError 40013."""
    assert piece is not None  # `fanout.session.changes` refuses an append of nothing
    if base.encoding is not None:
        raise ClientError(error(40013, "nothing can be appended to data with an encoding"))
    if base.data is None:
        return piece
    if isinstance(base.data, str) and isinstance(piece, str):
        return base.data + piece
    if isinstance(base.data, bytes) and isinstance(piece, bytes):
        return base.data + piece
    raise ClientError(error(40013, "text goes behind text, and binary behind binary"))
