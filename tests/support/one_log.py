"""One log with as many nodes over it as a test wants, embedded or Kafka."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from fanout import Config, Server

__all__ = ["KEY", "OneLog", "log"]

KEY = "app.key:secret"


class OneLog:
    """One log; every server over it is another node of it."""

    def __init__(self, options: dict[str, Any], stack: AsyncExitStack) -> None:
        self._options = options
        self._stack = stack

    async def node(self, **options: Any) -> Server:
        """A node with these options, that is ready. By default it remembers one second."""
        given = {"history": "1s", "mutable": ("notes",)} | self._options | options
        config = Config(port=0, key=(KEY,), secret="0123456789abcdef", **given)
        server = await self._stack.enter_async_context(Server(config))
        await server.ready()
        return server


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OneLog]:
    options: dict[str, Any] = {"data": tmp_path}
    if request.param == "kafka":
        options |= {
            "kafka": request.getfixturevalue("kafka").bootstrap,
            "publish_topic": f"one-log-{uuid.uuid4().hex[:12]}",
        }
    async with AsyncExitStack() as stack:
        yield OneLog(options, stack)
