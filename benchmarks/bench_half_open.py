"""Thousands who begin to speak and do not go on: what they take, and what those notice who are being served.

Each opens a connection and sends half of its first words: of an HTTP request, or of MQTT's CONNECT. Meanwhile a message
goes to a channel every 10 ms, and is to arrive as before; at the end the node is to be rid of all of them by itself.
"""

import os
import socket
import time
from contextlib import ExitStack
from typing import Any

import pytest

from benchmarks.conftest import FULL, Record
from benchmarks.harness import Program, Tools, complete, load, node, wait_until

HALVES = {
    "http": ("port", b"GET /sse?v=3&channels=c HTTP/1.1\r\nhost:"),
    "mqtt": ("mqtt_port", b"\x10\x20\0\x04MQTT\x05\x02\0"),
}
COUNT = 10_000 if FULL else 500
FEW = 10
MESSAGES = 200 if FULL else 50
INTERVAL_MS = 10
RID_S = 30  # of the last of them; each has 5 s


@pytest.mark.parametrize("kind", HALVES)
def bench_half_open__beside_a_small_channel(benchmark: Any, record: Record, tools: Tools, kind: str) -> None:
    """Latency of a channel of ten before and meanwhile, and the memory of each that is half open."""
    which, words = HALVES[kind]
    with (
        node("--watch-loop") as (server, told),
        load(tools, told["port"], FEW, f"--key={told['key']}", "--first-channel=1") as few,
    ):
        assert few.hear()["attached"] == FEW
        alone = trickled(server, few)
        memory, opened = server.memory(), descriptors(server)
        with ExitStack() as stack:

            def open_all() -> dict[str, Any]:
                for number in range(COUNT):
                    stack.enter_context(half_open(told[which], number, words))
                return trickled(server, few)

            beside = benchmark.pedantic(open_all, rounds=1)
            held = descriptors(server) - opened
            half_bytes = (server.memory() - memory) // max(held, 1)
            wait_until(lambda: descriptors(server) <= opened, "a node that is rid of them", RID_S)
            after = trickled(server, few)
    record(
        kind=kind,
        half_open=COUNT,
        held_at_once=held,
        half_open_bytes=half_bytes,
        **{f"{name}_{what}_ms": report[f"{what}_us"] / 1000
           for name, report in (("alone", alone), ("beside", beside), ("after", after)) for what in ("p50", "p99")},
    )  # fmt: skip


def half_open(port: int, number: int, words: bytes) -> socket.socket:
    """A connection that has begun to speak; from one of several addresses, which have ports enough."""
    opened = socket.socket()
    opened.bind((f"127.0.2.{number // 5_000 + 1}", 0))
    opened.connect(("127.0.0.1", port))
    opened.sendall(words)
    return opened


def descriptors(server: Program) -> int:
    """What the node has open."""
    return len(os.listdir(f"/proc/{server.pid}/fd"))


def trickled(server: Program, few: Program) -> dict[str, Any]:
    """Messages to the small channel, at a pace; all of them arrive."""
    end = server.ask(f"trickle {MESSAGES} {INTERVAL_MS}")["sent"]
    time.sleep(MESSAGES * INTERVAL_MS / 1000)
    assert few.ask(f"until {end}") == {"reached": True, "missing": 0}
    return complete(few.ask("report"), MESSAGES * FEW)
