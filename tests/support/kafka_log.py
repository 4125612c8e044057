"""What else may happen to a topic of Kafka: other producers, transactions, retention, a topic made anew."""

import time
import uuid

from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from tests.support.broker import Kafka

__all__ = ["delete_until", "make_anew", "transactional", "write"]


def write(kafka: Kafka, topic: str, *values: str, partition: int = 0, key: bytes | None = None) -> None:
    producer = Producer({**kafka.client, "linger.ms": 0})
    for value in values:
        producer.produce(topic, value.encode(), key, partition)
        assert producer.flush(20) == 0  # each in a batch of its own


def transactional(kafka: Kafka) -> Producer:
    producer = Producer({**kafka.client, "transactional.id": uuid.uuid4().hex})
    producer.init_transactions(30)
    return producer


def make_anew(kafka: Kafka, topic: str, partitions: int) -> None:
    admin = AdminClient(kafka.client)
    admin.delete_topics([topic])[topic].result(15)
    deadline = time.monotonic() + 15
    while topic in admin.list_topics(timeout=5).topics:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    admin.create_topics([NewTopic(topic, partitions)])[topic].result(15)


def delete_until(kafka: Kafka, topic: str, offset: int) -> None:
    where = TopicPartition(topic, 0, offset)
    admin = AdminClient(kafka.client)  # a client that nobody holds takes its answers with it
    admin.delete_records([where])[where].result(15)
