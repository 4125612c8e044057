"""Two nodes over one Kafka, and followers that are cut ten times under load, each time to the other node: whatever they
speak, the log is the judge."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from fanout.audit.log import KafkaLog
from fanout.audit.run import Audit, Plan
from tests.support.broker import Kafka
from tests.support.fixtures_kafka import NewKafkaTopic
from tests.support.node import KEY, free_port, node_process

pytestmark = pytest.mark.kafka

CUTS = 10
PATIENCE_S = 60


class Site(NamedTuple):
    """Where it all is."""

    topic: str
    urls: tuple[str, ...]
    mqtt_urls: tuple[str, ...]


@pytest.fixture
async def site(kafka: Kafka, kafka_topic: NewKafkaTopic, tmp_path: Path) -> AsyncIterator[Site]:
    """Two nodes that publish to one topic."""
    topic = kafka_topic(4)
    options = ("--kafka", kafka.bootstrap, "--publish-topic", topic, "--secret", "one secret for all nodes")
    async with AsyncExitStack() as stack:
        urls, mqtt_urls = [], []
        for name in "ab":
            (tmp_path / name).mkdir()
            port = free_port()
            node = node_process(tmp_path / name, *options, "--mqtt-port", str(port))
            urls.append((await stack.enter_async_context(node)).url)
            mqtt_urls.append(f"mqtt://127.0.0.1:{port}")
        yield Site(topic, tuple(urls), tuple(mqtt_urls))


async def everybody_is_served(audit: Audit, times: int) -> None:
    """Returns once each subscriber was let in for the so-manieth time, and given something since this was asked."""
    before = [subscriber.delivered for subscriber in audit.subscribers]
    async with asyncio.timeout(PATIENCE_S):
        for subscriber, had in zip(audit.subscribers, before, strict=True):
            while subscriber.client.connections < times or subscriber.delivered == had:  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.mark.timeout(240)
@pytest.mark.parametrize("transport", ["websocket", "sse", "mqtt"])
async def test_who_is_cut_ten_times_under_load_is_given_the_log(kafka: Kafka, site: Site, transport: str) -> None:
    """Over MQTT with QoS 1: what comes twice has DUP set, or is found to be doubled."""
    plan = Plan(
        urls=site.urls,
        mqtt_urls=site.mqtt_urls,
        key=KEY,
        channels=8,
        subscribers=30,
        attachments=4,
        publishers=4,
        rate=200,
        transports=(transport,),
    )
    log = await asyncio.to_thread(KafkaLog, kafka.client, (site.topic,))
    async with Audit(plan, log, (site.topic,)) as audit:
        stop = asyncio.Event()
        publishing = asyncio.create_task(audit.publish(stop))
        for cut in range(CUTS):
            await everybody_is_served(audit, cut + 1)
            for subscriber in audit.subscribers:
                subscriber.client.cut()
        await everybody_is_served(audit, CUTS + 1)
        stop.set()
        await publishing
        report = await audit.finish(PATIENCE_S)
    log.close()
    assert report.exact, str(report)
    assert (report.gaps, report.covered) == ({}, 0), str(report)
    assert report.clients.connections >= plan.subscribers * (CUTS + 1)
    assert report.delivered == report.records * plan.subscribers * plan.attachments // plan.channels
