"""Threads that carry messages run soon after they wake, whatever else wants their core.

A record passes several on its way, each of which works for microseconds: a thread of Kafka's client that hears of it,
the reader, a shard. Beside a loop that lets ten thousand clients in, on as few cores as a node has, each would wait
for a slice of the scheduler's to end, 4 to 8 ms (`rust/io/src/sched.rs`). Any thread.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fanout._core import set_prompt

__all__ = ["prompt_threads"]


@contextmanager
def prompt_threads() -> Iterator[None]:
    """What starts threads in here, also a library that does so by itself, starts such ones."""
    set_prompt(True)
    try:
        yield
    finally:
        set_prompt(False)
