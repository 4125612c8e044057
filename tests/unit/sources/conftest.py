"""Embedded logs that are opened and stopped."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from fanout.sources.embedded import EmbeddedSource
from tests.support.sources import RecordingSink, eventually

HOUR_MS = 3_600_000


class Opener:
    """Opens sources that are stopped after the test."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self._stack = stack

    async def __call__(self, directory: Path, **options: int) -> tuple[EmbeddedSource, RecordingSink]:
        """One that has caught up with its topic `t`, and its sink."""
        source, sink = await self.reading(directory, **options)
        await eventually(lambda: sink.is_ready)
        return source, sink

    async def reading(self, directory: Path, **options: int) -> tuple[EmbeddedSource, RecordingSink]:
        """One that has begun to read, and its sink."""
        source, sink = EmbeddedSource(directory, **options), RecordingSink()
        self._stack.push_async_callback(source.stop)
        await source.start(sink, ["t"], HOUR_MS)
        return source, sink


@pytest.fixture
async def opened() -> AsyncIterator[Opener]:
    async with AsyncExitStack() as stack:
        yield Opener(stack)
