"""Reads a Kafka topic as the node's source does, and throws the records away: what reading alone costs.

    python -m benchmarks.discard HOST:PORT TOPIC PARTITIONS COUNT

Answers with one line of JSON when COUNT records were read: how many after the first batch, and the wall and CPU time of
those. Its threads are the node's without the node: the client library's, and the interpreter that asks for batches.
"""

import argparse
import json
import time

from confluent_kafka import Consumer, TopicPartition

from fanout.sources.base import LIMITS
from fanout.sources.kafka import CLIENT, CONSUMER, FIXED, PROGRESS_S


def main() -> None:
    parser = argparse.ArgumentParser(description="Reads a Kafka topic and throws the records away.")
    parser.add_argument("bootstrap")
    parser.add_argument("topic")
    parser.add_argument("partitions", type=int)
    parser.add_argument("count", type=int)
    options = parser.parse_args()
    consumer = Consumer({**CLIENT, **CONSUMER, **FIXED, "bootstrap.servers": options.bootstrap})
    consumer.assign([TopicPartition(options.topic, partition, 0) for partition in range(options.partitions)])
    read, skipped = 0, 0
    while read < options.count:
        if consumer.poll(PROGRESS_S) is None:
            continue
        read += 1 + len(consumer.consume(LIMITS.read_batch - 1, 0))
        if not skipped:
            skipped, wall, cpu = read, time.perf_counter(), time.process_time()
    answer = {"records": read - skipped, "wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu}
    print(json.dumps(answer), flush=True)
    consumer.close()


if __name__ == "__main__":
    main()
