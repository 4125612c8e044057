"""What the tests of this folder share: a node over the embedded log, a browser, and the event loops that they run on.

That is asyncio's, and uvloop's too for those marked `every_loop`.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path

import pytest
import uvloop

from tests.support.agents import LineProcess, install_clients, json_lines
from tests.support.node import NodeProcess, node_process


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """pytest-asyncio asks this for each test."""
    if item.get_closest_marker("every_loop") is None:
        return {"asyncio": asyncio.new_event_loop}
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[NodeProcess]:
    async with node_process(tmp_path) as node:
        yield node


@pytest.fixture
async def browser() -> AsyncIterator[LineProcess]:
    install_clients()
    async with json_lines("node", "browser.mjs") as lines:
        yield lines
