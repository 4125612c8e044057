"""What every test may use; the fixtures live in tests/support."""

import os

import pytest

pytest_plugins = ["tests.support.fixtures_kafka", "tests.support.one_log"]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Long forms of tests run when FANOUT_TESTS_SLOW=1 asks for them; their short forms always do."""
    if os.environ.get("FANOUT_TESTS_SLOW") == "1":
        return
    dropped = [item for item in items if item.get_closest_marker("slow")]
    items[:] = [item for item in items if not item.get_closest_marker("slow")]
    config.hook.pytest_deselected(items=dropped)
