"""Threads that run soon after they wake, as the kernel says of them."""

import ctypes
import platform
import struct
import threading

import pytest

from fanout.sources.prompt import prompt_threads

ATTRIBUTES = struct.Struct("IIQiIQQQ")  # sched_setattr(2); the slice is the sixth
GETATTR = {"x86_64": 315, "aarch64": 275}


def slice_ns() -> int:
    """Of the calling thread; 0 on kernels that do not say."""
    said = ctypes.create_string_buffer(64)
    assert ctypes.CDLL(None).syscall(GETATTR[platform.machine()], 0, said, len(said), 0) == 0
    return int(ATTRIBUTES.unpack_from(said)[5])


def of_a_thread() -> int:
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(slice_ns()))
    thread.start()
    thread.join()
    return seen[0]


def test_what_starts_in_there_has_a_short_slice_and_what_starts_later_has_not() -> None:
    ordinary = slice_ns()
    if not ordinary:
        pytest.skip("the kernel does not say")
    with prompt_threads():
        assert of_a_thread() < ordinary
    assert [slice_ns(), of_a_thread()] == [ordinary, ordinary]
