"""A Kafka that wants to know who comes: every way in works, a refusal is told, and secrets are told nobody."""

import asyncio
import logging
import re
import uuid
from collections.abc import Iterator
from typing import cast

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)
from confluent_kafka.cimpl import NewTopic

from fanout.sources import kafka_admin
from fanout.sources.kafka import KafkaSource
from tests.support.secure_kafka import PASSWORD, SECRET, USER, WAYS, SecureKafka, secure_kafka
from tests.support.sources import RecordingSink, append, eventually, read_all, record

pytestmark = pytest.mark.kafka

HOUR_MS = 3_600_000


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecureKafka]:
    with secure_kafka(tmp_path_factory.mktemp("secure")) as secure:
        yield secure


@pytest.fixture
def topic(secure: SecureKafka) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    admin = AdminClient(secure.kafka.client)
    admin.create_topics([NewTopic(name, 1)])[name].result(15)
    return name


@pytest.mark.parametrize("way", WAYS)
async def test_what_is_written_is_read_and_read_back(secure: SecureKafka, topic: str, way: str) -> None:
    source, sink = KafkaSource(secure.client(way)), RecordingSink()
    await source.start(sink, [topic], HOUR_MS)
    await eventually(lambda: sink.is_ready)
    await append(source, record(topic, b"x"))
    await eventually(lambda: sink.values(topic) == [b"x"])
    assert [r.value for r in await read_all(source, topic, 0, 1)] == [b"x"]
    assert source.health().ok
    await source.stop()


@pytest.mark.parametrize(
    ("way", "reason"),
    [
        ("MUTUAL", "does not answer: .*bad certificate"),
        ("PLAIN", "refuses this node: .*Invalid username or password"),
        ("SCRAM-SHA-256", "refuses this node: .*invalid credentials"),
        ("SCRAM-SHA-512", "refuses this node: .*invalid credentials"),
        ("OAUTHBEARER", "refuses this node: .*invalid_client"),
    ],
)
async def test_a_refusal_is_told_and_no_secret_with_it(
    secure: SecureKafka,
    way: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(kafka_admin, "REQUEST_S", 1.0)
    caplog.set_level(logging.DEBUG)
    settings = secure.client(way, password=f"{SECRET}-but-wrong")
    if way == "MUTUAL":
        del settings["ssl.certificate.location"], settings["ssl.key.location"]
    source, sink = KafkaSource(settings), RecordingSink()
    await source.start(sink, ["t"], HOUR_MS)
    await eventually(lambda: re.search(reason, source.health().reason))
    assert not source.health().ok
    await source.stop()
    written = capfd.readouterr()
    assert re.search(reason, caplog.text)
    assert SECRET not in caplog.text + written.out + written.err


async def test_who_is_let_in_after_all_needs_no_restart(secure: SecureKafka, topic: str) -> None:
    password = f"{SECRET}-to-come"
    source, sink = KafkaSource(secure.client("SCRAM-SHA-512", password)), RecordingSink()
    await source.start(sink, [topic], HOUR_MS)
    await eventually(lambda: "refuses" in source.health().reason)
    await asyncio.to_thread(secure.set_password, password)
    await eventually(lambda: sink.is_ready)
    assert source.health().ok
    await append(source, record(topic, b"x"))
    await source.stop()
    await asyncio.to_thread(secure.set_password, PASSWORD)


def permit(secure: SecureKafka, kind: ResourceType, name: str, *operations: AclOperation) -> None:
    """Lets the user do only this with a resource, whatever was permitted before; nothing said: all."""
    admin = AdminClient(secure.kafka.client)
    pattern, anybody = (kind, name, ResourcePatternType.LITERAL), cast("str", None)
    any_acl = AclBindingFilter(*pattern, anybody, anybody, AclOperation.ANY, AclPermissionType.ANY)
    admin.delete_acls([any_acl])[any_acl].result(15)
    for operation in operations:
        acl = AclBinding(*pattern, f"User:{USER}", "*", operation, AclPermissionType.ALLOW)
        admin.create_acls([acl])[acl].result(15)


async def test_a_topic_that_may_not_be_read_holds_up_itself_alone_until_it_may(secure: SecureKafka, topic: str) -> None:
    other = f"{topic}-other"
    source, sink = KafkaSource(secure.client("PLAIN"), partitions=1), RecordingSink()
    await source.start(sink, [topic, other], HOUR_MS)
    await eventually(lambda: sink.is_ready)
    permit(secure, ResourceType.TOPIC, topic, AclOperation.DESCRIBE, AclOperation.WRITE)
    await eventually(lambda: source.health().held)
    ((key, (_, reason)),) = source.health().held.items()
    assert key == (topic, 0)
    assert "authorization" in reason.lower()
    assert source.health().ok
    await append(source, record(topic, b"unread"), record(other, b"read"))
    await eventually(lambda: sink.values(other) == [b"read"])
    assert sink.values(topic) == []
    permit(secure, ResourceType.TOPIC, topic)
    await eventually(lambda: sink.values(topic) == [b"unread"])
    await eventually(lambda: not source.health().held)
    assert len(sink.partitions) == 2
    await source.stop()


async def test_a_topic_that_may_not_be_read_and_has_nothing_new_recovers_too(secure: SecureKafka, topic: str) -> None:
    source, sink = KafkaSource(secure.client("PLAIN")), RecordingSink()
    await source.start(sink, [topic], HOUR_MS)
    await eventually(lambda: sink.is_ready)
    permit(secure, ResourceType.TOPIC, topic, AclOperation.DESCRIBE)
    await eventually(lambda: source.health().held)
    await asyncio.sleep(12)  # it was asked for again, and refused again
    assert source.health().held
    permit(secure, ResourceType.TOPIC, topic)
    await eventually(lambda: not source.health().held)
    await source.stop()


async def test_a_missing_topic_that_may_not_be_made_is_waited_for(secure: SecureKafka) -> None:
    name = f"missing-{uuid.uuid4().hex[:12]}"
    permit(secure, ResourceType.BROKER, "kafka-cluster", AclOperation.DESCRIBE)
    permit(secure, ResourceType.TOPIC, name, AclOperation.DESCRIBE, AclOperation.READ, AclOperation.WRITE)
    source, sink = KafkaSource(secure.client("PLAIN")), RecordingSink()
    try:
        await source.start(sink, [name], HOUR_MS)
        await eventually(lambda: name in source.health().reason)
        assert "cannot be created" in source.health().reason
        assert not source.health().ok
        admin = AdminClient(secure.kafka.client)
        admin.create_topics([NewTopic(name, 1)])[name].result(15)
        await eventually(lambda: sink.is_ready)
        assert source.health().ok
        await append(source, record(name, b"x"))
        await eventually(lambda: sink.values(name) == [b"x"])
    finally:
        await source.stop()
        permit(secure, ResourceType.BROKER, "kafka-cluster")
