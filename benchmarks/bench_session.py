"""What a conversation costs without its socket: to begin, to attach, to publish; and to hold, by the allocator's count.

From the bytes that a client sends to the bytes that it is answered, over the real engine. Between them and a connection
stand the socket, the handshake and the engine's writing, which `bench_connections.py` has.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from statistics import median
from typing import Any

import msgspec
import orjson
import pytest

from benchmarks.conftest import FULL, Record
from fanout._core import Engine
from fanout.auth.connection_key import ConnectionKeys
from fanout.auth.keys import Key, Keys
from fanout.auth.known import KnownCredentials
from fanout.auth.revoked import Revoked
from fanout.auth.tokens import Tokens
from fanout.errors import ErrorInfo
from fanout.publish import Publisher
from fanout.session.effects import Attach, Effect, Publish, Reply
from fanout.session.limits import SessionSettings
from fanout.session.opening import open_session
from fanout.session.resume import ConnectionTable
from fanout.session.session import Session
from fanout.sources.base import Appended, Done, Health, Sink
from fanout.wire import JSON, MSGPACK, decode, encode
from tests.support.sources import NeverReadBack

ROUNDS = 15 if FULL else 3
SESSIONS = 2_000 if FULL else 200
HELD = 20_000 if FULL else 1_000
FRAMES = {1: 2_000, 1_000: 20} if FULL else {1: 100, 1_000: 2}  # publishes a round, by messages in each

SECRET = b"sixteen bytes or more"
QUERY = {"key": "bench.key:secret", "v": "6", "heartbeats": "false"}
WIRES = pytest.mark.parametrize(("wire", "name"), [(JSON, "json"), (MSGPACK, "msgpack")])
NOW_MS = 1_800_000_000_000


class ConfirmingSource(NeverReadBack):
    """A `fanout.sources.base.Source` that has everything durably at once, and gives none of it back."""

    def __init__(self) -> None:
        self.written = 0

    async def start(self, sink: Sink, topics: Any, history_ms: int, state_topics: Any = ()) -> None:
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
        self.engine.rules([("bench", "{key}")])
        self.engine.partition("bench", bytes(16), 0, 0)
        self.settings = SessionSettings()
        keys = Keys([Key.parse('bench.key:secret={"*":["publish","subscribe","history"]}')])
        self.authenticator = KnownCredentials(keys, Tokens(SECRET), Revoked())
        self.table = ConnectionTable(ttl_ms=120_000, now=lambda: NOW_MS, limits=self.settings.limits)
        self.connection_keys = ConnectionKeys(SECRET)
        self.source = ConfirmingSource()
        self.publisher = Publisher(self.engine, self.source, "bench")

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


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.engine.close()


def queries(count: int, name: str) -> list[dict[str, str]]:
    """What as many clients ask for: equal texts, but no two clients share the memory of one."""
    return [{key: (value + " ")[:-1] for key, value in QUERY.items()} | {"format": name} for _ in range(count)]


def frame(name: str, **fields: Any) -> bytes:
    """A frame as a client sends it."""
    return orjson.dumps(fields) if name == "json" else msgspec.msgpack.encode(fields)


def replies(effects: list[Effect], wire: int) -> list[bytes]:
    return [encode(effect.frame, wire) for effect in effects if isinstance(effect, Attach | Reply)]


def cpu_us(benchmark: Any, count: int, setup: Callable[[], Any], act: Callable[[Any], None]) -> float:
    """CPU time of this thread for one of the `count` things that `act` does, by the median of the rounds."""
    rounds: list[int] = []

    def timed(given: Any) -> None:
        begun = time.thread_time_ns()
        act(given)
        rounds.append(time.thread_time_ns() - begun)

    gc.collect()
    benchmark.pedantic(timed, setup=lambda: ((setup(),), {}), rounds=ROUNDS, warmup_rounds=1)
    return median(rounds[1:]) / count / 1_000


@WIRES
def bench_session__open(benchmark: Any, record: Record, node: Node, wire: int, name: str) -> None:
    """From the query of the URL to the bytes of CONNECTED."""
    begun: list[Session] = []

    def act(asked: list[dict[str, str]]) -> None:
        for query in asked:
            session = node.open(query)
            (connected,) = replies(session.open(), wire)
            assert connected
            begun.append(session)

    def setup() -> list[dict[str, str]]:
        begun.clear()
        return queries(SESSIONS, name)

    record(wire=name, cpu_us=cpu_us(benchmark, SESSIONS, setup, act))
    assert len({session.connection_id for session in begun}) == SESSIONS


@WIRES
def bench_session__attach(benchmark: Any, record: Record, node: Node, wire: int, name: str) -> None:
    """From the bytes of ATTACH to those of ATTACHED; each client its own of 100 channels."""
    asked = [frame(name, action=10, channel=f"channel-{number}") for number in range(100)]

    def act(sessions: list[Session]) -> None:
        for number, session in enumerate(sessions):
            (attached,) = replies(session.receive(decode(asked[number % 100], wire), NOW_MS), wire)
            assert attached

    def setup() -> list[Session]:
        return [node.open(query) for query in queries(SESSIONS, name)]

    record(wire=name, cpu_us=cpu_us(benchmark, SESSIONS, setup, act))


@WIRES
@pytest.mark.parametrize("messages", FRAMES)
def bench_session__publish(benchmark: Any, record: Record, node: Node, messages: int, wire: int, name: str) -> None:
    """From the bytes of MESSAGE to the records, and from their places in the log to the bytes of ACK."""
    frames = FRAMES[messages]
    session = node.open(queries(1, name)[0])
    serials = iter(range(1 << 30))
    longest: list[int] = []
    acks: list[bytes] = []

    def confirmed(msg_serial: int, result: list[str] | ErrorInfo) -> None:
        assert isinstance(result, list)
        acks.extend(replies(session.published(msg_serial, result), wire))

    def act(sent: list[bytes]) -> None:
        for payload in sent:
            begun = time.thread_time_ns()
            (effect,) = session.receive(decode(payload, wire), NOW_MS)
            assert isinstance(effect, Publish)
            node.publisher.publish(effect.channel, effect.messages, partial(confirmed, effect.msg_serial))
            longest.append(time.thread_time_ns() - begun)

    def setup() -> list[bytes]:
        acks.clear()
        body = [{"name": "greeting", "data": "as many bytes as a message"}] * messages
        return [
            frame(name, action=15, channel="channel-1", msgSerial=next(serials), messages=body) for _ in range(frames)
        ]

    written = node.source.written
    per_frame = cpu_us(benchmark, frames, setup, act)
    assert len(acks) == frames
    assert node.source.written - written == messages * frames * (ROUNDS + 1)
    record(
        wire=name,
        messages=messages,
        cpu_us_per_message=per_frame / messages,
        frame_p50_us=median(longest) / 1_000,
        frame_longest_us=max(longest) / 1_000,
    )


@WIRES
def bench_session__memory(benchmark: Any, record: Record, node: Node, wire: int, name: str) -> None:
    """Bytes of a conversation with one attachment, and what the node keeps to find it; not the engine's own."""
    asked = frame(name, action=10, channel="channel-1")

    def begin(count: int) -> list[Session]:
        sessions = []
        for query in queries(count, name):
            session = node.open(query)
            replies(session.open(), wire)
            replies(session.receive(decode(asked, wire), NOW_MS), wire)
            sessions.append(session)
        return sessions

    first = begin(10)  # what the first makes, the others share
    gc.collect()
    tracemalloc.start()
    held = benchmark.pedantic(begin, args=(HELD,), rounds=1)
    gc.collect()
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(node.table) == len(first) + len(held)
    record(wire=name, connections=HELD, session_bytes=size // HELD)
