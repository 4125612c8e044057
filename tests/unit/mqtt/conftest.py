"""One log, and nodes over it."""

from collections.abc import Callable

import pytest

from tests.unit.mqtt.bed import FactLog, Node


@pytest.fixture
async def facts() -> FactLog:
    return FactLog()


@pytest.fixture
async def new_node(facts: FactLog) -> Callable[[], Node]:
    """Makes nodes, `a`, `b`, …, that share who is gone."""
    names = iter("abcdefgh")
    gone: set[str] = set()
    return lambda: Node(facts, next(names), gone)
