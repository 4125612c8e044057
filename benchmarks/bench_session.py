"""What a conversation costs without its socket: to begin, to attach, to publish; and to hold, by the allocator's count.

From the bytes that a client sends to the bytes that it is answered, over the real engine. Between them and a connection
stand the socket, the handshake and the engine's writing, which `bench_connections.py` has.
"""

import gc
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import pytest

from benchmarks.conftest import FULL, Record
from benchmarks.conversation import NOW_MS, WIRES, Node, converse, frame, queries, replies
from fanout.errors import ErrorInfo
from fanout.session.effects import Publish
from fanout.session.session import Session
from fanout.wire import decode

ROUNDS = 15 if FULL else 3
SESSIONS = 2_000 if FULL else 200
HELD = 20_000 if FULL else 1_000
FRAMES = {1: 2_000, 1_000: 20} if FULL else {1: 100, 1_000: 2}  # publishes a round, by messages in each

BOTH_WIRES = pytest.mark.parametrize(("wire", "name"), [(wire, name) for name, wire in WIRES.items()])


@pytest.fixture
def node() -> Iterator[Node]:
    made = Node()
    yield made
    made.engine.close()


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


@BOTH_WIRES
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


@BOTH_WIRES
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


@BOTH_WIRES
def bench_session__conversation(benchmark: Any, record: Record, node: Node, wire: int, name: str) -> None:
    """A client connects, attaches, publishes and is answered: how many of these one core does in a second."""
    frames = (
        frame(name, action=10, channel="channel-1"),
        frame(name, action=15, channel="channel-1", msgSerial=0, messages=[{"name": "greeting", "data": "hello"}]),
    )
    written = node.source.written
    sent: list[list[bytes]] = []

    def act(asked: list[dict[str, str]]) -> None:
        sent.extend(converse(node, query, name, frames) for query in asked)

    def setup() -> list[dict[str, str]]:
        sent.clear()
        return queries(SESSIONS, name)

    per_conversation = cpu_us(benchmark, SESSIONS, setup, act)
    assert [len(answers) for answers in sent] == [3] * SESSIONS  # CONNECTED, ATTACHED, ACK
    assert node.source.written - written == SESSIONS * (ROUNDS + 1)
    record(wire=name, cpu_us=per_conversation, per_second_and_core=1e6 / per_conversation)


@BOTH_WIRES
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


@BOTH_WIRES
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
