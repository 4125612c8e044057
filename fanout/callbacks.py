"""Waiting for what answers by calling back. A leaf: nothing of ours is imported here."""

import asyncio
from collections.abc import Callable
from typing import TypeVar

__all__ = ["outcome"]

_Answer = TypeVar("_Answer")


def outcome(begin: Callable[[Callable[[_Answer], None]], None]) -> "asyncio.Future[_Answer]":
    """Begins a call, and is done with what it answers: `begin` is handed the function to call back, on the loop.

    An answer that comes after the wait for it was cancelled is dropped. Raises what `begin` raises.
    """
    answered: asyncio.Future[_Answer] = asyncio.get_running_loop().create_future()
    begin(lambda answer: None if answered.done() else answered.set_result(answer))
    return answered
