"""What a connection costs: to open and attach it, and to hold it, idle and after it has received.

Memory is the node's own; the kernel's for the sockets is not in it.
"""

from statistics import median
from typing import Any

from benchmarks.conftest import FULL, Record
from benchmarks.harness import Crowd, Tools, load, node

ROUNDS = 7 if FULL else 3
OPENED = 5_000 if FULL else 300
HELD = 5_000 if FULL else 500
RECEIVED = 50  # messages to each


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
            while server.ask("stats")["connections"]:
                pass

        benchmark.pedantic(open_all, setup=until_all_are_gone, rounds=ROUNDS, warmup_rounds=1)
    record(
        connections=OPENED,
        rounds=ROUNDS,
        per_second=round(OPENED / median(seconds[1:])),
        cpu_us=median(cpu[1:]) / OPENED * 1e6,
    )


def bench_connections__memory(benchmark: Any, record: Record, tools: Tools) -> None:
    """Attached to one channel and idle; then the same after each has received messages. A fresh node."""
    with node() as (server, told), load(tools, told["port"], 10, f"--key={told['key']}") as first:
        first.hear()  # what the first connection makes, the others share
        empty = server.memory()
        with load(tools, told["port"], HELD, f"--key={told['key']}") as clients:
            assert clients.hear()["attached"] == HELD
            idle = server.memory()
            crowd = Crowd(server, clients, HELD, is_node=True)
            benchmark.pedantic(lambda: crowd.windowed(RECEIVED, 10), rounds=1)
            receiving = server.memory()
    record(
        connections=HELD,
        idle_bytes=(idle - empty) // HELD,
        receiving_bytes=(receiving - empty) // HELD,
        node_mib=empty / (1 << 20),
    )
