"""Where the CPU time of a conversation goes: the recipe behind the table in docs/performance.md.

    python -m benchmarks.profile_session --seconds S

Clients connect, attach, publish and are answered, without sockets; a timer of the process's own CPU time looks a
thousand times a second which module is at work. Native code counts for the module that called it.
"""

import argparse
import signal
import time
from collections import Counter
from itertools import count
from pathlib import Path
from types import FrameType

from benchmarks.conversation import WIRES, Node, converse, frame, queries

EVERY_S = 0.001
SHOWN = 14  # modules
PACKAGE = Path(__file__).parent.parent / "fanout"


def owner(at: FrameType | None) -> str:
    """The innermost module of the package that is at work; `benchmark` if none is."""
    while at is not None:
        path = Path(at.f_code.co_filename)
        if path.is_relative_to(PACKAGE):
            return path.relative_to(PACKAGE).with_suffix("").as_posix()
        at = at.f_back
    return "benchmark"


def profile(name: str, seconds: float) -> None:
    """Samples conversations on one wire, and prints each module's share."""
    node = Node()
    frames = (
        frame(name, action=10, channel="channel-1"),
        frame(name, action=15, channel="channel-1", msgSerial=0, messages=[{"name": "greeting", "data": "hello"}]),
    )
    samples: Counter[str] = Counter()
    done = count()
    signal.signal(signal.SIGPROF, lambda _, at: samples.update([owner(at)]))
    begun, until = time.process_time(), time.monotonic() + seconds
    signal.setitimer(signal.ITIMER_PROF, EVERY_S, EVERY_S)
    while time.monotonic() < until:
        for query in queries(100, name):
            converse(node, query, name, frames)
            next(done)
    signal.setitimer(signal.ITIMER_PROF, 0)
    cpu_us = (time.process_time() - begun) * 1e6 / next(done)
    node.engine.close()
    print(f"{name}: {cpu_us:.1f} µs a conversation, {1e6 / cpu_us:,.0f} a second and core")
    for module, number in samples.most_common(SHOWN):
        share = number / samples.total()
        print(f"  {100 * share:5.1f} %  {cpu_us * share:6.2f} µs  {module}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Where the CPU time of a conversation goes.")
    parser.add_argument("--seconds", type=float, default=5)
    seconds = parser.parse_args().seconds
    for name in WIRES:
        profile(name, seconds)


if __name__ == "__main__":
    main()
