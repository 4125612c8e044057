"""The properties of the Ably Kafka Connector and of Kafka Connect that rules have no part for, and why.

Left aside is what is about things that do not exist here: a connection to a service, batches and threads for it, tasks,
a consumer group. Refused is what would change what subscribers are given.
"""

from typing import Final

__all__ = ["CLASSES", "IDLE", "IDLE_PREFIXES", "REFUSED", "REFUSED_PREFIXES"]

CLASSES: Final = ("com.ably.kafka.connect.ChannelSinkConnector", "ChannelSinkConnector")

_NO_SERVICE: Final = "records go to subscribers directly, there is no connection to a service"
_NO_BATCHES: Final = "messages leave at once, and together when they wait; --linger makes them wait"
_NO_TASKS: Final = "every node reads all partitions, in no group"

IDLE: Final = {
    "name": "a node has no name",
    "tasks.max": _NO_TASKS,
    "group.id": _NO_TASKS,
    "client.key": "reading needs no API key; those of subscribers are --key",
    "batchExecutionThreadPoolSize": _NO_BATCHES,
    "batchExecutionFlushTime": _NO_BATCHES,
    "batchExecutionMaxBufferSize": _NO_BATCHES,
    "batchExecutionMaxBufferSizeMs": _NO_BATCHES,
    "messagePayloadSizeMax": "what is in the log is delivered whatever its size",
    "header.converter": "headers are read as text",
    "errors.deadletterqueue.topic.replication.factor": "a missing topic is made with the broker's default",
    "errors.deadletterqueue.context.headers.enable": "the reason is always in the headers",
    "errors.log.enable": "what fails is counted by its cause",
    "errors.log.include.messages": "what records hold is never logged",
    "errors.retry.timeout": "a record that does not fit would not fit again",
    "errors.retry.delay.max.ms": "a record that does not fit would not fit again",
}
IDLE_PREFIXES: Final = {
    "client.": _NO_SERVICE,
    "consumer.override.": "settings of the Kafka client are --kafka-setting",
    "admin.override.": "settings of the Kafka client are --kafka-setting",
    "producer.override.": "settings of the Kafka client are --kafka-setting",
    "confluent.": "it is for the connector's own platform",
    "topic.creation.": "a sink creates no topics",
}

_NO_TRANSFORMS: Final = "fanout changes no records: transform them in the log, or let templates pick what is needed"

REFUSED: Final = {
    "transforms": _NO_TRANSFORMS,
    "predicates": _NO_TRANSFORMS,
    "client.channel.cipher.key": "fanout encrypts no payloads; what the log has encrypted passes as it is",
}
REFUSED_PREFIXES: Final = {"transforms.": _NO_TRANSFORMS, "predicates.": _NO_TRANSFORMS}
