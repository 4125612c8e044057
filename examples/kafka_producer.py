"""One record into the topic that fanout reads: any Kafka producer can write to people.

    .venv/bin/fanout serve --kafka localhost:9092
    .venv/bin/python examples/kafka_producer.py localhost:9092 chat:lobby 'hello from Kafka'

The key is the channel; the value is the message. Of its own topic fanout knows which partition a channel is in, by
Kafka's partitioner for Java, murmur2: other clients have to be told to use it.
"""

import sys

from confluent_kafka import Producer


def main(bootstrap: str, channel: str, text: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "partitioner": "murmur2_random"})
    producer.produce("fanout.messages", key=channel, value=text)
    producer.flush()


main(*sys.argv[1:])
