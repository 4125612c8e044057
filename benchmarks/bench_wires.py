"""One channel, every wire: CPU time of the node per delivery beside WebSocket's, and the memory of an idle connection.

A node for each wire, with as many subscribers of its channel; they take turns in each round, so that all meet the same
machine. With MQTT and QoS 1 the clients acknowledge each message, and that is the node's work too. The load client
speaks MQTT 3.1.1; the clients of MQTT 5.0 are sockets that have subscribed.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import median
from typing import Any

import pytest

from benchmarks.bench_connections import IDLE_BYTES_MAX
from benchmarks.bench_half_open import half_open
from benchmarks.conftest import FULL, Record
from benchmarks.harness import Crowd, Program, Received, Tools, load, node, settled

WIRES = ["json", "events", "lines", "mqtt", "mqtt-qos1"]
"""As the load client names them; the first is what the others are compared with. MessagePack is `bench_growth`'s: for
one wire more there would not be ports enough.
"""

SUBSCRIBERS = 10_000 if FULL else 100
ROUNDS = 5 if FULL else 2
ONE_BY_ONE = 10 if FULL else 20  # messages of a round
SATURATED = 160 if FULL else 200
WINDOW = 16
FIRST = 2_000 if FULL else 1_000  # what the first connections take is partly what starting has left over
HELD = 10_000 if FULL else 5_000
HELD_BYTES_MAX = IDLE_BYTES_MAX + (0 if FULL else 512)  # tables that double weigh more where fewer share them
CLEAN = "\xc2\x0e\x10\0"  # of CONNECT (MQTT 5.0 §3.1.2): flags, an hour to be silent for, no properties


def clients_of(tools: Tools, told: dict[str, Any], wire: str, connections: int) -> Program:
    port = told["mqtt_port" if wire.startswith("mqtt") else "port"]
    return load(tools, port, connections, f"--key={told['key']}", f"--format={wire}")


@contextmanager
def subscribers_of(tools: Tools, wire: str) -> Iterator[Crowd]:
    """The subscribers of a node's channel on that wire, warm."""
    with node() as (server, told), clients_of(tools, told, wire, SUBSCRIBERS) as clients:
        assert clients.hear()["attached"] == SUBSCRIBERS
        crowd = Crowd(server, clients, SUBSCRIBERS, is_node=True)
        crowd.one_at_a_time(5)
        yield crowd
        settled(clients)


def bench_wires__cpu(benchmark: Any, record: Record, tools: Tools) -> None:
    """One message a flush, and with many under way."""
    alone: dict[str, list[Received]] = {wire: [] for wire in WIRES}
    joined: dict[str, list[Received]] = {wire: [] for wire in WIRES}
    with ExitStack() as stack:
        crowds = {wire: stack.enter_context(subscribers_of(tools, wire)) for wire in WIRES}

        def take_turns() -> None:
            for wire, crowd in crowds.items():
                alone[wire].append(crowd.one_at_a_time(ONE_BY_ONE))
            for wire, crowd in crowds.items():
                joined[wire].append(crowd.windowed(SATURATED, WINDOW))

        benchmark.pedantic(take_turns, rounds=ROUNDS)
    figures: dict[str, float] = {}
    for name, rounds in (("one", alone), ("saturated", joined)):
        for wire in WIRES:
            of_wire, of_first = ([received.cpu_us for received in rounds[one]] for one in (wire, WIRES[0]))
            key = f"{name}_{wire.replace('-', '_')}"
            figures[f"{key}_cpu_us"] = median(of_wire)
            figures[f"{key}_ratio"] = median(own / first for own, first in zip(of_wire, of_first, strict=True))
            figures[f"{key}_bytes"] = rounds[wire][0].report["bytes"] / rounds[wire][0].deliveries
    record(subscribers=SUBSCRIBERS, payload_bytes=128, rounds=ROUNDS, window=WINDOW, **figures)


@pytest.mark.parametrize("wire", WIRES)
def bench_wires__memory(benchmark: Any, record: Record, tools: Tools, wire: str) -> None:
    """What a connection with one channel holds of the node's own memory, idle. A fresh node."""
    with node() as (server, told), clients_of(tools, told, wire, FIRST) as first:
        assert first.hear()["attached"] == FIRST
        before = server.memory()
        with clients_of(tools, told, wire, HELD) as clients:
            benchmark.pedantic(clients.hear, rounds=1)
            idle_bytes = (server.memory() - before) // HELD
            settled(clients)
    record(wire=wire, connections=HELD, idle_bytes=idle_bytes)
    assert idle_bytes <= HELD_BYTES_MAX


@pytest.mark.parametrize("qos", [0, 1])
def bench_wires__memory_of_mqtt_5(benchmark: Any, record: Record, qos: int) -> None:
    """The same of a client of MQTT 5.0."""
    with node() as (server, told), things(told, qos, FIRST):
        before = server.memory()

        def hold() -> int:
            with things(told, qos, HELD):
                return (server.memory() - before) // HELD

        idle_bytes = benchmark.pedantic(hold, rounds=1)
    record(wire=f"mqtt5-qos{qos}", connections=HELD, idle_bytes=idle_bytes)
    assert idle_bytes <= HELD_BYTES_MAX


@contextmanager
def things(told: dict[str, Any], qos: int, count: int) -> Iterator[None]:
    """So many clients of MQTT 5.0 that have subscribed to a channel."""
    name = "".join(map(text, told["key"].split(":")))
    subscribe = packet(0x82, f"\0\1\0{text('c')}{chr(qos)}")
    with ExitStack() as stack:
        answers = []
        for number in range(count):
            client = stack.enter_context(half_open(told["mqtt_port"], number, b""))
            answers.append(stack.enter_context(client.makefile("rb")))
            says = text("MQTT") + "\5" + CLEAN
            client.sendall(packet(0x10, says + text(f"{count}-{number}") + name) + subscribe)
        for answer in answers:
            _, length = answer.read(2)
            assert answer.read(length)[1] == 0, "CONNACK refuses"
            _, length = answer.read(2)
            assert answer.read(length)[-1] == qos, "SUBACK refuses"
        yield


def text(value: str) -> str:
    return chr(0) + chr(len(value)) + value


def packet(first: int, body: str) -> bytes:
    return bytes([first, len(body)]) + body.encode("latin-1")
