"""One record into the topic that fanout reads: any Kafka producer can write to people.

    .venv/bin/fanout serve --kafka localhost:9092
    .venv/bin/python examples/kafka_producer.py localhost:9092 chat:lobby 'hello from Kafka'

The key is the channel; the value is the message. Nothing else is needed.
"""

import sys

from confluent_kafka import Producer


def main(bootstrap: str, channel: str, text: str) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    producer.produce("fanout.messages", key=channel, value=text)
    producer.flush()


main(*sys.argv[1:])
