"""Conversations without sockets: as much of a node as they need, and what clients say.

Over the real engine and a log that has everything durably at once. `bench_session.py` times them, `profile_session.py`
tells where the time goes.
"""

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec
import orjson

from fanout._core import Engine
from fanout.auth.connection_key import ConnectionKeys
from fanout.auth.keys import Key, Keys
from fanout.auth.known import KnownCredentials
from fanout.auth.revoked import Revoked
from fanout.auth.tokens import Tokens
from fanout.errors import ErrorInfo
from fanout.publish import Publisher
from fanout.rules.route import Rule
from fanout.session.effects import Attach, Effect, Publish, Reply
from fanout.session.limits import SessionSettings
from fanout.session.opening import open_session
from fanout.session.resume import ConnectionTable
from fanout.session.session import Session
from fanout.sources.base import Appended, Done, Health, Sink
from fanout.targets import Targets
from fanout.wire import JSON, MSGPACK, decode, encode
from tests.support.sources import NeverReadBack

__all__ = ["NOW_MS", "WIRES", "Node", "converse", "frame", "queries", "replies"]

SECRET = b"sixteen bytes or more"
QUERY = {"key": "bench.key:secret", "v": "6", "heartbeats": "false"}
WIRES = {"json": JSON, "msgpack": MSGPACK}
NOW_MS = 1_800_000_000_000


class ConfirmingSource(NeverReadBack):
    """A `fanout.sources.base.Source` that has everything durably at once, and gives none of it back."""

    def __init__(self) -> None:
        self.written = 0

    async def start(
        self, sink: Sink, topics: Any, history_ms: int, state_topics: Any = (), on_demand: Any = ()
    ) -> None:
        pass

    def append(self, records: Any, done: Done) -> None:
        placed = [Appended("bench", 0, self.written + index, NOW_MS) for index in range(len(records))]
        self.written += len(records)
        done(placed)

    def health(self) -> Health:
        return Health(True, "")

    def lag(self) -> dict[tuple[str, int], int]:
        return {}

    async def stop(self) -> None:
        pass


class Node:
    """As much of a node as conversations need."""

    def __init__(self) -> None:
        self.engine = Engine(io_threads=0, secret=SECRET)
        self.engine.rules([Rule("bench", "{key}")])
        self.engine.partition("bench", bytes(16), 0, 0)
        self.settings = SessionSettings()
        keys = Keys([Key.parse('bench.key:secret={"*":["publish","subscribe","history"]}')])
        self.authenticator = KnownCredentials(keys, Tokens(SECRET), Revoked())
        self.table = ConnectionTable(ttl_ms=120_000, now=lambda: NOW_MS, limits=self.settings.limits)
        self.connection_keys = ConnectionKeys(SECRET)
        self.source = ConfirmingSource()
        self.publisher = Publisher(self.engine, self.source, Targets("bench"))

    def open(self, query: Mapping[str, str]) -> Session:
        return open_session(
            query,
            authenticator=self.authenticator,
            table=self.table,
            connection_keys=self.connection_keys,
            channels=self.engine,
            settings=self.settings,
            now_ms=NOW_MS,
        )


def queries(count: int, name: str) -> list[dict[str, str]]:
    """What as many clients ask for: equal texts, but no two clients share the memory of one."""
    return [{key: (value + " ")[:-1] for key, value in QUERY.items()} | {"format": name} for _ in range(count)]


def frame(name: str, **fields: Any) -> bytes:
    """A frame as a client sends it."""
    return orjson.dumps(fields) if name == "json" else msgspec.msgpack.encode(fields)


def replies(effects: list[Effect], wire: int) -> list[bytes]:
    return [encode(effect.frame, wire) for effect in effects if isinstance(effect, Attach | Reply)]


def converse(node: Node, query: Mapping[str, str], name: str, frames: tuple[bytes, bytes]) -> list[bytes]:
    """A whole conversation: a client connects, attaches, publishes one message and is answered. What it was sent.

    `frames` are its ATTACH and its MESSAGE.
    """
    wire = WIRES[name]
    session = node.open(query)
    sent = replies(session.open(), wire)
    attach, message = frames
    sent += replies(session.receive(decode(attach, wire), NOW_MS), wire)
    (effect,) = session.receive(decode(message, wire), NOW_MS)
    assert isinstance(effect, Publish)

    def confirmed(msg_serial: int, result: list[str] | ErrorInfo) -> None:
        assert isinstance(result, list)
        sent.extend(replies(session.published(msg_serial, result), wire))

    node.publisher.publish(effect.channel, effect.messages, partial(confirmed, effect.msg_serial))
    return sent
