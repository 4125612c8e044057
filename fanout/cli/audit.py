"""`fanout audit`: proves on running nodes that nothing is lost, doubled or out of order."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from fanout.errors import ConfigError

if TYPE_CHECKING:
    from fanout.audit.log import Log

__all__ = ["audit"]


def audit(
    *,
    url: tuple[str, ...] = ("http://127.0.0.1:8080",),
    key: str,
    kafka: str | None = None,
    kafka_setting: tuple[str, ...] = (),
    data: Path | None = None,
    topic: tuple[str, ...] = ("fanout.messages",),
    channels: int = 20,
    subscribers: int = 100,
    attachments: int = 5,
    publishers: int = 5,
    transport: tuple[str, ...] = ("websocket",),
    mqtt_url: tuple[str, ...] = (),
    rate: float = 50.0,
    size: int = 100,
    seconds: float = 30.0,
    patience: float = 60.0,
) -> int:
    """Publishes numbered messages on channels of its own, subscribes to them, and compares with the log itself.

    Exits with 1 unless every acknowledged publish is in the log once, and every subscriber was given exactly the log's
    records in order or told of a gap. Break what you like meanwhile.

    Parameters
    ----------
    url
        Where a node listens. Repeatable: clients that lose one go to the next.
    key
        appId.keyId:secret, a key that may publish and subscribe to channels that begin with audit:.
    kafka
        The nodes' bootstrap servers, to read the log there.
    kafka_setting
        NAME=VALUE, a setting of the Kafka client, as for serve. Repeatable.
    data
        Directory of the node's embedded log, to read the log there.
    topic
        Topic that the nodes publish to. Repeatable, if publishing rules choose.
    channels
        Channels to publish to.
    subscribers
        Clients that only listen.
    attachments
        Channels of each of them.
    publishers
        Clients that publish, over WebSocket.
    transport
        What subscribers speak, websocket, sse or mqtt. Repeatable: they take turns.
    mqtt_url
        mqtt://HOST:PORT or mqtts://HOST:PORT, where a node speaks MQTT. Repeatable, like url.
    rate
        Messages a second, of all publishers together.
    size
        Bytes of a message.
    seconds
        How long to publish.
    patience
        How long to wait afterwards for answers, and for what is missing, in seconds.
    """
    import uvloop

    from fanout.audit.run import Plan, run
    from fanout.audit.transports import TRANSPORTS

    for name, value in {"channels": channels, "subscribers": subscribers, "publishers": publishers}.items():
        if value < 1:
            raise ConfigError(f"{name}: '{value}' is wrong; give at least 1")
    for name, amount in {"rate": rate, "attachments": attachments, "seconds": seconds, "patience": patience}.items():
        if not amount > 0:
            raise ConfigError(f"{name}: '{amount}' is wrong; give more than 0")
    for name in transport:
        if name not in TRANSPORTS:
            raise ConfigError(f"transport: '{name}' is wrong; give {' or '.join(TRANSPORTS)}")
    if ("mqtt" in transport) != bool(mqtt_url):
        raise ConfigError("give --transport mqtt and --mqtt-url together")
    if (kafka is None) == (data is None):
        raise ConfigError("give --kafka or --data, to read the log that the nodes use")
    plan = Plan(
        urls=url,
        key=key.partition("=")[0],
        channels=channels,
        subscribers=subscribers,
        attachments=attachments,
        publishers=publishers,
        rate=rate,
        size=size,
        transports=transport,
        mqtt_urls=mqtt_url,
    )
    opened = partial(_log, kafka, kafka_setting, data, topic)
    report = uvloop.run(run(plan, opened, topic, seconds, patience, lambda line: sys.stderr.write(f"{line}\n")))
    sys.stdout.write(f"{report}\n")
    return 0 if report.exact else 1


def _log(kafka: str | None, settings: tuple[str, ...], data: Path | None, topics: tuple[str, ...]) -> "Log":
    from fanout.audit.log import EmbeddedLog, KafkaLog
    from fanout.config import Config

    if kafka is not None:
        return KafkaLog(Config(kafka=kafka, kafka_setting=settings).kafka_settings, topics)
    assert data is not None
    if len(topics) != 1:
        raise ConfigError("topic: of an embedded log one can be read; give it once")
    return EmbeddedLog(data, topics[0])
