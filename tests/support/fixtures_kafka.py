"""Fixtures over a real Kafka. A test that takes one carries `pytest.mark.kafka`.

Without Java or Maven these tests fail and say so; FANOUT_TESTS_WITHOUT_KAFKA=1 deselects them, which pytest reports.
"""

import os
import uuid
from collections.abc import Callable, Iterator

import pytest
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.broker import Kafka, running

NewKafkaTopic = Callable[..., str]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if os.environ.get("FANOUT_TESTS_WITHOUT_KAFKA") != "1":
        return
    dropped = [item for item in items if item.get_closest_marker("kafka")]
    items[:] = [item for item in items if not item.get_closest_marker("kafka")]
    config.hook.pytest_deselected(items=dropped)


@pytest.fixture(scope="session")
def kafka() -> Iterator[Kafka]:
    """One node, shared by all tests of the run: make topics of your own, and do not stop it."""
    with running() as cluster:
        yield cluster


@pytest.fixture
def kafka_topic(kafka: Kafka) -> NewKafkaTopic:
    """`kafka_topic(partitions=1, **config)` makes a topic and returns its name, which no other test has."""

    def make(partitions: int = 1, **config: str) -> str:
        name = f"test-{uuid.uuid4().hex[:12]}"
        settings = {key.replace("_", "."): value for key, value in config.items()}
        admin = AdminClient(kafka.client)
        admin.create_topics([NewTopic(name, partitions, config=settings)])[name].result(15)
        return name

    return make
