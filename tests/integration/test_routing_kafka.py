"""Rules over a real Kafka and two nodes: topics that a pattern matches, bad records, and dead letters."""

import asyncio
from pathlib import Path

import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from fanout import Config, Server, Subscription
from tests.integration.test_server_kafka import read_all
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic

pytestmark = pytest.mark.kafka

BIG = 10 << 20
BAD = [(None, b'{"id":"a"}'), (b"\xff", b'{"id":"a"}'), (b"k", b"no json"), (b"k", b"\xff\xfe"), (b"k", b"{}")]


def place(letter: Message) -> int:
    """Where the record of a dead letter lay."""
    offset = dict(letter.headers() or ())["fanout.failed.offset"]
    assert isinstance(offset, bytes)
    return int(offset)


def produce(kafka: Kafka, topic: str, *records: tuple[bytes | None, bytes]) -> None:
    producer = Producer({**kafka.client, "message.max.bytes": 2 * BIG})
    for key, value in records:
        producer.produce(topic, value, key)
    assert producer.flush(30) == 0


async def heard(subscription: Subscription) -> str | bytes | None:
    async with asyncio.timeout(30):
        return (await anext(subscription)).data


async def test_bad_records_of_topics_that_a_pattern_matches_become_dead_letters_and_the_stream_goes_on(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    failed = kafka_topic()
    first = kafka_topic(max_message_bytes=str(2 * BIG))
    later = f"{first}-later"
    rules = tmp_path / "rules.toml"
    rules.write_text(
        f"[[route]]\ntopic = '{first}*'\nchannel = '#{{value.id}}:#{{key}}'\n"
        f"on_failure = 'dead-letter'\ndead_letter = '{failed}'\n"
    )
    await asyncio.to_thread(produce, kafka, first, *BAD)

    def config(name: str) -> Config:
        return Config(port=0, data=tmp_path / name, kafka=kafka.bootstrap, rules=rules)

    async with Server(config("1")) as first_node, Server(config("2")) as second_node:
        subscriptions = [server.subscribe("a:k") for server in (first_node, second_node)]
        async with asyncio.timeout(30):
            await asyncio.gather(first_node.ready(), second_node.ready())
        big = b'{"id":"a","x":"' + b"y" * BIG + b'"}'
        await asyncio.to_thread(produce, kafka, first, *BAD, (b"k", big))
        assert [await heard(subscription) for subscription in subscriptions] == [big.decode()] * 2
        admin = AdminClient(kafka.client)
        admin.create_topics([NewTopic(later, 1)])[later].result(15)
        await asyncio.to_thread(produce, kafka, later, (b"k", b'{"id":"a"}'))
        assert [await heard(subscription) for subscription in subscriptions] == ['{"id":"a"}'] * 2
        wanted = [(offset, *record) for offset, record in enumerate(BAD * 2)]
        async with asyncio.timeout(30):
            while len(letters := await asyncio.to_thread(read_all, kafka, failed)) < len(wanted):  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        told = [(place(letter), letter.key(), letter.value()) for letter in letters]
        assert sorted(set(told), key=lambda letter: letter[0]) == wanted
        assert len(told) < 2 * len(wanted), "one of the nodes wrote most of them"
        counts = {"failed_key": 4, "failed_value": 4, "failed_field": 2}
        for server in (first_node, second_node):
            assert {name: server.stats()[name] for name in counts} == counts
            assert server.health().ok


async def test_a_record_of_a_time_that_is_no_date_is_delivered_with_the_last_there_is(
    kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path
) -> None:
    topic = kafka_topic(message_timestamp_after_max_ms=str(2**63 - 1))
    producer = Producer(kafka.client)
    config = Config(port=0, data=tmp_path, kafka=kafka.bootstrap, route=(f"{topic}=#{{key}}",))
    async with Server(config) as server, asyncio.timeout(30):
        await server.ready()
        subscription = server.subscribe("c")
        for timestamp in (2**60, 1):
            producer.produce(topic, "then", "c", timestamp=timestamp)
        assert await asyncio.to_thread(producer.flush, 30) == 0
        assert [(await anext(subscription)).timestamp for _ in range(2)] == [8_640_000_000_000_000, 1]
