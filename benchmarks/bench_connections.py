"""What a connection costs: to open and attach it, and to hold it, idle and after it has received.

Memory is the node's own; the kernel's for the sockets is not in it. It is the difference that further connections make
to a node that holds some: what the first ones take is partly what starting has left over.
"""

from statistics import median
from typing import Any

from benchmarks.conftest import FULL, Record
from benchmarks.harness import Crowd, Tools, load, node, settled, wait_until

ROUNDS = 7 if FULL else 3
OPENED = 5_000 if FULL else 300
FIRST = 3_000 if FULL else 1_000
HELD = 15_000 if FULL else 5_000  # fewer, and what the allocators keep in reserve is seen instead
FOLLOWERS = 1_500
FOLLOWED = 10  # channels of each follower
RECEIVED = 50  # messages to each
KEPT = 200_000 if FULL else 20_000  # messages in the ring

IDLE_BYTES_MAX = 6 << 10
"""The budget for a connection with one attachment; ARCHITECTURE.md, "Memory", has what it is spent on."""

ATTACHMENT_BYTES_MAX = 1 << 10
"""The budget for each attachment after the first."""


def bench_connections__open_and_attach(benchmark: Any, record: Record, tools: Tools) -> None:
    """Connect, upgrade, authenticate, attach to one channel; 64 at a time."""
    seconds: list[float] = []
    cpu: list[float] = []
    with node() as (server, told):

        def open_all() -> None:
            before = server.cost()
            with load(tools, told["port"], OPENED, f"--key={told['key']}") as clients:
                answer = clients.hear()
                cpu.append((server.cost() - before).cpu_s)
                assert answer["attached"] == OPENED
                assert server.ask("stats")["connections"] == OPENED
            seconds.append(answer["seconds"])

        def until_all_are_gone() -> None:
            wait_until(lambda: not server.ask("stats")["connections"], "the end of all connections")

        benchmark.pedantic(open_all, setup=until_all_are_gone, rounds=ROUNDS, warmup_rounds=1)
    record(
        connections=OPENED,
        rounds=ROUNDS,
        per_second=round(OPENED / median(seconds[1:])),
        cpu_us=median(cpu[1:]) / OPENED * 1e6,
    )


def bench_connections__memory(benchmark: Any, record: Record, tools: Tools) -> None:
    """Attached to one channel and idle; then the same after each has received messages. A fresh node."""
    with node() as (server, told), load(tools, told["port"], FIRST, f"--key={told['key']}") as first:
        assert first.hear()["attached"] == FIRST
        before = server.memory()
        with load(tools, told["port"], HELD, f"--key={told['key']}") as clients:
            assert clients.hear()["attached"] == HELD
            idle = server.memory()
            crowd = Crowd(server, clients, HELD, is_node=True)
            benchmark.pedantic(lambda: crowd.windowed(RECEIVED, 10), rounds=1)
            receiving = server.memory()
            settled(clients)
    idle_bytes = (idle - before) // HELD
    record(
        connections=HELD,
        idle_bytes=idle_bytes,
        receiving_bytes=(receiving - before) // HELD,
        node_mib=before / (1 << 20),
    )
    assert idle_bytes <= IDLE_BYTES_MAX


def bench_connections__memory_of_attachments(benchmark: Any, record: Record, tools: Tools) -> None:
    """Attached to ten channels, beside connections that are attached to one. A fresh node."""
    with node() as (server, told):
        options = (f"--key={told['key']}", f"--channels={FOLLOWED}")
        with load(tools, told["port"], FIRST, *options) as first:
            assert first.hear()["attached"] == FIRST
            sizes = [server.memory()]
            with load(tools, told["port"], HELD // 2, *options) as one:
                assert one.hear()["attached"] == HELD // 2
                sizes.append(server.memory())
                with load(tools, told["port"], FOLLOWERS, *options, f"--follow={FOLLOWED}") as ten:
                    benchmark.pedantic(ten.hear, rounds=1)
                    sizes.append(server.memory())
    with_one = (sizes[1] - sizes[0]) / (HELD // 2)
    with_ten = (sizes[2] - sizes[1]) / FOLLOWERS
    attachment_bytes = round((with_ten - with_one) / (FOLLOWED - 1))
    record(connections=FOLLOWERS, attachments=FOLLOWED, attachment_bytes=attachment_bytes)
    assert attachment_bytes <= ATTACHMENT_BYTES_MAX


def bench_connections__memory_of_messages(benchmark: Any, record: Record) -> None:
    """128 bytes of data each, in one channel, that nobody receives. A fresh node."""
    with node() as (server, _told):
        server.ask(f"send {KEPT // 10} 100")
        before = server.memory()
        benchmark.pedantic(lambda: server.ask(f"send {KEPT} 100"), rounds=1)
        assert server.ask("stats")["records_in"] == KEPT // 10 + KEPT
        message_bytes = (server.memory() - before) // KEPT
    record(messages=KEPT, payload=128, message_bytes=message_bytes)
